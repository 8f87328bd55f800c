package tlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/lodgehq/lodge"
)

// DivergenceType is the mediaType of a [Divergence] in its JSON form.
const DivergenceType = "application/vnd.dev.lodge.divergence.v1+json"

// maxDivergence bounds the JSON form: two checkpoints and a proof.
const maxDivergence = 4*MaxCheckpoint + 64<<10

// Divergence is proof, for everybody who has the log's key, that the log signed two trees
// of which neither is the beginning of the other. Nothing else is needed to judge it.
//
// Two checkpoints of one size and different roots speak for themselves. Of different sizes,
// the proof shows the last leaf of the older tree as the newer one has it: LeafHash at index
// (older size − 1) with its audit path (RFC 6962 section 2.1.1). All hashes to the left of
// that leaf are on the path, so the path determines the root that the newer tree had at the
// older one's size; where that is not the root that was signed, no consistency proof can exist.
type Divergence struct {
	MediaType string         `json:"mediaType"`
	Older     string         `json:"older"` // signed note; of equal sizes, the one that was seen first
	Newer     string         `json:"newer"` // signed note
	LeafHash  lodge.Digest   `json:"leafHash,omitzero"`
	Hashes    []lodge.Digest `json:"hashes,omitempty"`
}

// Diverge returns the proof that older and newer, opened with the log's key, diverge. p is
// the inclusion of leaf at index older.Size-1 in the tree of newer; it is not used where
// both have the same size. The error wraps lodge.ErrNotFound where this proves nothing.
func Diverge(older, newer Checkpoint, leaf lodge.Digest, p lodge.InclusionProof) (Divergence, error) {
	d := Divergence{MediaType: DivergenceType, Older: older.Note, Newer: newer.Note}
	if older.Size != newer.Size {
		d.LeafHash, d.Hashes = leaf, p.Hashes
	}
	return d, d.contradicts(older, newer)
}

// ParseDivergence reads the JSON form and refuses what it does not know in full. It does
// not verify anything: see [Divergence.Check]. Errors wrap lodge.ErrMalformed or
// lodge.ErrLimit.
func ParseDivergence(raw []byte) (Divergence, error) {
	var d Divergence
	if len(raw) > maxDivergence {
		return d, fmt.Errorf("divergence of %d bytes: %w", len(raw), lodge.ErrLimit)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Divergence{}, fmt.Errorf("divergence: %w: %w", lodge.ErrMalformed, err)
	}
	if _, err := dec.Token(); d.MediaType != DivergenceType || !errors.Is(err, io.EOF) {
		return Divergence{}, fmt.Errorf("divergence: %w: of mediaType %.80q, want one %s", lodge.ErrMalformed, d.MediaType, DivergenceType)
	}
	return d, nil
}

// Check verifies that the log with that key signed both checkpoints and that they cannot both
// be true. It returns them. A nil error means that the log is proven to have diverged.
func (d Divergence) Check(key Key) (older, newer Checkpoint, err error) {
	if older, err = key.Open([]byte(d.Older)); err != nil {
		return older, newer, fmt.Errorf("the older of the two: %w", err)
	}
	if newer, err = key.Open([]byte(d.Newer)); err != nil {
		return older, newer, fmt.Errorf("the newer of the two: %w", err)
	}
	return older, newer, d.contradicts(older, newer)
}

var errNoContradiction = fmt.Errorf("%w: a contradiction", lodge.ErrNotFound)

// contradicts tells why the two, each verified, can both be true as far as d shows.
func (d Divergence) contradicts(older, newer Checkpoint) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: they are of two logs, %.100q and %.100q", errNoContradiction, older.Origin, newer.Origin)
	case older.Size > newer.Size:
		return fmt.Errorf("%w: the older one has %d leaves, the newer one %d", errNoContradiction, older.Size, newer.Size)
	case older.Size == newer.Size && older.Root == newer.Root:
		return fmt.Errorf("%w: they are the same tree", errNoContradiction)
	case older.Size == newer.Size:
		return nil
	case older.Size == 0:
		return fmt.Errorf("%w: every tree begins with the empty one", errNoContradiction)
	}
	then, now, err := rootsOf(older.Size, newer.Size, d.LeafHash, d.Hashes)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNoContradiction, err)
	case now != newer.Root:
		return fmt.Errorf("%w: the proof does not lead to the root of the newer one", errNoContradiction)
	case then == older.Root:
		return fmt.Errorf("%w: the newer one extends the older one", errNoContradiction)
	}
	return nil
}

// rootsOf computes from the audit path of leaf older-1 in a tree of size newer the root of
// that tree, and the root that it had when it had older leaves.
func rootsOf(older, newer int64, leaf lodge.Digest, path []lodge.Digest) (then, now lodge.Digest, err error) {
	if len(path) > MaxProof {
		return then, now, errors.New("the proof is too long")
	}
	index := uint64(older - 1)
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, uint64(newer), leaf[:], raw(path))
	if err != nil {
		return then, now, err
	}
	now = lodge.Digest(root)
	// The first hashes are siblings on both sides, up to where the ways to the last leaf and
	// to this one part; from there on all are to the left.
	inner := bits.Len64(index ^ uint64(newer-1))
	var left []lodge.Digest
	for level, h := range path {
		if level >= inner || index>>level&1 == 1 {
			left = append(left, h)
		}
	}
	if root, err = proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, uint64(older), leaf[:], raw(left)); err != nil {
		return then, now, err
	}
	return lodge.Digest(root), now, nil
}
