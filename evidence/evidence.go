// Package evidence makes one file of everything that proves what became of an envelope, and
// verifies such files: the envelope as it was accepted, its bundles, the receipts, the
// checkpoints that they rely on, the events, and a manifest. docs/evidence.md is the format.
//
// An [Archiver] writes the file of each key whose deliveries are all verified, by a cursor
// over the events, so that none is missed.
//
// Floor 3: it may import the root package, and packages bundle, dsse, lease, verify and store.
package evidence

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/store"
)

// MediaType is what an archive calls itself, in evidence.json.
const MediaType = "application/vnd.dev.lodge.evidence.v1+json"

// Limits of an archive.
const (
	MaxSize = 256 << 20 // bytes

	maxFiles      = 10_000
	maxDeliveries = 10_000 // of one key
	maxEvents     = 100_000
	page          = 1000
)

// ErrPending says that deliveries of a key are still on their way.
var ErrPending = errors.New("not delivered yet")

// errUnfit is for what is in the store and can't be made into an archive, ever.
var errUnfit = errors.New("no archive can be made of it")

// Source is what an archive is made of. A *store.Store is one.
type Source interface {
	Deliveries(ctx context.Context, digest lodge.Digest, after int64, limit int) ([]lodge.Delivery, error)
	Submission(ctx context.Context, id int64) (lodge.Submission, error)
	Proof(ctx context.Context, id int64) (lodge.Proof, error)
	FindEvents(ctx context.Context, q store.EventQuery, after int64, limit int) ([]lodge.Event, error)
}

// The files of an archive. Those of an attestation are in a folder of its number, from 1 on.
const (
	manifestFile = "SHA256SUMS"
	indexFile    = "evidence.json"
	eventsFile   = "events.jsonl"
	envelopeFile = "envelope.json"
	keyFile      = "key.pem"
	receiptsFile = "receipts.json"
)

func bundleFile(n int) string         { return fmt.Sprintf("bundle-%d.json", n) }
func inFolder(n int, f string) string { return strconv.Itoa(n) + "/" + f }

// checkpointFile names a signed note after its log, its size and its own bytes.
func checkpointFile(logID string, size int64, note string) string {
	return fmt.Sprintf("checkpoints/%.16s-%d-%.8s.txt", logID, size, lodge.DigestOf([]byte(note)).Hex())
}

// index is evidence.json.
type index struct {
	MediaType string         `json:"mediaType"`
	Key       lodge.Key      `json:"key"`
	Signers   []lodge.Signer `json:"signers"` // of the attestations, in the order of their numbers
}

// receipt is one of receipts.json.
type receipt struct {
	Kind    lodge.TargetKind `json:"kind"`
	Target  string           `json:"target"` // its address
	Subject lodge.Digest     `json:"subject,omitzero"`
	State   lodge.State      `json:"state"`
	Adopted bool             `json:"adopted"` // it was there without this store's doing
	Receipt *lodge.Receipt   `json:"receipt,omitempty"`
	Error   *lodge.Error     `json:"error,omitempty"`
}

// Collect returns the archive of the envelopes with that key. The same content of the source
// gives the same bytes. The error wraps lodge.ErrNotFound where there is no such envelope, and
// ErrPending where a delivery of one is not over.
func Collect(ctx context.Context, s Source, key lodge.Key) ([]byte, error) {
	deliveries, err := deliveriesOf(ctx, s, key)
	if err != nil {
		return nil, err
	}
	var signers []lodge.Signer
	for _, d := range deliveries {
		if d.State.Live() {
			return nil, fmt.Errorf("%s is %s at %s: %w", key, d.State, d.Target.Address, ErrPending)
		}
		signers = append(signers, d.Signer)
	}
	slices.Sort(signers)
	c := collection{Source: s, files: files{}}
	all := index{MediaType, key, slices.Compact(signers)}
	for i, signer := range all.Signers {
		of := slices.DeleteFunc(slices.Clone(deliveries), func(d lodge.Delivery) bool { return d.Signer != signer })
		if err := c.attestation(ctx, i+1, of); err != nil {
			return nil, err
		}
	}
	if err := c.addJSON(indexFile, all); err != nil {
		return nil, err
	}
	if err := c.events(ctx, key); err != nil {
		return nil, err
	}
	c.files[manifestFile] = manifest(c.files)
	return c.files.encode()
}

