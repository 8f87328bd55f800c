package tlog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/lodgehq/lodge"
)

// MaxBundle bounds an entry bundle: 256 entries of 65,535 bytes, each with its length (C2SP
// tlog-tiles, "Log entries").
const MaxBundle = tileWidth * (2 + 1<<16)

const (
	streamAhead = 16                     // tiles that are read ahead of who takes them
	rereads     = 3                      // of a file that is missing or does not belong to the tree, before that is believed
	rereadPause = 200 * time.Millisecond // between them: a store may be slow to show what it has
)

// Leaf is a leaf of a log as it was read.
type Leaf struct {
	Index int64
	Hash  lodge.Digest // authenticated; zero where that failed
	Body  []byte       // whose hash Hash is; nil where it was not asked for, or Err is set
	Err   error        // that it is not what the tree has, or nowhere to be found
}

// Stream reads the leaves of [from,to) in the tree of cp in order, a tile's worth at a time,
// with their entries where bodies is set. Every hash is authenticated by cp, every entry by its
// hash. Leaves that are missing or do not prove true come with an error of their own; they
// were asked for several times by then. The sequence ends with an error, and can be begun
// again behind the last leaf, where the log does not answer or where the tiles above the
// leaves do not prove true.
//
// work is called with each span before it is yielded, for several spans at a time and in any
// order; it may be nil. Memory is bounded by the size of a few spans.
func (t *Tiles) Stream(ctx context.Context, cp Checkpoint, from, to int64, bodies bool, work func([]Leaf)) iter.Seq2[[]Leaf, error] {
	return func(yield func([]Leaf, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		s := &stream{Tiles: t, ctx: ctx, cp: cp, bodies: bodies, work: work, spans: make(chan chan span, streamAhead)}
		s.workers.Go(func() { s.produce(from, to) })
		defer s.workers.Wait()
		defer cancel()
		for next := range s.spans {
			got := <-next
			if !yield(got.leaves, got.err) || got.err != nil {
				return
			}
		}
	}
}

type stream struct {
	*Tiles
	ctx    context.Context
	cp     Checkpoint
	bodies bool
	work   func([]Leaf)

	spans   chan chan span // in order
	workers sync.WaitGroup
}

type span struct {
	leaves []Leaf
	err    error
}

// produce begins to read one span after the other, streamAhead at most before they are taken.
func (s *stream) produce(from, to int64) {
	defer close(s.spans)
	if from < 0 || from > to || to > s.cp.Size {
		s.begin(func() span {
			return span{err: fmt.Errorf("leaves [%d,%d) of a tree of %d: %w", from, to, s.cp.Size, lodge.ErrNotFound)}
		})
		return
	}
	for from < to {
		// The hashes of up to 256 full tiles stand in one tile above them.
		first, last := from/tileWidth, min(from/tileWidth/tileWidth*tileWidth+tileWidth, s.cp.Size/tileWidth)
		last = min(last, (to+tileWidth-1)/tileWidth)
		roots, err := s.tileRoots(first, last)
		if err != nil {
			s.begin(func() span { return span{err: err} })
			return
		}
		for n := first; from < to && (n < last || first >= last); n++ {
			at, end := from, min((n+1)*tileWidth, to)
			read := func() span { return s.partial(n, at, end) }
			if n < last {
				read = func() span { return s.full(n, roots[n-first], at, end) }
			}
			if !s.begin(read) {
				return
			}
			from = end
		}
	}
}

// tileRoots returns the authenticated roots of the full tiles [first,last).
func (s *stream) tileRoots(first, last int64) ([]tlog.Hash, error) {
	var indexes []int64
	for n := first; n < last; n++ {
		indexes = append(indexes, tlog.StoredHashIndex(tileHeight, n))
	}
	hashes, err := s.reader(s.ctx, s.cp).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("reading the hashes of tiles %d to %d: %w", first, last-1, err)
	}
	return hashes, nil
}

// begin lets read run beside others and tells whether there is to be more.
func (s *stream) begin(read func() span) bool {
	next := make(chan span, 1)
	select {
	case s.spans <- next:
	case <-s.ctx.Done():
		return false
	}
	s.workers.Go(func() {
		got := read()
		if got.err == nil && s.work != nil {
			s.work(got.leaves)
		}
		next <- got
	})
	return true
}

