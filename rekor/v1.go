package rekor

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/tlog"
)

// algorithmsV1 are what Rekor v1 verifies a dsse entry with: it always hashes with SHA-256,
// whatever the curve, and knows no PSS and no prehashed Ed25519 (verifyEnvelope in its
// pkg/types/dsse/v0.0.1).
var algorithmsV1 = map[dsse.Algorithm]bool{
	dsse.ECDSAP256SHA256: true,
	dsse.ECDSAP384SHA256: true,
	dsse.ECDSAP521SHA256: true,
	dsse.RSA2048PKCS1:    true,
	dsse.RSA3072PKCS1:    true,
	dsse.RSA4096PKCS1:    true,
	dsse.Ed25519:         true,
}

// proposedDSSE is what Rekor v1 takes for a DSSE envelope.
type proposedDSSE struct {
	ProposedContent struct {
		Envelope  string   `json:"envelope"`
		Verifiers [][]byte `json:"verifiers"` // PEM
	} `json:"proposedContent"`
}

// envelopeV1 is an envelope with the one verified signature. Its bytes are part of the entry's
// identity (envelopeHash), so they must come out the same each time.
type envelopeV1 struct {
	Payload     []byte        `json:"payload"`
	PayloadType string        `json:"payloadType"`
	Signatures  []signatureV1 `json:"signatures"`
}

type signatureV1 struct {
	Sig []byte `json:"sig"`
}

// V1 is a client of a Rekor v1 log with all its shards. It is safe for concurrent use.
type V1 struct {
	o     Options
	conn  conn
	heads *rounds
	met   atomic.Bool // its head has been seen, signed with one of the keys
}

// NewV1 returns a client of the log at o.URL. It connects to nothing.
func NewV1(o Options) (*V1, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("a Rekor v1 log needs a key")
	}
	c, err := newConn(o.HTTP, o.URL)
	if err != nil {
		return nil, err
	}
	v1 := &V1{o: o, conn: c}
	v1.heads = &rounds{run: v1.head}
	return v1, nil
}

// LogID returns the id in hex of the shard that is written to.
func (c *V1) LogID() string { return c.o.Keys[0].LogID() }

// Has tells whether one of the log's shards has that id.
func (c *V1) Has(logID string) bool {
	_, ok := c.key(logID)
	return ok
}

// key returns the key of the shard with that id.
func (c *V1) key(logID string) (tlog.Key, bool) {
	for _, k := range c.o.Keys {
		if k.LogID() == logID {
			return k, true
		}
	}
	return tlog.Key{}, false
}

// Plan prepares the submission of att, offline: the request's bytes, the hash of the leaf that
// they will become, and as EntryUUID its 64 hex digits (the tree id in front of them is the log's to
// say). What no v1 log takes is a *lodge.Error of class permanent.
func (c *V1) Plan(att *bundle.Attestation) (lodge.Intent, error) {
	if !algorithmsV1[att.Algorithm] {
		return lodge.Intent{}, unsupported("a Rekor v1 log takes no DSSE signature by %s: it verifies with SHA-256 only, RSA by PKCS #1 v1.5, and pure Ed25519", att.Algorithm)
	}
	verifier := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: att.PublicKey.SPKI})
	if len(att.Certificates) > 0 {
		verifier = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: att.Certificates[0]})
	}
	envelope, err := marshal(envelopeV1{att.Payload, att.PayloadType, []signatureV1{{att.Signature}}})
	if err != nil {
		return lodge.Intent{}, err
	}
	proposal := record[proposedDSSE]{APIVersion: "0.0.1", Kind: "dsse"}
	proposal.Spec.ProposedContent.Envelope = string(envelope)
	proposal.Spec.ProposedContent.Verifiers = [][]byte{verifier}
	request, err := marshal(proposal)
	if err != nil {
		return lodge.Intent{}, err
	}
	if limit := c.o.MaxRequest; limit > 0 && int64(len(request)) > limit {
		return lodge.Intent{}, tooLarge(len(request), limit)
	}
	entry := record[dsseV001]{APIVersion: "0.0.1", Kind: "dsse"}
	entry.Spec.EnvelopeHash = sha256Value(envelope)
	entry.Spec.PayloadHash = sha256Value(att.Payload)
	entry.Spec.Signatures = []dsseSignatureV1{{att.Signature, verifier}}
	body, err := marshal(entry)
	if err != nil {
		return lodge.Intent{}, err
	}
	leaf := tlog.LeafHash(body)
	return lodge.Intent{
		Request:   request,
		LeafHash:  leaf,
		EntryUUID: leaf.Hex(),
		LogID:     c.LogID(),
		ReadURL:   c.conn.base,
	}, nil
}

func sha256Value(b []byte) hashValue {
	sum := sha256.Sum256(b)
	return hashValue{Algorithm: "sha256", Value: hex.EncodeToString(sum[:])}
}

