package tlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// tree is a log in memory that serves tiles. It implements tlog.Fetcher.
type tree struct {
	hashes []merkle.Hash
	size   int64

	mu      sync.Mutex
	fetched []string
	damage  map[string][]byte // served in place of a tile; nil: missing
}

func newTree(size int64) *tree {
	t := &tree{size: size, damage: map[string][]byte{}}
	for i := range size {
		hashes, err := merkle.StoredHashes(i, fmt.Appendf(nil, "leaf %d", i), t)
		if err != nil {
			panic(err)
		}
		t.hashes = append(t.hashes, hashes...)
	}
	return t
}

func (t *tree) ReadHashes(indexes []int64) ([]merkle.Hash, error) {
	var hashes []merkle.Hash
	for _, i := range indexes {
		hashes = append(hashes, t.hashes[i])
	}
	return hashes, nil
}

func (t *tree) head(size int64) tlog.Checkpoint {
	root, err := merkle.TreeHash(size, t)
	if err != nil {
		panic(err)
	}
	return tlog.Checkpoint{Origin: "log.test", Size: size, Root: lodge.Digest(root), Note: "signed"}
}

func (t *tree) Fetch(_ context.Context, path string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fetched = append(t.fetched, path)
	if data, ok := t.damage[path]; ok {
		if data == nil {
			return nil, lodge.ErrNotFound
		}
		return data, nil
	}
	tile, err := merkle.ParseTilePath("tile/8/" + strings.TrimPrefix(path, "tile/"))
	if err != nil {
		return nil, err
	}
	if t.size>>(8*tile.L) < tile.N<<8+int64(tile.W) {
		return nil, lodge.ErrNotFound
	}
	return merkle.ReadTileData(tile, t)
}

func leafHash(i int64) lodge.Digest { return tlog.LeafHash(fmt.Appendf(nil, "leaf %d", i)) }

func TestInclusionAndLeaves(t *testing.T) {
	log := newTree(70_000) // three levels of tiles
	for _, size := range []int64{1, 2, 255, 256, 257, 600, 65_536, 65_537, 70_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			tiles, head := tlog.NewTiles(log), log.head(size)
			for _, index := range []int64{0, size / 2, size - 1} {
				proof, err := tiles.Inclusion(t.Context(), head, index)
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.VerifyInclusion(leafHash(index), proof); err != nil {
					t.Errorf("leaf %d: %v", index, err)
				}
				if err := tlog.VerifyInclusion(leafHash(index+1), proof); err == nil {
					t.Errorf("leaf %d: another leaf was proven", index)
				}
			}
			from := max(0, size-300)
			leaves, err := tiles.Leaves(t.Context(), head, from, size)
			if err != nil {
				t.Fatal(err)
			}
			var want []lodge.Digest
			for i := from; i < size; i++ {
				want = append(want, leafHash(i))
			}
			if diff := cmp.Diff(want, leaves); diff != "" {
				t.Error(diff)
			}
			if _, err := tiles.Inclusion(t.Context(), head, size); !errors.Is(err, lodge.ErrNotFound) {
				t.Errorf("a leaf after the end: %v", err)
			}
			if _, err := tiles.Leaves(t.Context(), head, 0, size+1); !errors.Is(err, lodge.ErrNotFound) {
				t.Errorf("leaves after the end: %v", err)
			}
		})
	}
}

func TestConsistency(t *testing.T) {
	log, fork := newTree(700), newTree(300)
	tiles := tlog.NewTiles(log)
	empty := tlog.Checkpoint{Root: lodge.DigestOf(nil)}
	for _, c := range []struct{ older, newer int64 }{{1, 700}, {256, 512}, {300, 301}, {700, 700}, {699, 700}} {
		if err := tiles.Consistency(t.Context(), log.head(c.older), log.head(c.newer)); err != nil {
			t.Errorf("%d to %d: %v", c.older, c.newer, err)
		}
	}
	if err := tiles.Consistency(t.Context(), empty, log.head(700)); err != nil {
		t.Errorf("from the empty tree: %v", err)
	}
	other := fork.head(300)
	other.Root[0] ^= 1
	for _, newer := range []int64{300, 700} {
		var fork *tlog.ForkError
		if err := tiles.Consistency(t.Context(), other, log.head(newer)); !errors.As(err, &fork) || fork.Older != other || fork.Newer.Size != newer {
			t.Errorf("a fork at 300, seen from %d: %v", newer, err)
		}
	}
	if err := tiles.Consistency(t.Context(), log.head(700), log.head(300)); !errors.Is(err, lodge.ErrMalformed) {
		t.Errorf("a shrinking tree: %v", err)
	}
}

func TestPartialTileFallsBack(t *testing.T) {
	log := newTree(600)
	log.damage["tile/0/001.p/44"] = nil
	proof, err := tlog.NewTiles(log).Inclusion(t.Context(), log.head(300), 290)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.VerifyInclusion(leafHash(290), proof); err != nil {
		t.Error(err)
	}
	log.damage["tile/0/001"] = nil
	if _, err := tlog.NewTiles(log).Inclusion(t.Context(), log.head(300), 290); !errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("neither tile there: %v", err)
	}
}

func TestBadTileIsNamed(t *testing.T) {
	for _, c := range []struct {
		path  string
		named []string
	}{
		{"tile/0/000", []string{"tile/0/000"}},
		{"tile/0/001", []string{"tile/0/001"}},
		{"tile/0/002.p/88", []string{"tile/0/002", "tile/1/000"}},
		{"tile/1/000.p/2", []string{"tile/0/002", "tile/1/000"}},
	} {
		log := newTree(600)
		good, err := log.Fetch(t.Context(), c.path)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bad[40] ^= 1
		log.damage[c.path] = bad
		leaves, err := tlog.NewTiles(log).Leaves(t.Context(), log.head(600), 0, 600)
		var wrong *tlog.TileError
		if !errors.As(err, &wrong) || leaves != nil {
			t.Errorf("%s: got %d leaves and error %v", c.path, len(leaves), err)
			continue
		}
		if diff := cmp.Diff(c.named, wrong.Paths); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
		log.damage[c.path] = good[:len(good)-1]
		if _, err := tlog.NewTiles(log).Leaves(t.Context(), log.head(600), 0, 600); !errors.Is(err, lodge.ErrMalformed) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s cut short: %v", c.path, err)
		}
	}
}

func TestFullTilesAreKept(t *testing.T) {
	log := newTree(600)
	tiles := tlog.NewTiles(log)
	if _, err := tiles.Leaves(t.Context(), log.head(513), 0, 512); err != nil {
		t.Fatal(err)
	}
	log.fetched = nil
	if _, err := tiles.Leaves(t.Context(), log.head(600), 0, 600); err != nil {
		t.Fatal(err)
	}
	slices.Sort(log.fetched)
	if diff := cmp.Diff([]string{"tile/0/002.p/88", "tile/1/000.p/2"}, log.fetched); diff != "" {
		t.Error(diff)
	}
}

func TestVerifyInclusionRefuses(t *testing.T) {
	for name, p := range map[string]lodge.InclusionProof{
		"negative index": {LogIndex: -1, TreeSize: 1},
		"negative size":  {TreeSize: -1},
		"huge":           {LogIndex: math.MaxInt64 - 1, TreeSize: math.MaxInt64, Hashes: make([]lodge.Digest, tlog.MaxProof+1)},
		"empty":          {},
	} {
		if err := tlog.VerifyInclusion(lodge.Digest{}, p); err == nil {
			t.Errorf("%s: holds", name)
		}
	}
}
