package logtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/tlog"
)

func newLog(t *testing.T, entries int) *logtest.Log {
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

// fetcher reads the read side through a client. It implements tlog.Fetcher.
type fetcher struct {
	client *http.Client
	base   string
}

func (f fetcher) Fetch(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/api/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d: %w", path, res.StatusCode, lodge.ErrNotFound)
	}
	return io.ReadAll(res.Body)
}

// TestReadSide reads a log in memory and behind a socket, with and without its partial tiles.
func TestReadSide(t *testing.T) {
	for _, size := range []int{1, 256, 700} {
		log := newLog(t, size)
		server := httptest.NewServer(log)
		defer server.Close()
		for _, f := range []fetcher{{log.Client(), logtest.URL}, {server.Client(), server.URL}} {
			raw, err := f.Fetch(t.Context(), "checkpoint")
			if err != nil {
				t.Fatal(err)
			}
			cp, err := log.Key().Open(raw)
			if err != nil || cp.Size != int64(size) {
				t.Fatalf("%+v, %v", cp, err)
			}
			log.Append([]byte("one more"))
			log.HidePartial(size == 700)
			leaves, err := tlog.NewTiles(f).Leaves(t.Context(), cp, 0, cp.Size)
			if err != nil || leaves[size-1] != tlog.LeafHash(fmt.Appendf(nil, "entry %d", size-1)) {
				t.Errorf("%d leaves, %v", len(leaves), err)
			}
			log.RollBack(int64(size))
		}
	}
}

func TestForkAndRollBack(t *testing.T) {
	log := newLog(t, 10)
	older, err := log.Key().Open([]byte(log.Checkpoint()))
	if err != nil {
		t.Fatal(err)
	}
	fork := log.Fork(9)
	fork.Append([]byte("x"), []byte("y"))
	newer, err := log.Key().Open([]byte(fork.Checkpoint()))
	if err != nil {
		t.Fatal(err)
	}
	if log.Size() != 10 || fork.Size() != 11 {
		t.Errorf("sizes %d and %d", log.Size(), fork.Size())
	}
	log.Replace(fork)
	var proof *tlog.ForkError
	if err := tlog.NewTiles(fetcher{log.Client(), logtest.URL}).Consistency(t.Context(), older, newer); !errors.As(err, &proof) {
		t.Errorf("got %v", err)
	}
	log.RollBack(3)
	if log.Size() != 3 || fork.Size() != 11 {
		t.Errorf("sizes %d and %d", log.Size(), fork.Size())
	}
}

func get(ctx context.Context, log *logtest.Log, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, logtest.URL+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := log.Client().Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 1)
		check := func(want int, cause error) {
			t.Helper()
			status, err := get(t.Context(), log, "/api/v2/checkpoint")
			if status != want || !errors.Is(err, cause) {
				t.Errorf("got %d, %v; want %d, %v", status, err, want, cause)
			}
		}
		log.Inject(logtest.Fault{Path: "checkpoint", Skip: 1, Count: 2, Status: 503})
		check(200, nil)
		check(503, nil)
		check(503, nil)
		check(200, nil)
		log.Inject(logtest.Fault{Path: "checkpoint", Refuse: true})
		check(0, syscall.ECONNREFUSED)
		log.Inject(logtest.Fault{Path: "checkpoint", Lose: true})
		check(0, io.ErrUnexpectedEOF)
		log.Inject(logtest.Fault{Path: "checkpoint", Stall: time.Hour})
		before := time.Now()
		check(200, nil)
		if time.Since(before) != time.Hour {
			t.Errorf("it took %s", time.Since(before))
		}
		log.Inject(logtest.Fault{Path: "checkpoint", Stall: time.Hour, Count: -1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := get(ctx, log, "/api/v2/checkpoint"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		log.Heal()
		check(200, nil)
		if n := log.Requests("GET /api/v2/checkpoint"); n != 9 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestRefuses sends what the real servers refuse.
func TestRefuses(t *testing.T) {
	v2 := newLog(t, 0)
	v1, err := logtest.NewV1("rekor.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		log        *logtest.Log
		path, body string
		want       int
	}{
		{v2, "/api/v2/log/entries", "{", 400},
		{v2, "/api/v2/log/entries", `{"dsseRequestV002":{}}`, 400},
		{v2, "/api/v2/log/entries", `{"hashedRekordRequestV002":{"digest":"AAAA"}}`, 400},
		{v2, "/api/v2/log/entries", strings.Repeat(" ", 5<<20), 400},
		{v2, "/api/v1/log/entries", "{}", 404},
		{v1, "/api/v1/log/entries", "{", 500}, // sic
		{v1, "/api/v1/log/entries", `{"apiVersion":"0.0.1","kind":"rpm","spec":{}}`, 400},
		{v1, "/api/v1/log/entries", `{"apiVersion":"0.0.1","kind":"dsse","spec":{"proposedContent":{"envelope":"{}","verifiers":["AAAA"]}}}`, 400},
		{v1, "/api/v2/log/entries", "{}", 404},
	} {
		res, err := c.log.Client().Post(logtest.URL+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != c.want {
			t.Errorf("%.60s to %s: %d, want %d", c.body, c.path, res.StatusCode, c.want)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if v1.Size() != 0 || v2.Size() != 0 {
		t.Error("something was taken")
	}
}

func TestV1Consistency(t *testing.T) {
	log, err := logtest.NewV1("rekor.test")
	if err != nil {
		t.Fatal(err)
	}
	head := func(n int) tlog.Checkpoint {
		for i := log.Size(); i < int64(n); i++ {
			log.Append(fmt.Append(nil, i))
		}
		res, err := log.Client().Get(logtest.URL + "/api/v1/log")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var info struct {
			SignedTreeHead string
			TreeSize       int64
		}
		if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
			t.Fatal(err)
		}
		cp, err := log.Key().Open([]byte(info.SignedTreeHead))
		if err != nil || cp.Size != info.TreeSize {
			t.Fatalf("%+v, %v", info, err)
		}
		return cp
	}
	older, newer := head(3), head(8)
	res, err := log.Client().Get(logtest.URL + "/api/v1/log/proof?firstSize=3&lastSize=8")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Hashes []string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	var proof []lodge.Digest
	for _, h := range answer.Hashes {
		d, err := lodge.ParseDigest("sha256:" + h)
		if err != nil {
			t.Fatal(err)
		}
		proof = append(proof, d)
	}
	if err := tlog.VerifyConsistency(older, newer, proof); err != nil {
		t.Error(err)
	}
}

func TestOtherHost(t *testing.T) {
	log := newLog(t, 0)
	elsewhere := fetcher{log.Client(), "http://elsewhere.test"}
	if _, err := elsewhere.Fetch(t.Context(), "checkpoint"); err == nil {
		t.Error("another host answers")
	}
	if !bytes.Contains(log.PublicPEM(), []byte("PUBLIC KEY")) {
		t.Errorf("%s", log.PublicPEM())
	}
}
