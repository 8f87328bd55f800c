package tlog

import (
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/lodgehq/lodge"
)

// MaxProof bounds the hashes of a proof: no tree of 2⁶³ leaves needs more, and a
// consistency proof at most one for each level on both sides.
const MaxProof = 128

// LeafHash returns the hash of a leaf, SHA-256(0x00 ‖ body) (RFC 6962 section 2.1).
func LeafHash(body []byte) lodge.Digest {
	return lodge.Digest(rfc6962.DefaultHasher.HashLeaf(body))
}

// VerifyInclusion verifies that p proves leaf under p.RootHash (RFC 6962 section 2.1.1). It
// says nothing about who vouches for that root: see [Key.Prove].
func VerifyInclusion(leaf lodge.Digest, p lodge.InclusionProof) error {
	if p.LogIndex < 0 || p.TreeSize < 0 || len(p.Hashes) > MaxProof {
		return fmt.Errorf("inclusion proof of leaf %d in a tree of %d with %d hashes: %w",
			p.LogIndex, p.TreeSize, len(p.Hashes), lodge.ErrMalformed)
	}
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.LogIndex), uint64(p.TreeSize),
		leaf[:], raw(p.Hashes), p.RootHash[:])
	if err != nil {
		return fmt.Errorf("the inclusion of leaf %d in the tree of %d does not hold", p.LogIndex, p.TreeSize)
	}
	return nil
}

// Prove verifies that p proves leaf under its own checkpoint, and that this log signed that
// checkpoint. It is all that makes a proof a receipt.
func (k Key) Prove(leaf lodge.Digest, p lodge.InclusionProof) (Checkpoint, error) {
	cp, err := k.Open([]byte(p.Checkpoint))
	if err != nil {
		return Checkpoint{}, err
	}
	if cp.Size != p.TreeSize || cp.Root != p.RootHash {
		return Checkpoint{}, fmt.Errorf("the inclusion proof is for the tree of %d with root %s, its checkpoint for that of %d with root %s",
			p.TreeSize, p.RootHash, cp.Size, cp.Root)
	}
	if err := VerifyInclusion(leaf, p); err != nil {
		return Checkpoint{}, err
	}
	return cp, nil
}

// VerifyConsistency verifies that the tree of newer extends that of older (RFC 6962 section
// 2.1.2). Every tree extends the empty one.
func VerifyConsistency(older, newer Checkpoint, hashes []lodge.Digest) error {
	if older.Size < 0 || older.Size > newer.Size || len(hashes) > MaxProof {
		return fmt.Errorf("consistency proof from size %d to %d with %d hashes: %w",
			older.Size, newer.Size, len(hashes), lodge.ErrMalformed)
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older.Size), uint64(newer.Size),
		raw(hashes), older.Root[:], newer.Root[:])
	if err != nil {
		return &ForkError{Older: older, Newer: newer}
	}
	return nil
}

// ForkError says that no tree of one log has both heads, as far as the proof at hand goes.
type ForkError struct{ Older, Newer Checkpoint }

func (e *ForkError) Error() string {
	return fmt.Sprintf("the tree of %d (root %s) is no beginning of the tree of %d (root %s)",
		e.Older.Size, e.Older.Root, e.Newer.Size, e.Newer.Root)
}

func raw(hashes []lodge.Digest) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}
