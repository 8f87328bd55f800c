package tlog

import (
	"context"
	"crypto"
	"errors"

	"github.com/lodgehq/lodge"
)

var errTODO = errors.New("not yet")

// Key verifies the checkpoints of one log.
type Key struct{ id, origin string }

// ParsePublicKey reads a PEM or DER SubjectPublicKeyInfo.
func ParsePublicKey(raw []byte) (crypto.PublicKey, error) { return nil, errTODO }

// NewV1Key returns the key of a Rekor v1 log; origin may be empty.
func NewV1Key(origin string, public crypto.PublicKey) (Key, error) { return Key{}, errTODO }

// NewV2Key returns the key of a Rekor v2 log (or any C2SP log) with that origin.
func NewV2Key(origin string, public crypto.PublicKey) (Key, error) { return Key{}, errTODO }

// LogID returns the log's id in hex.
func (k Key) LogID() string { return k.id }

// Origin returns the origin, "" where any is accepted (v1).
func (k Key) Origin() string { return k.origin }

// Public returns the log's public key.
func (k Key) Public() crypto.PublicKey { return nil }

// Open verifies a signed note.
func (k Key) Open(signed []byte) (Checkpoint, error) { return Checkpoint{}, errTODO }

// Checkpoint is a verified tree head.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   lodge.Digest
	Note   string
}

// LeafHash is RFC 6962's.
func LeafHash(body []byte) lodge.Digest { return lodge.Digest{} }

// VerifyInclusion verifies p for leaf.
func VerifyInclusion(leaf lodge.Digest, p lodge.InclusionProof) error { return errTODO }

// VerifyConsistency verifies that newer extends older.
func VerifyConsistency(older, newer Checkpoint, proof []lodge.Digest) error { return errTODO }

// Fetcher fetches a file of a log's read side.
type Fetcher interface {
	Fetch(ctx context.Context, path string) ([]byte, error)
}

// Tiles reads a tiled log.
type Tiles struct{}

// NewTiles returns Tiles over f.
func NewTiles(f Fetcher) *Tiles { return &Tiles{} }

// Inclusion proves the leaf at index.
func (t *Tiles) Inclusion(ctx context.Context, cp Checkpoint, index int64) (lodge.InclusionProof, error) {
	return lodge.InclusionProof{}, errTODO
}

// Leaves returns leaf hashes [from,to).
func (t *Tiles) Leaves(ctx context.Context, cp Checkpoint, from, to int64) ([]lodge.Digest, error) {
	return nil, errTODO
}

// Consistency proves that newer extends older.
func (t *Tiles) Consistency(ctx context.Context, older, newer Checkpoint) error { return errTODO }
