package rekor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

const (
	retrieveMost   = 10 // entries that Rekor v1 gives out at once
	retrieveBeside = 4  // requests for entries at a time
	entryTries     = 3  // before an entry counts as unreadable
)

// V1Reader reads a Rekor v1 log with its shards for whoever follows it. It sends nothing and is
// safe for concurrent use.
type V1Reader struct {
	o    Options
	v1   *V1
	conn conn

	mu     sync.Mutex
	offset map[string]int64           // by origin: entries in the shards before; guarded by mu
	proven map[string]tlog.Checkpoint // by note: those of which something is known, and what; guarded by mu
}

// NewV1Reader returns a reader of the log at o.URL. It connects to nothing.
func NewV1Reader(o Options) (*V1Reader, error) {
	v1, err := NewV1(o)
	if err != nil {
		return nil, err
	}
	return &V1Reader{o: o, v1: v1, conn: v1.conn, offset: map[string]int64{}}, nil
}

// URL returns where the log is read.
func (r *V1Reader) URL() string { return r.conn.base }

// Open verifies a checkpoint that came from elsewhere.
func (r *V1Reader) Open(note string) (tlog.Checkpoint, error) { return r.v1.open(note) }

// Heads fetches the newest checkpoint of every shard whose key was given: first of the one
// that is written to, then of the others. With again, caches on the way are passed by. Errors
// that are about the checkpoint and not about getting it are of type *HeadError.
func (r *V1Reader) Heads(ctx context.Context, again bool) ([]tlog.Checkpoint, error) {
	a := r.conn.get(ctx, fresh("/api/v1/log", again), maxAnswer)
	if a.Err != nil || a.Status != http.StatusOK {
		return nil, readError(a)
	}
	type shard struct {
		Head string `json:"signedTreeHead"`
		Size int64  `json:"treeSize"`
	}
	var said struct {
		shard
		Inactive []shard `json:"inactiveShards"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil {
		return nil, &HeadError{Note: a.Body, Err: fmt.Errorf("%w checkpoint: %w", lodge.ErrMalformed, err)}
	}
	active, err := r.v1.open(said.Head)
	if err != nil {
		return nil, &HeadError{Note: []byte(said.Head), Err: err}
	}
	heads := []tlog.Checkpoint{active}
	before := int64(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range said.Inactive {
		if head, err := r.v1.open(s.Head); err == nil && head.Origin != active.Origin {
			heads, r.offset[head.Origin] = append(heads, head), before
		}
		before += s.Size
	}
	r.offset[active.Origin] = before
	return heads, nil
}

// Extends proves by the log's own proof that the tree of newer begins with that of older. The
// error wraps *tlog.ForkError where that proof does not show it.
func (r *V1Reader) Extends(ctx context.Context, older, newer tlog.Checkpoint) error {
	if older.Size == 0 || older.Size >= newer.Size {
		return tlog.VerifyConsistency(older, newer, nil)
	}
	path := fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d", older.Size, newer.Size)
	if tree, ok := newer.TreeID(); ok {
		path += "&treeID=" + strconv.FormatInt(tree, 10)
	}
	a := r.conn.get(ctx, path, maxAnswer)
	if a.Err != nil || a.Status != http.StatusOK {
		return readError(a)
	}
	var said struct {
		Hashes []hexDigest `json:"hashes"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil {
		return lodge.Errorf(lodge.ClassRetry, "answer-unreadable", "consistency proof: %w", err)
	}
	hashes := make([]lodge.Digest, len(said.Hashes))
	for i, h := range said.Hashes {
		hashes[i] = lodge.Digest(h)
	}
	return tlog.VerifyConsistency(older, newer, hashes)
}

// Include returns the leaf at index, proven under a checkpoint of the same shard that the
// log has signed by now, with head's size at least.
func (r *V1Reader) Include(ctx context.Context, head tlog.Checkpoint, index int64) (Inclusion, error) {
	a := r.conn.get(ctx, fmt.Sprintf("/api/v1/log/entries?logIndex=%d", r.shift(head.Origin)+index), maxAnswer)
	if a.Err != nil || a.Status != http.StatusOK {
		return Inclusion{}, readError(a)
	}
	_, said, err := oneEntry(a.Body)
	if err != nil {
		return Inclusion{}, lodge.Errorf(lodge.ClassRetry, "answer-unreadable", "entry %d: %w", index, err)
	}
	return r.included(said, head, index)
}

func (r *V1Reader) shift(origin string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offset[origin]
}

// included verifies the inclusion proof of an entry.
func (r *V1Reader) included(said entryV1, head tlog.Checkpoint, index int64) (Inclusion, error) {
	key, ours := r.v1.key(said.LogID)
	p := said.Verification.Proof
	if !ours || p == nil || p.LogIndex != index {
		return Inclusion{}, fmt.Errorf("entry %d: %w: it comes without a proof of being that", index, lodge.ErrMalformed)
	}
	in := Inclusion{Leaf: tlog.LeafHash(said.Body)}
	in.Proof = lodge.InclusionProof{LogIndex: p.LogIndex, TreeSize: p.TreeSize, RootHash: lodge.Digest(p.RootHash), Checkpoint: p.Checkpoint}
	for _, h := range p.Hashes {
		in.Proof.Hashes = append(in.Proof.Hashes, lodge.Digest(h))
	}
	var err error
	if in.Under, err = key.Prove(in.Leaf, in.Proof); err != nil {
		return Inclusion{}, fmt.Errorf("entry %d: %w: its bytes are not those that the tree has: %w", index, lodge.ErrMalformed, err)
	}
	if in.Under.Origin != head.Origin {
		return Inclusion{}, fmt.Errorf("entry %d: %w: it is proven in the shard %.100q", index, lodge.ErrMalformed, in.Under.Origin)
	}
	return in, nil
}

// Read reads the leaves of [from,to) with their entries in order, as [tlog.Tiles.Stream] does. Each
// is proven in the tree of head, or in one that extends it.
func (r *V1Reader) Read(ctx context.Context, head tlog.Checkpoint, from, to int64, work func([]tlog.Leaf)) iter.Seq2[[]tlog.Leaf, error] {
	return func(yield func([]tlog.Leaf, error) bool) {
		for from < to {
			var spans [retrieveBeside][]tlog.Leaf
			group, ctx := errgroup.WithContext(ctx)
			for i := range spans {
				if from >= to {
					break
				}
				at, end := from, min(from+retrieveMost, to)
				from = end
				group.Go(func() (err error) {
					spans[i], err = r.span(ctx, head, at, end)
					if err == nil && work != nil {
						work(spans[i])
					}
					return err
				})
			}
			err := group.Wait()
			for _, leaves := range spans {
				if len(leaves) > 0 && err == nil && !yield(leaves, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// span reads a few leaves by one request, and by one each those that did not come.
func (r *V1Reader) span(ctx context.Context, head tlog.Checkpoint, from, to int64) ([]tlog.Leaf, error) {
	known, err := r.retrieve(ctx, head, from, to)
	if err != nil {
		return nil, err
	}
	leaves := make([]tlog.Leaf, to-from)
	for i := range leaves {
		index := from + int64(i)
		said, ok := known[index]
		if ok {
			if leaves[i], err = r.leaf(ctx, said, head, index); err != nil {
				return nil, err
			}
		}
		for tries := 0; tries < entryTries && (!ok || leaves[i].Err != nil); tries++ {
			if leaves[i], err = r.one(ctx, head, index); err != nil {
				return nil, err
			}
			ok = true
		}
	}
	return leaves, nil
}

// retrieve asks for several entries at once and returns those that came, by index in the shard.
func (r *V1Reader) retrieve(ctx context.Context, head tlog.Checkpoint, from, to int64) (map[int64]entryV1, error) {
	shift := r.shift(head.Origin)
	numbers := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		numbers = append(numbers, strconv.FormatInt(shift+i, 10))
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	a := r.conn.post(ctx, "/api/v1/log/entries/retrieve", []byte(`{"logIndexes":[`+strings.Join(numbers, ",")+`]}`))
	if a.Err != nil || a.Status >= http.StatusBadGateway || a.Status == http.StatusTooManyRequests {
		return nil, readError(a)
	}
	found := map[int64]entryV1{}
	var said []map[string]entryV1
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &said) != nil {
		return found, nil // one of them is the reason: each is asked for alone
	}
	for _, entries := range said {
		for _, e := range entries {
			if e.Verification.Proof != nil {
				found[e.Verification.Proof.LogIndex] = e
			}
		}
	}
	return found, nil
}

// one reads a single leaf.
func (r *V1Reader) one(ctx context.Context, head tlog.Checkpoint, index int64) (tlog.Leaf, error) {
	a := r.conn.get(ctx, fmt.Sprintf("/api/v1/log/entries?logIndex=%d", r.shift(head.Origin)+index), maxAnswer)
	switch {
	case a.Err != nil || a.Status > http.StatusInternalServerError || a.Status == http.StatusTooManyRequests:
		return tlog.Leaf{}, readError(a)
	case a.Status != http.StatusOK:
		return tlog.Leaf{Index: index, Err: fmt.Errorf("entry %d: HTTP %d: %s", index, a.Status, serverWords(a))}, nil
	}
	_, said, err := oneEntry(a.Body)
	if err != nil {
		return tlog.Leaf{Index: index, Err: fmt.Errorf("entry %d: %w", index, err)}, nil
	}
	return r.leaf(ctx, said, head, index)
}

// leaf verifies an entry: its inclusion, and that the checkpoint of that is of head's tree.
func (r *V1Reader) leaf(ctx context.Context, said entryV1, head tlog.Checkpoint, index int64) (tlog.Leaf, error) {
	in, err := r.included(said, head, index)
	if err != nil {
		return tlog.Leaf{Index: index, Err: err}, nil //nolint:nilerr // it is the leaf's
	}
	if err := r.agrees(ctx, head, in.Under); err != nil {
		return tlog.Leaf{}, err
	}
	return tlog.Leaf{Index: index, Hash: in.Leaf, Body: said.Body}, nil
}

// agrees proves, once for each checkpoint, that it is of the tree of head.
func (r *V1Reader) agrees(ctx context.Context, head, other tlog.Checkpoint) error {
	if other.Size == head.Size && other.Root == head.Root {
		return nil
	}
	r.mu.Lock()
	if known, ok := r.proven[other.Note]; ok && known == head {
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	older, newer := head, other
	if other.Size < head.Size {
		older, newer = other, head
	}
	if err := r.Extends(ctx, older, newer); err != nil {
		var fork *tlog.ForkError
		if errors.As(err, &fork) {
			fork.Older, fork.Newer = older, newer
		}
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.proven) > 100 || r.proven == nil {
		r.proven = map[string]tlog.Checkpoint{}
	}
	r.proven[other.Note] = head
	return nil
}
