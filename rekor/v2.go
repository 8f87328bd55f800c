package rekor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/tlog"
)

const (
	maxRequestV2     = 4 << 20 // rekor-tiles' --max-request-body-size, unless told otherwise
	defaultMaxLeaves = 1_000_000

	readTimeout = 30 * time.Second // for one file of the read side
	maxFile     = tlog.MaxCheckpoint
)

// algorithmsV2 are those of rekor-tiles' algorithm registry that its verification really
// takes: it verifies Ed25519 as Ed25519ph and RSA as PKCS #1 v1.5 only. The names of the hashes are
// protobuf-specs'.
var algorithmsV2 = map[dsse.Algorithm]string{
	dsse.ECDSAP256SHA256: "SHA2_256",
	dsse.ECDSAP384SHA384: "SHA2_384",
	dsse.ECDSAP521SHA512: "SHA2_512",
	dsse.RSA2048PKCS1:    "SHA2_256",
	dsse.RSA3072PKCS1:    "SHA2_256",
	dsse.RSA4096PKCS1:    "SHA2_256",
	dsse.Ed25519ph:       "SHA2_512",
}

// requestV2 is what rekor-tiles takes (CreateEntryRequest of its rekor_service.proto).
type requestV2 struct {
	HashedRekord struct {
		Digest    []byte      `json:"digest"`
		Signature signatureV2 `json:"signature"`
	} `json:"hashedRekordRequestV002"`
}

// V2 is a client of one shard of a Rekor v2 log. It is safe for concurrent use.
type V2 struct {
	o     Options
	key   tlog.Key
	write conn
	read  reader
	tiles *tlog.Tiles
	heads *rounds

	// Only rounds.run touches these.
	head tlog.Checkpoint // the newest that proved true; zero before the first
}

// NewV2 returns a client of the shard at o.URL. It connects to nothing.
func NewV2(o Options) (*V2, error) {
	if len(o.Keys) != 1 || o.Leaves == nil {
		return nil, errors.New("a Rekor v2 log needs one key and a leaf index")
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = maxRequestV2
	}
	if o.MaxLeaves == 0 {
		o.MaxLeaves = defaultMaxLeaves
	}
	write, err := newConn(o.HTTP, o.URL)
	if err != nil {
		return nil, err
	}
	if o.ReadURL == "" {
		o.ReadURL = write.base + "/api/v2"
	}
	read, err := newConn(o.HTTP, o.ReadURL)
	if err != nil {
		return nil, err
	}
	c := &V2{o: o, key: o.Keys[0], write: write, read: reader{read}}
	c.tiles = tlog.NewTiles(c.read)
	c.heads = &rounds{run: c.sync}
	return c, nil
}

// LogID returns the shard's id in hex.
func (c *V2) LogID() string { return c.key.LogID() }

// Has tells whether that is the shard's id.
func (c *V2) Has(logID string) bool { return logID == c.LogID() }

// Plan prepares the submission of att, offline: the request's bytes and the hash of the leaf that
// they will become. What no v2 log takes is a *lodge.Error of class permanent.
func (c *V2) Plan(att *bundle.Attestation) (lodge.Intent, error) {
	if _, ok := algorithmsV2[att.Algorithm]; !ok {
		if att.Algorithm == dsse.Ed25519 {
			return lodge.Intent{}, unsupported("a Rekor v2 log takes no pure Ed25519 signature: sign with Ed25519ph, ECDSA or RSA")
		}
		return lodge.Intent{}, unsupported("a Rekor v2 log takes no signature by %s", att.Algorithm)
	}
	var r requestV2
	h := att.Algorithm.Hash().New()
	h.Write(att.PAE())
	r.HashedRekord.Digest = h.Sum(nil)
	r.HashedRekord.Signature = signatureV2{Content: att.Signature, Verifier: verifierV2{KeyDetails: string(att.Algorithm)}}
	if len(att.Certificates) > 0 {
		r.HashedRekord.Signature.Verifier.Certificate = &rawBytes{att.Certificates[0]}
	} else {
		r.HashedRekord.Signature.Verifier.PublicKey = &rawBytes{att.PublicKey.SPKI}
	}
	request, err := marshal(r)
	if err != nil {
		return lodge.Intent{}, err
	}
	if int64(len(request)) > c.o.MaxRequest {
		return lodge.Intent{}, tooLarge(len(request), c.o.MaxRequest)
	}
	body, err := r.body()
	if err != nil {
		return lodge.Intent{}, err
	}
	return lodge.Intent{
		Request:  request,
		LeafHash: tlog.LeafHash(body),
		LogID:    c.LogID(),
		ReadURL:  c.o.ReadURL,
	}, nil
}