// Admit refuses what could not be verified if it were logged now: an attestation under a
// certificate whose time is over. The log's integrated time would lie outside of it.
func (c *V1) Admit(att *bundle.Attestation) error {
	if len(att.Certificates) == 0 {
		return nil
	}
	return validNow(att.Certificates[0])
}

func validNow(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return lodge.Errorf(lodge.ClassCertificate, "certificate-malformed", "the certificate can't be read: %w", err)
	}
	now := time.Now()
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return lodge.Errorf(lodge.ClassCertificate, "certificate-expired",
			"the certificate is valid from %s to %s; an entry that a Rekor v1 log makes now could not be verified",
			cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Adopt returns the entry of att.Entries that is in one of the log's shards, binds to att and is proven.
// One without inclusion proof must have a valid signed entry timestamp, and its proof is fetched from
// the log. The error wraps lodge.ErrNotFound where there is none.
func (c *V1) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	vouched, err := c.Vouch(att)
	if err != nil || vouched.Receipt.InclusionProof != nil {
		return vouched, err
	}
	proven, err := c.byLeaf(ctx, vouched.Receipt.LeafHash)
	var failed *lodge.Error
	if err != nil && !errors.As(err, &failed) {
		err = notAdopted(c.LogID(), err)
	}
	return proven, err // that the log did not tell, or lied, is not "none"
}

// Vouch is Adopt without the network: an entry that is only promised, by its signed entry
// timestamp, is returned as such.
func (c *V1) Vouch(att *bundle.Attestation) (*lodge.Entry, error) {
	reason := error(nil)
	for _, e := range att.Entries {
		if _, ours := c.key(e.Receipt.LogID); !ours {
			continue
		}
		var vouched *lodge.Entry
		if vouched, reason = c.vouch(e, att); reason == nil {
			return vouched, nil
		}
	}
	return nil, notAdopted(c.LogID(), reason)
}

func (c *V1) vouch(e lodge.Entry, att *bundle.Attestation) (*lodge.Entry, error) {
	if err := Bind(e.Body, att); err != nil {
		return nil, err
	}
	said := entryV1{Body: e.Body, IntegratedTime: e.Receipt.IntegratedTime, LogID: e.Receipt.LogID, LogIndex: e.Receipt.LogIndex}
	said.Verification.SET = e.SET
	if p := e.Receipt.InclusionProof; p != nil && p.Checkpoint != "" { // early bundles have proofs without
		said.Verification.Proof = &proofV1{Checkpoint: p.Checkpoint, LogIndex: p.LogIndex, TreeSize: p.TreeSize, RootHash: hexDigest(p.RootHash)}
		for _, h := range p.Hashes {
			said.Verification.Proof.Hashes = append(said.Verification.Proof.Hashes, hexDigest(h))
		}
	}
	vouched, err := c.verify("", said, tlog.LeafHash(e.Body))
	if err != nil {
		return nil, errors.New(err.Error()) // the bundle's fault, no reason to hold the log
	}
	return vouched, nil
}

// Send submits the recorded request and returns the verified entry, whether the log made it now or
// had it already; or one without InclusionProof, where the log has it but has not integrated it
// yet. Any other answer is a *lodge.Error that says what follows.
func (c *V1) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	if intent.LeafHash.IsZero() {
		var err error
		if intent, err = c.Plan(att); err != nil {
			return nil, err
		}
	}
	a := c.conn.post(ctx, "/api/v1/log/entries", intent.Request)
	switch {
	case a.Err == nil && (a.Status == http.StatusCreated || a.Status == http.StatusOK):
		return c.created(ctx, a, intent.LeafHash)
	case a.Err == nil && a.Status == http.StatusConflict:
		return c.conflict(ctx, a, intent.LeafHash)
	}
	return nil, Classify(Version1, a)
}

// created verifies the answer to a submission that succeeded.
func (c *V1) created(ctx context.Context, a Answer, leaf lodge.Digest) (*lodge.Entry, error) {
	uuid, said, err := oneEntry(a.Body)
	if err != nil {
		return nil, lodge.Errorf(lodge.ClassUnknown, "answer-unreadable", "HTTP %d without an entry that can be read: %w", a.Status, err)
	}
	e, err := c.verify(uuid, said, leaf)
	if err != nil {
		return nil, err
	}
	if e.Receipt.InclusionProof != nil {
		return e, nil
	}
	proven, err := c.byLeaf(ctx, leaf)
	if errors.Is(err, lodge.ErrNotFound) {
		return e, nil // promised by its signed entry timestamp
	}
	if err != nil {
		return nil, afterwards(err)
	}
	return proven, nil
}

// conflict turns "already there" into an entry. The leaf hash is in the UUID that the log names.
func (c *V1) conflict(ctx context.Context, a Answer, leaf lodge.Digest) (*lodge.Entry, error) {
	if location := a.Header.Get("Location"); location != "" && !strings.HasSuffix(path.Base(location), leaf.Hex()) {
		return nil, lies("the log says that the entry is %.100q, which is not the leaf %s", location, leaf)
	}
	e, err := c.byLeaf(ctx, leaf)
	if errors.Is(err, lodge.ErrNotFound) {
		// Queued and not integrated, for 409 comes before that; or somebody else's answer.
		return nil, lodge.Errorf(lodge.ClassUnknown, "not-integrated", "the log says that it has the entry already (HTTP 409), and does not show it yet")
	}
	if err != nil {
		return nil, afterwards(err)
	}
	return e, nil
}