func deliveriesOf(ctx context.Context, s Source, key lodge.Key) (all []lodge.Delivery, err error) {
	var after int64
	for {
		found, err := s.Deliveries(ctx, key, after, page)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			after = d.ID
			if d.Key == key { // it may be of an artifact with that digest
				all = append(all, d)
			}
		}
		switch {
		case len(all) > maxDeliveries:
			return nil, fmt.Errorf("%w: %w: more than %d deliveries of %s", errUnfit, lodge.ErrLimit, maxDeliveries, key)
		case len(found) == page:
		case len(all) == 0:
			return nil, fmt.Errorf("delivery of %s: %w", key, lodge.ErrNotFound)
		default:
			return all, nil
		}
	}
}

// collection is an archive in the making.
type collection struct {
	Source
	files files
}

// attestation adds all that there is about one envelope.
func (c *collection) attestation(ctx context.Context, n int, deliveries []lodge.Delivery) error {
	sub, err := c.Submission(ctx, deliveries[0].ID)
	if err != nil {
		return err
	}
	if len(sub.Raw) == 0 {
		return fmt.Errorf("%w: the payload of %s was pruned", errUnfit, sub.Key)
	}
	c.files[inFolder(n, envelopeFile)] = sub.Raw
	if sub.SPKI != nil {
		c.files[inFolder(n, keyFile)] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: sub.SPKI})
	}
	proofs, err := c.receipts(ctx, n, deliveries)
	if err != nil {
		return err
	}
	for i, of := range bundles(proofs) {
		att, entries, err := bundle.Assemble(sub, of)
		if err == nil {
			c.files[inFolder(n, bundleFile(i+1))], err = att.Encode(entries...)
		}
		if err != nil {
			return fmt.Errorf("%w: the bundle of %s: %w", errUnfit, sub.Key, err)
		}
	}
	return nil
}

// bundles tells which proofs go together: those of the envelope's own signature, and each of
// another one alone, for a bundle carries one signature.
func bundles(proofs []lodge.Proof) (sets [][]lodge.Proof) {
	var own []lodge.Proof
	for _, p := range proofs {
		if p.Bundle == nil {
			own = append(own, p)
		} else {
			sets = append(sets, []lodge.Proof{p})
		}
	}
	if len(own) > 0 || len(sets) == 0 {
		sets = slices.Insert(sets, 0, own)
	}
	return sets
}

// receipts adds the receipts, and the checkpoints that they rely on. It returns the log entries.
func (c *collection) receipts(ctx context.Context, n int, deliveries []lodge.Delivery) (proofs []lodge.Proof, err error) {
	slices.SortFunc(deliveries, func(a, b lodge.Delivery) int {
		return cmp.Or(cmp.Compare(a.Target.Address, b.Target.Address), bytes.Compare(a.Subject[:], b.Subject[:]))
	})
	receipts := []receipt{}
	for _, d := range deliveries {
		receipts = append(receipts, receipt{d.Target.Kind, d.Target.Address, d.Subject, d.State, d.Adopted, d.Receipt, d.Err})
		if d.Target.Kind != lodge.KindLog || d.State != lodge.Verified {
			continue
		}
		p, err := c.Proof(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, p)
		if r := p.Entry.Receipt; r.InclusionProof != nil {
			c.files[checkpointFile(r.LogID, r.InclusionProof.TreeSize, r.InclusionProof.Checkpoint)] = []byte(r.InclusionProof.Checkpoint)
		}
	}
	return proofs, c.addJSON(inFolder(n, receiptsFile), receipts)
}

// events adds what happened, a CloudEvent a line, in the order in which it did.
func (c *collection) events(ctx context.Context, key lodge.Key) error {
	var b bytes.Buffer
	var after int64
	for n := 0; ; {
		events, err := c.FindEvents(ctx, store.EventQuery{Key: key}, after, page)
		if err != nil {
			return err
		}
		for _, e := range events {
			line, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("%w: event %d: %w", errUnfit, e.Sequence, err)
			}
			b.Write(append(line, '\n'))
			after = e.Sequence
		}
		if n += len(events); n > maxEvents {
			return fmt.Errorf("%w: %w: more than %d events of %s", errUnfit, lodge.ErrLimit, maxEvents, key)
		}
		if len(events) < page {
			c.files[eventsFile] = b.Bytes()
			return nil
		}
	}
}

func (c *collection) addJSON(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errUnfit, name, err)
	}
	c.files[name] = append(raw, '\n')
	return nil
}