// Admit refuses what could not be verified if it were logged: an attestation under a
// certificate without a trusted time.
func (c *V2) Admit(att *bundle.Attestation) error {
	if len(att.Certificates) == 0 {
		return nil
	}
	if len(att.Timestamps) == 0 {
		return lodge.Errorf(lodge.ClassCertificate, "no-timestamp",
			"a Rekor v2 log states no time, so an entry under a certificate needs an RFC 3161 timestamp to be verified: have one taken with --tsa, or hand in the Sigstore bundle that has one")
	}
	cert, err := x509.ParseCertificate(att.Certificates[0])
	if err != nil {
		return lodge.Errorf(lodge.ClassCertificate, "certificate-malformed", "the certificate can't be read: %w", err)
	}
	return c.timed(att, cert)
}

// timed refuses an attestation of which no timestamp says that it was signed while its
// certificate was valid.
func (c *V2) timed(att *bundle.Attestation, cert *x509.Certificate) error {
	var reasons []error
	for _, ts := range att.Timestamps {
		if c.o.Time == nil {
			return nil
		}
		at, err := c.o.Time(ts, att.Signature)
		if err == nil && !at.Before(cert.NotBefore) && !at.After(cert.NotAfter) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is of %s, and the certificate is valid from %s to %s", at.UTC().Format(time.RFC3339),
				cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
		}
		reasons = append(reasons, err)
	}
	return lodge.Errorf(lodge.ClassCertificate, "timestamp",
		"no timestamp says that it was signed while its certificate was valid, so the entry could not be verified: %w", reasons[0])
}

func tooLarge(size int, limit int64) *lodge.Error {
	return lodge.Errorf(lodge.ClassPermanent, "too-large",
		"the request has %d bytes, the log takes %d: %w", size, limit, lodge.ErrLimit)
}

// body returns the canonical body of the entry that the server makes of r (ToLogEntry in
// rekor-tiles' pkg/types/hashedrekord, then RFC 8785).
func (r requestV2) body() ([]byte, error) {
	algorithm, ok := algorithmsV2[dsse.Algorithm(r.HashedRekord.Signature.Verifier.KeyDetails)]
	if !ok {
		return nil, fmt.Errorf("recorded request: %w: key details %.40q", lodge.ErrMalformed, r.HashedRekord.Signature.Verifier.KeyDetails)
	}
	entry := record[hashedRekordV002]{APIVersion: "0.0.2", Kind: "hashedrekord"}
	entry.Spec.Entry.Data = hashOutput{Algorithm: algorithm, Digest: r.HashedRekord.Digest}
	entry.Spec.Entry.Signature = r.HashedRekord.Signature
	return marshal(entry)
}

// planned returns the body of what intent will send, planning it where there is no intent.
func (c *V2) planned(att *bundle.Attestation, intent lodge.Intent) (lodge.Intent, []byte, error) {
	if intent.LeafHash.IsZero() {
		size := intent.TreeSize
		var err error
		if intent, err = c.Plan(att); err != nil {
			return intent, nil, err
		}
		intent.TreeSize = size
	}
	var r requestV2
	if err := json.Unmarshal(intent.Request, &r); err != nil {
		return intent, nil, fmt.Errorf("recorded request: %w: %w", lodge.ErrMalformed, err)
	}
	body, err := r.body()
	if err == nil && tlog.LeafHash(body) != intent.LeafHash {
		err = fmt.Errorf("recorded request: %w: it makes another leaf than the recorded one", lodge.ErrMalformed)
	}
	return intent, body, err
}

// Adopt returns the entry of att.Entries that is in this shard, binds to att and is proven,
// offline. The error wraps lodge.ErrNotFound where there is none.
func (c *V2) Adopt(_ context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	reason := error(nil)
	for _, e := range att.Entries {
		if e.Receipt.LogID != c.LogID() {
			continue
		}
		if reason = c.adopt(&e, att); reason == nil {
			return &e, nil
		}
	}
	return nil, notAdopted(c.LogID(), reason)
}

func notAdopted(logID string, reason error) error {
	if reason == nil {
		return fmt.Errorf("entry of the log %.16s…: %w", logID, lodge.ErrNotFound)
	}
	return fmt.Errorf("entry of the log %.16s…: %w, but for one that is not taken over: %w", logID, lodge.ErrNotFound, reason)
}

func (c *V2) adopt(e *lodge.Entry, att *bundle.Attestation) error {
	if err := Bind(e.Body, att); err != nil {
		return err
	}
	if e.Receipt.InclusionProof == nil {
		return errors.New("it has no inclusion proof")
	}
	return c.prove(e, tlog.LeafHash(e.Body), *e.Receipt.InclusionProof)
}

