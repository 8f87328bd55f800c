package tlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/lodgehq/lodge"
)

const (
	tileHeight = 8 // C2SP tlog-tiles: 256 hashes a tile
	tileWidth  = 1 << tileHeight
	maxTile    = tileWidth * tlog.HashSize

	parallelFetches = 8
	cachedTiles     = 1024 // 8 MiB
)

// Fetcher reads files of a log's read side.
type Fetcher interface {
	// Fetch returns the file at path, relative to the log's prefix ("tile/0/000"). It
	// returns an error that wraps lodge.ErrNotFound where there is none, and limits the
	// size of what it reads. It is called concurrently.
	Fetch(ctx context.Context, path string) ([]byte, error)
}

// Tiles reads a log through its tiles (C2SP tlog-tiles). Every hash it returns was
// authenticated against the root of the checkpoint given; a tile that does not fit is an
// error of type [*TileError], never an answer. Full tiles that proved true are kept in memory. It is
// safe for concurrent use.
type Tiles struct {
	fetch Fetcher

	mu   sync.Mutex
	full map[string][]byte // by path
}

// NewTiles returns Tiles that reads through f.
func NewTiles(f Fetcher) *Tiles {
	return &Tiles{fetch: f, full: make(map[string][]byte)}
}

// TileError says that what was served for tiles does not belong to the tree: damaged, or of
// another tree. Where tiles vouch for each other only together, all of them are named.
type TileError struct {
	Paths []string
	Size  int64 // of the tree
}

func (e *TileError) Error() string {
	return fmt.Sprintf("%s: not of the tree of %d that the log signed", strings.Join(e.Paths, ", "), e.Size)
}

// Inclusion proves the leaf at index under cp.
func (t *Tiles) Inclusion(ctx context.Context, cp Checkpoint, index int64) (lodge.InclusionProof, error) {
	if index < 0 || index >= cp.Size {
		return lodge.InclusionProof{}, fmt.Errorf("leaf %d in a tree of %d: %w", index, cp.Size, lodge.ErrNotFound)
	}
	hashes, err := tlog.ProveRecord(cp.Size, index, t.reader(ctx, cp))
	if err != nil {
		return lodge.InclusionProof{}, fmt.Errorf("proving leaf %d: %w", index, err)
	}
	return lodge.InclusionProof{
		LogIndex:   index,
		TreeSize:   cp.Size,
		RootHash:   cp.Root,
		Hashes:     digests(hashes),
		Checkpoint: cp.Note,
	}, nil
}

// Leaves returns the leaf hashes of [from,to). The caller bounds the range: it is held in
// memory at once, with the tiles that it comes from.
func (t *Tiles) Leaves(ctx context.Context, cp Checkpoint, from, to int64) ([]lodge.Digest, error) {
	if from < 0 || from > to || to > cp.Size {
		return nil, fmt.Errorf("leaves [%d,%d) of a tree of %d: %w", from, to, cp.Size, lodge.ErrNotFound)
	}
	if from == to {
		return nil, nil
	}
	indexes := make([]int64, 0, to-from)
	for i := from; i < to; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	hashes, err := t.reader(ctx, cp).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("reading leaves [%d,%d): %w", from, to, err)
	}
	return digests(hashes), nil
}

// Consistency proves from the tiles under newer that its tree extends that of older; the error
// wraps [*ForkError] where it does not.
func (t *Tiles) Consistency(ctx context.Context, older, newer Checkpoint) error {
	if older.Size == 0 || older.Size >= newer.Size {
		return VerifyConsistency(older, newer, nil)
	}
	hashes, err := tlog.ProveTree(newer.Size, older.Size, t.reader(ctx, newer))
	if err != nil {
		return fmt.Errorf("proving consistency from %d to %d: %w", older.Size, newer.Size, err)
	}
	return VerifyConsistency(older, newer, digests(hashes))
}

func digests(hashes []tlog.Hash) []lodge.Digest {
	out := make([]lodge.Digest, len(hashes))
	for i, h := range hashes {
		out[i] = lodge.Digest(h)
	}
	return out
}

