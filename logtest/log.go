package logtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
	"time"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// Log is a transparency log in memory. Its methods are safe for concurrent use.
type Log struct {
	version int
	origin  string // v1: the host part alone
	treeID  int64  // v1
	signer  crypto.Signer
	key     tlog.Key

	mu          sync.Mutex
	tree        tree
	pending     []pending
	faults      []*Fault
	requests    []string
	hidePartial bool
}

// tree is the log's content. Copies share what they have in common; it is only appended to.
type tree struct {
	hashes []merkle.Hash // in the order of merkle.StoredHashIndex
	leaves []leaf
	seen   map[lodge.Digest]int64 // what deduplication knows
}

type leaf struct {
	body []byte
	hash lodge.Digest
	at   int64 // seconds since 1970
}

// pending is an accepted entry that is not in the tree yet.
type pending struct {
	body []byte
	due  time.Time
}

// NewV2 returns an empty Rekor v2 log with that origin and a new Ed25519 key.
func NewV2(origin string) (*Log, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := tlog.NewV2Key(origin, public)
	if err != nil {
		return nil, err
	}
	return &Log{version: 2, origin: origin, signer: private, key: key, tree: tree{seen: map[lodge.Digest]int64{}}}, nil
}

// NewV1 returns an empty Rekor v1 log with a new key on P-256, whose checkpoints have the origin
// "host - treeID".
func NewV1(host string) (*Log, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	const treeID = 1193050959916656506
	key, err := tlog.NewV1Key(fmt.Sprintf("%s - %d", host, treeID), private.Public())
	if err != nil {
		return nil, err
	}
	return &Log{version: 1, origin: host, treeID: treeID, signer: private, key: key, tree: tree{seen: map[lodge.Digest]int64{}}}, nil
}

// Key returns the key that verifies the log.
func (l *Log) Key() tlog.Key { return l.key }

// PublicPEM returns the log's public key.
func (l *Log) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(l.signer.Public())
	if err != nil {
		panic(err) // a key of our own making
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Size returns the number of entries in the tree.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	return l.tree.size()
}

// Bodies returns the entries' canonical bodies in order.
func (l *Log) Bodies() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	var bodies [][]byte
	for _, leaf := range l.tree.leaves {
		bodies = append(bodies, leaf.body)
	}
	return bodies
}

// Count returns how many entries have that leaf hash.
func (l *Log) Count(hash lodge.Digest) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	n := 0
	for _, leaf := range l.tree.leaves {
		if leaf.hash == hash {
			n++
		}
	}
	return n
}

// Append adds entries as somebody else would, unchecked.
func (l *Log) Append(bodies ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, body := range bodies {
		l.tree.add(body)
	}
}

// Checkpoint returns the newest signed checkpoint.
func (l *Log) Checkpoint() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	return l.checkpoint(l.tree.size())
}

// Forget empties the memory of the deduplication, as a restart does: a resubmission then makes a
// second entry (v2).
func (l *Log) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree.seen = map[lodge.Digest]int64{}
}

// HidePartial makes partial tiles 404 where the full tile is there, as logs do that delete them.
func (l *Log) HidePartial(hide bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidePartial = hide
}

// Fork returns another log of the same name and key that has the first size entries.
func (l *Log) Fork(size int64) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Log{
		version: l.version, origin: l.origin, treeID: l.treeID, signer: l.signer, key: l.key,
		tree: l.tree.first(size),
	}
}

// Replace makes l serve the tree of other from now on.
func (l *Log) Replace(other *Log) {
	other.mu.Lock()
	t := other.tree.first(other.tree.size())
	other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree = t
}

// RollBack makes l forget all entries but the first size.
func (l *Log) RollBack(size int64) { l.Replace(l.Fork(size)) }

// integrate adds the pending entries whose time has come.
func (l *Log) integrate() {
	now := time.Now()
	l.pending = slices.DeleteFunc(l.pending, func(p pending) bool {
		due := !p.due.After(now)
		if due {
			l.tree.add(p.body)
		}
		return due
	})
}

func (t *tree) size() int64 { return int64(len(t.leaves)) }

// ReadHashes implements merkle.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]merkle.Hash, error) {
	hashes := make([]merkle.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = t.hashes[index]
	}
	return hashes, nil
}

func (t *tree) add(body []byte) int64 {
	index := t.size()
	hashes, err := merkle.StoredHashes(index, body, t)
	if err != nil {
		panic(err) // ReadHashes does not fail
	}
	t.hashes = append(t.hashes, hashes...)
	t.leaves = append(t.leaves, leaf{body: body, hash: lodge.Digest(hashes[0]), at: time.Now().Unix()})
	if _, known := t.seen[lodge.Digest(hashes[0])]; !known {
		t.seen[lodge.Digest(hashes[0])] = index
	}
	return index
}

func (t *tree) first(size int64) tree {
	part := tree{
		hashes: slices.Clone(t.hashes[:merkle.StoredHashCount(size)]),
		leaves: slices.Clone(t.leaves[:size]),
		seen:   map[lodge.Digest]int64{},
	}
	for hash, index := range t.seen {
		if index < size {
			part.seen[hash] = index
		}
	}
	return part
}

func (t *tree) root(size int64) lodge.Digest {
	if size == 0 {
		return sha256.Sum256(nil)
	}
	hash, err := merkle.TreeHash(size, t)
	if err != nil {
		panic(err)
	}
	return lodge.Digest(hash)
}

func (t *tree) inclusion(index, size int64) []lodge.Digest {
	hashes, err := merkle.ProveRecord(size, index, t)
	if err != nil {
		panic(err)
	}
	return digests(hashes)
}

func digests(hashes []merkle.Hash) []lodge.Digest {
	out := make([]lodge.Digest, len(hashes))
	for i, h := range hashes {
		out[i] = lodge.Digest(h)
	}
	return out
}

// checkpoint signs the tree head of that size (C2SP tlog-checkpoint, signed-note).
func (l *Log) checkpoint(size int64) string {
	origin := l.origin
	if l.version == 1 {
		origin = l.key.Origin()
	}
	return l.note(origin, size, l.tree.root(size))
}

// note signs a tree head.
func (l *Log) note(origin string, size int64, root [sha256.Size]byte) string {
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	id, err := hex.DecodeString(l.key.LogID())
	if err != nil {
		panic(err)
	}
	sig := append(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(id)), l.sign([]byte(text))...)
	return fmt.Sprintf("%s\n— %s %s\n", text, l.origin, base64.StdEncoding.EncodeToString(sig))
}

func (l *Log) sign(message []byte) []byte {
	opts, digest := crypto.SignerOpts(crypto.Hash(0)), message
	if _, ok := l.signer.(*ecdsa.PrivateKey); ok {
		sum := sha256.Sum256(message)
		opts, digest = crypto.SHA256, sum[:]
	}
	sig, err := l.signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		panic(err)
	}
	return sig
}