// prove verifies proof and makes it e's receipt.
func (c *V2) prove(e *lodge.Entry, leaf lodge.Digest, proof lodge.InclusionProof) error {
	cp, err := c.key.Prove(leaf, proof)
	if err != nil {
		return err
	}
	if e.Kind, e.Version, err = kindOf(e.Body); err != nil {
		return err
	}
	e.SET = nil
	e.Receipt = lodge.LogReceipt{
		Origin:         cp.Origin,
		LogID:          c.LogID(),
		LogIndex:       proof.LogIndex,
		LeafHash:       leaf,
		InclusionProof: &proof,
	}
	return nil
}

// answerV2 is a TransparencyLogEntry (protobuf-specs, sigstore_rekor.proto) in its JSON form.
type answerV2 struct {
	InclusionProof *struct {
		LogIndex   number   `json:"logIndex"`
		TreeSize   number   `json:"treeSize"`
		RootHash   []byte   `json:"rootHash"`
		Hashes     [][]byte `json:"hashes"`
		Checkpoint struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	} `json:"inclusionProof"`
	LogIndex number `json:"logIndex"`
	Body     []byte `json:"canonicalizedBody"`
}

// number is an int64 that ProtoJSON writes as a string.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(text []byte) error {
	if len(text) >= 2 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	*n = number(v)
	return err
}

// Send submits the recorded request and returns the verified entry, whether the log made it now
// or had it already. Any other answer is a *lodge.Error that says what follows.
func (c *V2) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	intent, body, err := c.planned(att, intent)
	if err != nil {
		return nil, err
	}
	a := c.write.post(ctx, "/api/v2/log/entries", intent.Request)
	switch {
	case a.Err == nil && (a.Status == http.StatusCreated || a.Status == http.StatusOK):
		return c.created(a, body, intent.LeafHash)
	case a.Err == nil && a.Status == http.StatusConflict:
		return c.conflict(ctx, a, body, intent)
	}
	return nil, Classify(Version2, a)
}

// created verifies the answer to a submission that succeeded.
func (c *V2) created(a Answer, body []byte, leaf lodge.Digest) (*lodge.Entry, error) {
	var said answerV2
	if err := json.Unmarshal(a.Body, &said); err != nil || said.InclusionProof == nil {
		return nil, lodge.Errorf(lodge.ClassUnknown, "answer-unreadable", "HTTP %d without an entry that can be read", a.Status)
	}
	if got := tlog.LeafHash(said.Body); got != leaf {
		return nil, lies("the log made another entry of the submission than it should: leaf %s instead of %s", got, leaf)
	}
	p := said.InclusionProof
	proof := lodge.InclusionProof{
		LogIndex:   int64(p.LogIndex),
		TreeSize:   int64(p.TreeSize),
		Hashes:     make([]lodge.Digest, 0, len(p.Hashes)),
		Checkpoint: p.Checkpoint.Envelope,
	}
	if copy(proof.RootHash[:], p.RootHash) != len(proof.RootHash) || p.LogIndex != said.LogIndex {
		return nil, lies("the log's receipt contradicts itself: index %d and %d, root hash of %d bytes", said.LogIndex, p.LogIndex, len(p.RootHash))
	}
	for _, h := range p.Hashes {
		if len(h) != len(lodge.Digest{}) {
			return nil, lies("the log's inclusion proof has a hash of %d bytes", len(h))
		}
		proof.Hashes = append(proof.Hashes, lodge.Digest(h))
	}
	e := &lodge.Entry{Body: body}
	if err := c.prove(e, leaf, proof); err != nil {
		return nil, distrust(err)
	}
	return e, nil
}

// conflict turns "already there, at X-Log-Index" into an entry: the leaf at that index must be the
// planned one, under a checkpoint fetched after the answer.
func (c *V2) conflict(ctx context.Context, a Answer, body []byte, intent lodge.Intent) (*lodge.Entry, error) {
	head, err := c.heads.join(ctx)
	if err != nil {
		return nil, afterwards(err)
	}
	index, err := strconv.ParseInt(a.Header.Get("X-Log-Index"), 10, 64)
	if err != nil || index < 0 {
		return nil, lodge.Errorf(lodge.ClassUnknown, "conflict", "the log has the entry, but does not say where")
	}
	if index >= head.Size {
		return nil, lodge.Errorf(lodge.ClassUnknown, "not-integrated",
			"the log has the entry at index %d, which its tree of %d does not reach yet", index, head.Size)
	}
	leaves, err := c.tiles.Leaves(ctx, head, index, index+1)
	if err != nil {
		return nil, afterwards(readFailure(err))
	}
	if leaves[0] != intent.LeafHash {
		return nil, lies("the log says that the entry is at index %d, where it has another one: leaf %s instead of %s",
			index, leaves[0], intent.LeafHash)
	}
	e, err := c.entryAt(ctx, head, index, body, intent.LeafHash)
	if err != nil {
		return nil, afterwards(err)
	}
	return e, nil
}
