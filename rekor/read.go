package rekor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// Inclusion is a leaf, proven under a checkpoint that the log has signed.
type Inclusion struct {
	Leaf  lodge.Digest
	Proof lodge.InclusionProof
	Under tlog.Checkpoint
}

// V2Reader reads one shard of a Rekor v2 log for whoever follows it. It sends nothing and is
// safe for concurrent use. What it returns is authenticated by the checkpoint that it is given.
type V2Reader struct {
	key   tlog.Key
	read  follower
	tiles atomic.Pointer[tlog.Tiles]
}

// NewV2Reader returns a reader of the shard at o.ReadURL, or o.URL/api/v2. It connects to nothing.
func NewV2Reader(o Options) (*V2Reader, error) {
	if len(o.Keys) != 1 {
		return nil, errors.New("a shard of a Rekor v2 log has one key")
	}
	if o.ReadURL == "" {
		o.ReadURL = strings.TrimRight(o.URL, "/") + "/api/v2"
	}
	c, err := newConn(o.HTTP, o.ReadURL)
	if err != nil {
		return nil, err
	}
	r := &V2Reader{key: o.Keys[0], read: follower{reader{c}}}
	r.tiles.Store(tlog.NewTiles(r.read))
	return r, nil
}

// URL returns where the log is read.
func (r *V2Reader) URL() string { return r.read.base }

// Open verifies a checkpoint that came from elsewhere.
func (r *V2Reader) Open(note string) (tlog.Checkpoint, error) { return r.key.Open([]byte(note)) }

// Heads fetches the newest checkpoint. With again, caches on the way are passed by. Errors that
// are about the checkpoint and not about getting it are of type *HeadError.
func (r *V2Reader) Heads(ctx context.Context, again bool) ([]tlog.Checkpoint, error) {
	raw, err := r.read.Fetch(ctx, fresh("checkpoint", again))
	if errors.Is(err, lodge.ErrNotFound) {
		return nil, r.read.elsewhere(http.StatusNotFound)
	}
	if err != nil {
		return nil, err
	}
	head, err := r.key.Open(raw)
	if err != nil {
		return nil, &HeadError{Note: raw, Err: err}
	}
	return []tlog.Checkpoint{head}, nil
}

// HeadError says that what was served as a checkpoint is none of the log's.
type HeadError struct {
	Note []byte
	Err  error
}

func (e *HeadError) Error() string { return e.Err.Error() }
func (e *HeadError) Unwrap() error { return e.Err }

// fresh makes path one that no cache has.
func fresh(path string, again bool) string {
	if again {
		return fmt.Sprintf("%s?at=%d", path, time.Now().UnixNano())
	}
	return path
}

// Extends proves that the tree of newer begins with that of older. The error wraps
// *tlog.ForkError where it does not.
func (r *V2Reader) Extends(ctx context.Context, older, newer tlog.Checkpoint) error {
	return r.uncached(func(t *tlog.Tiles) error { return t.Consistency(ctx, older, newer) })
}

// Include proves the leaf at index under head.
func (r *V2Reader) Include(ctx context.Context, head tlog.Checkpoint, index int64) (Inclusion, error) {
	in := Inclusion{Under: head}
	err := r.uncached(func(t *tlog.Tiles) error {
		leaves, err := t.Leaves(ctx, head, index, index+1)
		if err != nil {
			return err
		}
		in.Leaf = leaves[0]
		in.Proof, err = t.Inclusion(ctx, head, index)
		return err
	})
	return in, err
}

// uncached reads once more without what is in memory where that does not fit: it may be of
// a tree that the log does not have any more.
func (r *V2Reader) uncached(read func(*tlog.Tiles) error) error {
	err := read(r.tiles.Load())
	var wrong *tlog.TileError
	if !errors.As(err, &wrong) {
		return err
	}
	r.tiles.Store(tlog.NewTiles(r.read))
	return read(r.tiles.Load())
}

// Read reads leaves with their entries: see [tlog.Tiles.Stream].
func (r *V2Reader) Read(ctx context.Context, head tlog.Checkpoint, from, to int64, work func([]tlog.Leaf)) iter.Seq2[[]tlog.Leaf, error] {
	return func(yield func([]tlog.Leaf, error) bool) {
		for leaves, err := range r.tiles.Load().Stream(ctx, head, from, to, true, work) {
			var wrong *tlog.TileError
			if errors.As(err, &wrong) {
				r.tiles.Store(tlog.NewTiles(r.read))
			}
			if !yield(leaves, err) {
				return
			}
		}
	}
}

// follower is reader for somebody who reads entries too.
type follower struct{ reader }

// Fetch implements tlog.Fetcher.
func (f follower) Fetch(ctx context.Context, path string) ([]byte, error) {
	if !strings.HasPrefix(path, "tile/entries/") {
		return f.reader.Fetch(ctx, path)
	}
	a := f.get(ctx, "/"+path, tlog.MaxBundle)
	switch {
	case a.Err == nil && a.Status == http.StatusNotFound:
		return nil, lodge.Errorf(lodge.ClassRetry, "file-missing", "%s/%s: %w", f.base, path, lodge.ErrNotFound)
	case a.Err != nil || a.Status != http.StatusOK:
		return nil, readError(a)
	}
	return a.Body, nil
}