func (t *Tiles) reader(ctx context.Context, cp Checkpoint) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 { // ProveRecord in a tree of one leaf
			return nil, nil
		}
		r := &tileReader{Tiles: t, ctx: ctx}
		tree := tlog.Tree{N: cp.Size, Hash: tlog.Hash(cp.Root)}
		hashes, err := tlog.TileHashReader(tree, r).ReadHashes(indexes)
		if err != nil && r.data != nil { // all tiles came, so one of them was wrong
			return nil, &TileError{Paths: r.wrong(tree), Size: cp.Size}
		}
		return hashes, err
	})
}

// tileReader is one authenticated read. It implements tlog.TileReader.
type tileReader struct {
	*Tiles
	ctx context.Context

	tiles []tlog.Tile
	data  [][]byte
}

func (r *tileReader) Height() int { return tileHeight }

// ReadTiles fetches what is not in memory. The caller authenticates it.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	group, ctx := errgroup.WithContext(r.ctx)
	group.SetLimit(parallelFetches)
	for i, tile := range tiles {
		size := tile.W * tlog.HashSize
		if known := r.known(fullPath(tile)); known != nil {
			data[i] = known[:size]
			continue
		}
		group.Go(func() error {
			raw, err := r.fetchTile(ctx, tile)
			if err != nil {
				return err
			}
			data[i] = raw
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	r.tiles, r.data = tiles, data
	return data, nil
}

// fetchTile falls back from a partial tile to the full one: a log may delete the former once it
// has the latter (C2SP tlog-tiles, partial tiles).
func (r *tileReader) fetchTile(ctx context.Context, tile tlog.Tile) ([]byte, error) {
	path := fullPath(tile)
	raw, err := []byte(nil), lodge.ErrNotFound
	if tile.W < tileWidth {
		path = fmt.Sprintf("%s.p/%d", path, tile.W)
		raw, err = r.fetch.Fetch(ctx, path)
	}
	if errors.Is(err, lodge.ErrNotFound) {
		raw, err = r.fetch.Fetch(ctx, fullPath(tile))
		if err == nil && len(raw) == maxTile {
			raw = raw[:tile.W*tlog.HashSize]
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(raw) != tile.W*tlog.HashSize {
		return nil, fmt.Errorf("%s: %d bytes, want %d: %w", path, len(raw), tile.W*tlog.HashSize, lodge.ErrMalformed)
	}
	return raw, nil
}

// SaveTiles keeps full tiles, which are authentic and never change.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, tile := range tiles {
		if tile.W != tileWidth {
			continue
		}
		if len(r.full) >= cachedTiles {
			clear(r.full) // what is still in use comes back with the next read
		}
		r.full[fullPath(tile)] = data[i]
	}
}

func (t *Tiles) known(path string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full[path]
}

// wrong names the tiles that did not prove true: those that the root is made of, which it
// vouches for only together, or else those that contradict the tile above them.
func (r *tileReader) wrong(tree tlog.Tree) []string {
	type served struct {
		tile tlog.Tile
		data []byte
	}
	at := make(map[string]served)
	for i, tile := range r.tiles {
		at[fullPath(tile)] = served{tile, r.data[i]}
	}
	var edge []string
	root, err := tlog.TreeHash(tree.N, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			path := fullPath(tlog.TileForIndex(tileHeight, index))
			edge = append(edge, path)
			var err error
			if hashes[i], err = tlog.HashFromTile(at[path].tile, at[path].data, index); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	}))
	if err != nil || root != tree.Hash {
		slices.Sort(edge)
		return slices.Compact(edge)
	}
	var wrong []string
	for i, tile := range r.tiles {
		above := at[fullPath(tlog.Tile{H: tileHeight, L: tile.L + 1, N: tile.N / tileWidth, W: tileWidth})]
		slot := int(tile.N%tileWidth) * tlog.HashSize
		if tile.W == tileWidth && len(above.data) >= slot+tlog.HashSize &&
			tlog.Hash(above.data[slot:slot+tlog.HashSize]) != rootOf(r.data[i]) {
			wrong = append(wrong, fullPath(tile))
		}
	}
	return wrong
}

// fullPath returns the path of the full tile, "tile/0/x001/234": x/mod's form without the
// height, which C2SP tlog-tiles fixes.
func fullPath(tile tlog.Tile) string {
	tile.W = tileWidth
	return "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
}
