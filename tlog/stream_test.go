package tlog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/tlog"
)

// fetcher reads a log of logtest. It implements tlog.Fetcher.
type fetcher struct{ log *logtest.Log }

func (f fetcher) Fetch(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, logtest.URL+"/api/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := f.log.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusOK:
		return io.ReadAll(res.Body)
	case http.StatusNotFound:
		return nil, lodge.ErrNotFound
	}
	return nil, errors.New(res.Status)
}

func streamed(t *testing.T, entries int) *logtest.Log {
	t.Helper()
	log, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		log.Append(fmt.Appendf(nil, "entry %d", i))
	}
	return log
}

// collect reads [from,to) and checks that nothing is left out and nothing is wrong that has no error.
func collect(t *testing.T, log *logtest.Log, from, to int64) (bad []int64, err error) {
	t.Helper()
	var worked atomic.Int64
	next := from
	for leaves, failed := range tlog.NewTiles(fetcher{log}).Stream(t.Context(), opened(t, log), from, to, true,
		func(leaves []tlog.Leaf) { worked.Add(int64(len(leaves))) }) {
		if failed != nil {
			return bad, failed
		}
		for _, leaf := range leaves {
			if leaf.Index != next {
				t.Fatalf("leaf %d comes where %d should", leaf.Index, next)
			}
			next++
			if leaf.Err != nil {
				if leaf.Body != nil {
					t.Errorf("leaf %d has an error and a body", leaf.Index)
				}
				bad = append(bad, leaf.Index)
			} else if string(leaf.Body) != fmt.Sprintf("entry %d", leaf.Index) || leaf.Hash != tlog.LeafHash(leaf.Body) {
				t.Errorf("leaf %d is %q", leaf.Index, leaf.Body)
			}
		}
	}
	if next != to || worked.Load() != to-from {
		t.Errorf("leaves up to %d and %d worked on, want up to %d", next, worked.Load(), to)
	}
	return bad, nil
}

func TestStream(t *testing.T) {
	for _, size := range []int64{0, 1, 255, 256, 257, 1000, 70_000} {
		log := streamed(t, int(size))
		for _, r := range [][2]int64{{0, size}, {size / 3, size}, {size / 3, size * 2 / 3}, {size, size}} {
			for _, hide := range []bool{false, true} {
				log.HidePartial(hide)
				if bad, err := collect(t, log, r[0], r[1]); len(bad) > 0 || err != nil {
					t.Errorf("%d of %d: %v, %v", r, size, bad, err)
				}
			}
		}
		for _, err := range tlog.NewTiles(fetcher{log}).Stream(t.Context(), opened(t, log), 0, size+1, true, nil) {
			if !errors.Is(err, lodge.ErrNotFound) {
				t.Errorf("leaves beyond %d: %v", size, err)
			}
		}
	}
}

// TestStreamDamage damages what a log serves: what does not prove true is named, by its
// index, and nothing else.
func TestStreamDamage(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	// entryAt returns where entry i of the second bundle begins.
	entryAt := func(i int) (at int) {
		for n := range i {
			at += 2 + len(fmt.Sprint("entry ", 256+n))
		}
		return at
	}
	for name, c := range map[string]struct {
		path       string
		tamper     func([]byte) []byte
		status     int
		first, bad int64 // of the leaves that are bad; 0: the stream ends
	}{
		"an entry's bytes":   {"tile/entries/001", flip(entryAt(7) + 4), 0, 256 + 7, 1},
		"a bundle cut":       {"tile/entries/001", cut, 0, 256 + 128, 128},
		"a bundle missing":   {"tile/entries/001", nil, 404, 256, 256},
		"a length":           {"tile/entries/001", func(b []byte) []byte { binary.BigEndian.PutUint16(b[entryAt(255):], 99); return b }, 0, 511, 1},
		"a hash tile":        {"tile/0/001", flip(100), 0, 256, 256},
		"a hash tile cut":    {"tile/0/001", cut, 0, 256, 256},
		"a hash tile lost":   {"tile/0/001", nil, 404, 256, 256},
		"a tile above":       {"tile/1/000", flip(40), 0, 0, 0},
		"a tile above lost":  {"tile/1/000", nil, 404, 0, 0},
		"the log in trouble": {"tile/0/001", nil, 503, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := streamed(t, 1000)
				log.Inject(logtest.Fault{Path: c.path, Count: -1, Status: c.status, Tamper: c.tamper})
				bad, err := collect(t, log, 0, 1000)
				if (err != nil) != (c.bad == 0) {
					t.Fatalf("%v", err)
				}
				if c.bad > 0 && (int64(len(bad)) != c.bad || bad[0] != c.first || bad[c.bad-1] != c.first+c.bad-1) {
					t.Errorf("%d bad leaves %v, want %d from %d on", len(bad), bad, c.bad, c.first)
				}
				log.Heal()
				log.Inject(logtest.Fault{Path: c.path, Count: 2, Status: c.status, Tamper: c.tamper})
				if bad, err := collect(t, log, 0, 1000); c.bad > 0 && (len(bad) > 0 || err != nil) {
					t.Errorf("damage that is gone when it is read again: %v, %v", bad, err)
				}
			})
		})
	}
}

// TestStreamEnds leaves a stream in the middle: nothing goes on behind it.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := streamed(t, 20_000)
		for leaves, err := range tlog.NewTiles(fetcher{log}).Stream(t.Context(), opened(t, log), 0, 20_000, true, nil) {
			if len(leaves) == 0 || err != nil {
				t.Fatal(err)
			}
			break
		}
		if n := log.Requests("tile/entries"); n > 40 {
			t.Errorf("%d bundles were read for one", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, err := range tlog.NewTiles(fetcher{log}).Stream(ctx, opened(t, log), 0, 20_000, true, nil) {
			cancel()
			if err != nil && !strings.Contains(err.Error(), "cancel") {
				t.Error(err)
			}
		}
	})
}