// entryV1 is a LogEntryAnon of Rekor v1's API.
type entryV1 struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"` // over all shards
	Verification   struct {
		Proof *proofV1 `json:"inclusionProof"`
		SET   []byte   `json:"signedEntryTimestamp"`
	} `json:"verification"`
}

type proofV1 struct {
	Checkpoint string      `json:"checkpoint"`
	Hashes     []hexDigest `json:"hashes"`
	LogIndex   int64       `json:"logIndex"` // in the shard
	RootHash   hexDigest   `json:"rootHash"`
	TreeSize   int64       `json:"treeSize"`
}

// hexDigest is a digest in bare hex.
type hexDigest lodge.Digest

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *hexDigest) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(d) {
		return fmt.Errorf("a hash of %d hex digits: %w", len(text), lodge.ErrMalformed)
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// oneEntry reads the map of UUID to entry that the log answers with.
func oneEntry(raw []byte) (uuid string, e entryV1, err error) {
	var entries map[string]entryV1
	if err := json.Unmarshal(raw, &entries); err != nil {
		return "", entryV1{}, err
	}
	if len(entries) != 1 {
		return "", entryV1{}, fmt.Errorf("%d entries, want one: %w", len(entries), lodge.ErrMalformed)
	}
	for uuid, e = range entries {
	}
	return uuid, e, nil
}

// promise is what a signed entry timestamp is over. The order of its members is RFC 8785's.
type promise struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`
}

// verify checks all that said claims to be: the leaf asked for, signed with the log's key, and
// in the tree where it has a proof. An entry with neither proof nor timestamp is none. The
// error is a *lodge.Error of class held.
func (c *V1) verify(uuid string, said entryV1, leaf lodge.Digest) (*lodge.Entry, error) {
	key, ours := c.key(said.LogID)
	if !ours {
		return nil, lodge.Errorf(lodge.ClassHeld, "log-key", "the entry is of the log %.64q, whose key was not given", said.LogID)
	}
	if got := tlog.LeafHash(said.Body); got != leaf {
		return nil, lies("the log answers with the leaf %s, not with %s", got, leaf)
	}
	if uuid != "" && !strings.HasSuffix(uuid, leaf.Hex()) {
		return nil, lies("the log calls the leaf %s %.100q", leaf, uuid)
	}
	set, proof := said.Verification.SET, said.Verification.Proof
	if len(set) == 0 {
		return nil, lies("the log answers with an entry without a signed entry timestamp: nothing vouches for its index and time")
	}
	kind, version, err := kindOf(said.Body)
	if err != nil {
		return nil, lies("%w", err)
	}
	e := &lodge.Entry{Kind: kind, Version: version, Body: said.Body, Receipt: lodge.LogReceipt{
		LogID: said.LogID, LogIndex: said.LogIndex, EntryUUID: uuid, LeafHash: leaf,
	}}
	if len(set) > 0 {
		message, err := marshal(promise{said.Body, said.IntegratedTime, said.LogID, said.LogIndex})
		if err != nil {
			return nil, err
		}
		if !key.Verify(message, set) {
			return nil, lies("the entry's timestamp is not signed by the log")
		}
		e.SET, e.Receipt.IntegratedTime = set, said.IntegratedTime // without SET, nobody vouches for the time
	}
	if proof != nil {
		if err := c.prove(e, key, proof); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// prove verifies an inclusion proof and adds it to e's receipt.
func (c *V1) prove(e *lodge.Entry, key tlog.Key, said *proofV1) error {
	p := lodge.InclusionProof{
		LogIndex: said.LogIndex, TreeSize: said.TreeSize, RootHash: lodge.Digest(said.RootHash),
		Hashes: make([]lodge.Digest, 0, len(said.Hashes)), Checkpoint: said.Checkpoint,
	}
	for _, h := range said.Hashes {
		p.Hashes = append(p.Hashes, lodge.Digest(h))
	}
	cp, err := key.Prove(e.Receipt.LeafHash, p)
	if err != nil {
		return distrust(err)
	}
	tree, _ := cp.TreeID()
	uuid := fmt.Sprintf("%016x%s", tree, e.Receipt.LeafHash.Hex())
	if len(e.Receipt.EntryUUID) == len(uuid) && e.Receipt.EntryUUID != uuid {
		return lies("the log calls the entry %s, and proves it in the tree %016x", e.Receipt.EntryUUID, tree)
	}
	e.Receipt.EntryUUID, e.Receipt.Origin, e.Receipt.InclusionProof = uuid, cp.Origin, &p
	return nil
}