// full reads the leaves [from,to) of a full tile, whose root is known.
func (s *stream) full(n int64, root tlog.Hash, from, to int64) span {
	tile := tlog.Tile{H: tileHeight, N: n, W: tileWidth}
	var data []byte
	bad, err := s.again(func() (err error) {
		if data, err = (&tileReader{Tiles: s.Tiles}).fetchTile(s.ctx, tile); err == nil && rootOf(data) != root {
			err = &TileError{Paths: []string{fullPath(tile)}, Size: s.cp.Size}
		}
		return err
	})
	if err != nil {
		return span{err: err}
	}
	leaves := make([]Leaf, to-from)
	for i := range leaves {
		leaves[i].Index = from + int64(i)
		if leaves[i].Err = bad; bad == nil {
			at := (from + int64(i) - n*tileWidth) * tlog.HashSize
			copy(leaves[i].Hash[:], data[at:])
		}
	}
	return s.entries(n, leaves)
}

// partial reads leaves of the tile at the end of the tree, which proves true together with
// those above it.
func (s *stream) partial(n, from, to int64) span {
	hashes, err := s.Leaves(s.ctx, s.cp, from, to)
	if err != nil {
		return span{err: err}
	}
	leaves := make([]Leaf, len(hashes))
	for i, h := range hashes {
		leaves[i] = Leaf{Index: from + int64(i), Hash: h}
	}
	return s.entries(n, leaves)
}

// entries adds the bodies of leaves of tile n.
func (s *stream) entries(n int64, leaves []Leaf) span {
	if !s.bodies || len(leaves) == 0 || leaves[0].Err != nil {
		return span{leaves: leaves}
	}
	width := min(s.cp.Size-n*tileWidth, tileWidth)
	first := int(leaves[0].Index - n*tileWidth)
	bad, err := s.again(func() error {
		bodies, err := s.fetchBundle(n, width)
		if err != nil {
			return err
		}
		return match(leaves, bodies, first)
	})
	if err != nil {
		return span{err: err}
	}
	for i := range leaves {
		if bad != nil && leaves[i].Body == nil && leaves[i].Err == nil {
			leaves[i].Err = bad
		}
	}
	return span{leaves: leaves}
}

// match gives each leaf the body that its hash is of.
func match(leaves []Leaf, bodies [][]byte, first int) (failed error) {
	for i := range leaves {
		leaf := &leaves[i]
		switch {
		case first+i >= len(bodies):
			leaf.Err = fmt.Errorf("entry %d: its bundle is cut before it: %w", leaf.Index, lodge.ErrMalformed)
		case LeafHash(bodies[first+i]) != leaf.Hash:
			leaf.Err = fmt.Errorf("entry %d: its bytes are not those that the tree has: %w", leaf.Index, lodge.ErrMalformed)
		default:
			leaf.Body, leaf.Err = bodies[first+i], nil
			continue
		}
		failed = leaf.Err
	}
	return failed
}

// again calls read until it succeeds, a few times. bad is what a log that answers has wrong
// each time; err is that it does not answer.
func (s *stream) again(read func() error) (bad, err error) {
	for i := range rereads {
		if i > 0 {
			select {
			case <-time.After(rereadPause):
			case <-s.ctx.Done():
				return nil, s.ctx.Err()
			}
		}
		var tile *TileError
		bad = read()
		if bad == nil {
			return nil, nil
		}
		if !errors.As(bad, &tile) && !errors.Is(bad, lodge.ErrMalformed) && !errors.Is(bad, lodge.ErrNotFound) && !errors.Is(bad, lodge.ErrLimit) {
			return nil, bad
		}
	}
	return bad, nil
}

// fetchBundle reads the entries of tile n (C2SP tlog-tiles, "Log entries"), those in front
// of where it is cut.
func (s *stream) fetchBundle(n, width int64) ([][]byte, error) {
	full := strings.Replace(fullPath(tlog.Tile{H: tileHeight, N: n}), "tile/0/", "tile/entries/", 1)
	path := full
	if width < tileWidth {
		path = fmt.Sprintf("%s.p/%d", full, width)
	}
	data, err := s.fetch.Fetch(s.ctx, path)
	if errors.Is(err, lodge.ErrNotFound) && path != full {
		data, err = s.fetch.Fetch(s.ctx, full)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	bodies := make([][]byte, 0, width)
	for len(data) >= 2 && int64(len(bodies)) < width {
		size := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; size > len(data) {
			break
		}
		bodies, data = append(bodies, data[:size:size]), data[size:]
	}
	return bodies, nil
}

// rootOf returns the root over the hashes of a full tile.
func rootOf(tile []byte) tlog.Hash {
	const size = tlog.HashSize
	var level [maxTile]byte
	var node [1 + 2*size]byte
	node[0] = 1 // RFC 6962 section 2.1
	copy(level[:], tile)
	for width := len(tile) / size; width > 1; width /= 2 {
		for i := range width / 2 {
			copy(node[1:], level[2*i*size:(2*i+2)*size])
			sum := sha256.Sum256(node[:])
			copy(level[i*size:], sum[:])
		}
	}
	return tlog.Hash(level[:size])
}
