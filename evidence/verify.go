package evidence

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/verify"
)

// The checks of an archive, besides those of the bundles in it.
const (
	CheckManifest verify.Name = "manifest" // every file is listed with its digest, and no other is
	CheckEnvelope verify.Name = "envelope" // the bundles are of the envelope, and that has the key
	CheckReceipt  verify.Name = "receipt"  // says the same as the proof in the bundle
	CheckEvents   verify.Name = "events"   // each is about the key and has the id that its facts give
)

// Verify judges an archive offline. It is OK when every bundle in it is and every other file
// says the same. Errors wrap lodge.ErrMalformed or lodge.ErrLimit: any change of its bytes
// leads there or to a failed check.
func Verify(raw []byte, trust verify.Trust) (verify.Result, error) {
	f, err := decode(raw)
	if err != nil {
		return verify.Result{}, err
	}
	j := judge{files: f, trust: trust, seen: map[string]bool{manifestFile: true}}
	j.result.Kind, j.result.Logged = "evidence", verify.Unlogged
	if !bytes.Equal(f[manifestFile], manifest(f)) {
		j.result.Add(CheckManifest, nil, verify.Failed, "%s does not list the files that are there, with their digests", manifestFile)
		return j.result, nil
	}
	j.result.Add(CheckManifest, nil, verify.OK, "%d files", len(f)-1)
	if err := j.archive(); err != nil {
		return verify.Result{}, err
	}
	return j.result, nil
}

// judge judges one archive.
type judge struct {
	files   files
	trust   verify.Trust
	index   index
	seen    map[string]bool // files that were judged
	bundles int             // that were judged
	whole   bool            // all of them are OK
	result  verify.Result
}

func (j *judge) archive() error {
	if err := j.read(indexFile, &j.index); err != nil {
		return err
	}
	if j.index.MediaType != MediaType || len(j.index.Signers) == 0 {
		return malformed("%s: of mediaType %.80q with %d signers, want %s and one at least", indexFile, j.index.MediaType, len(j.index.Signers), MediaType)
	}
	j.result.Key, j.whole = j.index.Key, true
	for i := range j.index.Signers {
		if err := j.attestation(i); err != nil {
			return err
		}
	}
	if err := j.events(); err != nil {
		return err
	}
	for name := range j.files {
		if !j.seen[name] {
			return malformed("the file %.100q belongs to nothing in it", name)
		}
	}
	if len(j.index.Signers) > 1 {
		j.result.Signer = "" // nobody in particular
	}
	j.result.OK = j.whole && j.result.Failed() == nil
	return nil
}

// take returns a file, which from then on belongs to something.
func (j *judge) take(name string) ([]byte, error) {
	raw, ok := j.files[name]
	if !ok {
		return nil, malformed("it has no %s", name)
	}
	j.seen[name] = true
	return raw, nil
}

// read decodes a file of JSON, in full.
func (j *judge) read(name string, v any) error {
	raw, err := j.take(name)
	if err != nil {
		return err
	}
	return strictly(name, raw, v)
}

func strictly(name string, raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return malformed("%s: %w", name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("%s: there is something after its end", name)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w evidence: %w", lodge.ErrMalformed, fmt.Errorf(format, args...))
}

// attestation judges the folder of one envelope.
func (j *judge) attestation(i int) error {
	n := i + 1
	raw, err := j.take(inFolder(n, envelopeFile))
	if err != nil {
		return err
	}
	env, err := bundle.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", inFolder(n, envelopeFile), err)
	}
	if key := dsse.Key(env.Envelope.PayloadType, env.Envelope.Payload); key != j.index.Key {
		j.result.Add(CheckEnvelope, nil, verify.Failed, "envelope %d has the key %s", n, key)
		return nil
	}
	if err := j.publicKey(i); err != nil {
		return err
	}
	var entries []lodge.Entry
	count := 0
	for ; j.files[inFolder(n, bundleFile(count+1))] != nil; count++ {
		b, err := j.bundle(i, inFolder(n, bundleFile(count+1)), env)
		if err != nil {
			return err
		}
		entries = append(entries, b.Entries...)
	}
	if count == 0 {
		return malformed("it has no %s", inFolder(n, bundleFile(1)))
	}
	return j.receipts(n, entries)
}

// publicKey judges the key that an envelope was accepted under: it is its signer.
func (j *judge) publicKey(i int) error {
	name := inFolder(i+1, keyFile)
	if j.files[name] == nil {
		return nil // a certificate was
	}
	raw, err := j.take(name)
	if err != nil {
		return err
	}
	block, rest := pem.Decode(raw)
	if block == nil || len(rest) > 0 || block.Type != "PUBLIC KEY" || lodge.KeySigner(block.Bytes) != j.index.Signers[i] {
		return malformed("%s is not the key of the signer %s", name, j.index.Signers[i])
	}
	return nil
}

// bundle judges one bundle, and that it is of the envelope and its signer.
func (j *judge) bundle(i int, name string, env *bundle.Bundle) (*bundle.Bundle, error) {
	raw, err := j.take(name)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	result, err := verify.Bundle(raw, j.trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	j.adopt(result)
	if b.Envelope.PayloadType != env.Envelope.PayloadType || !bytes.Equal(b.Envelope.Payload, env.Envelope.Payload) {
		j.result.Add(CheckEnvelope, nil, verify.Failed, "%s is of another payload than the envelope", name)
		return b, nil
	}
	j.signer(i, name, b, result)
	return b, nil
}

// signer judges whether who signed a bundle is who the archive says it is.
func (j *judge) signer(i int, name string, b *bundle.Bundle, result verify.Result) {
	want := j.index.Signers[i]
	var key lodge.Signer // of the certificate
	if att, err := b.SignedByCertificate(); err == nil {
		key = att.Signer
	}
	switch {
	case result.Signer == want || key == want:
		j.result.Add(CheckEnvelope, nil, verify.OK, "%s is of the envelope, signed by %s", name, want)
	case result.Signer == "" || result.Signer == key:
		j.result.Add(CheckEnvelope, nil, verify.Absent, "%s is of the envelope; whether %s signed it only a trusted root can say", name, want)
	default:
		j.result.Add(CheckEnvelope, nil, verify.Failed, "%s is signed by %s, and not by %s", name, result.Signer, want)
	}
}

// adopt makes the checks of a bundle the archive's, with its entries counted on.
func (j *judge) adopt(r verify.Result) {
	offset := 0
	for _, c := range j.result.Checks {
		if c.Entry != nil {
			offset = max(offset, *c.Entry+1)
		}
	}
	for _, c := range r.Checks {
		if c.Entry != nil {
			moved := *c.Entry + offset
			c.Entry = &moved
		}
		j.result.Checks = append(j.result.Checks, c)
	}
	j.whole = j.whole && r.OK
	j.result.Entries += r.Entries
	j.result.Signer = r.Signer
	if j.bundles++; j.bundles == 1 || verify.Worse(r.Logged, j.result.Logged) {
		j.result.Logged = r.Logged
	}
}

// receipts judges the receipts of an attestation by the proofs in its bundles, and that the
// checkpoints are those.
func (j *judge) receipts(n int, entries []lodge.Entry) error {
	var receipts []receipt
	if err := j.read(inFolder(n, receiptsFile), &receipts); err != nil {
		return err
	}
	for _, r := range receipts {
		switch {
		case r.State != lodge.Verified:
			j.result.Add(CheckReceipt, nil, verify.Absent, "%s: it is %s", r.Target, r.State)
		case r.Receipt != nil && r.Receipt.OCI != nil && r.Receipt.Log == nil:
			j.result.Add(CheckReceipt, nil, verify.Absent, "%s: only the registry can say whether it has %s", r.Target, r.Receipt.OCI.Digest)
		case r.Receipt == nil || r.Receipt.Log == nil || r.Receipt.OCI != nil:
			return malformed("%s: a verified delivery to %s without a receipt", inFolder(n, receiptsFile), r.Target)
		default:
			i := slices.IndexFunc(entries, func(e lodge.Entry) bool { return same(*r.Receipt.Log, e.Receipt) })
			if i < 0 {
				j.result.Add(CheckReceipt, nil, verify.Failed, "%s: no entry of the bundles proves it", r.Target)
				continue
			}
			entries = slices.Delete(entries, i, i+1)
			if r.Receipt.Log.InclusionProof == nil {
				j.result.Add(CheckReceipt, nil, verify.Failed, "%s: a receipt without inclusion proof", r.Target)
				continue
			}
			if err := j.checkpoint(r.Receipt.Log); err != nil {
				return err
			}
			j.result.Add(CheckReceipt, nil, verify.OK, "%s: leaf %d, proven in the bundle", r.Target, r.Receipt.Log.LogIndex)
		}
	}
	if len(entries) > 0 {
		j.result.Add(CheckReceipt, nil, verify.Failed, "%d entries of the bundles have no receipt", len(entries))
	}
	return nil
}

// same tells whether a receipt says what an entry of a bundle proves. Bundles have no UUID,
// which says nothing that is not in the entry.
func same(r, proven lodge.LogReceipt) bool {
	if r.EntryUUID != "" && !strings.HasSuffix(r.EntryUUID, proven.LeafHash.Hex()) {
		return false
	}
	r.EntryUUID = ""
	return reflect.DeepEqual(normal(r), normal(proven))
}

// normal makes no difference between no hashes and none.
func normal(r lodge.LogReceipt) lodge.LogReceipt {
	if r.InclusionProof != nil {
		p := *r.InclusionProof
		p.Hashes = append([]lodge.Digest{}, p.Hashes...)
		r.InclusionProof = &p
	}
	return r
}

func (j *judge) checkpoint(r *lodge.LogReceipt) error {
	p := r.InclusionProof
	raw, err := j.take(checkpointFile(r.LogID, p.TreeSize, p.Checkpoint))
	if err == nil && string(raw) != p.Checkpoint {
		err = malformed("a checkpoint of %.100q is not the one that was relied on", r.Origin)
	}
	return err
}

// cloudEvent is an event as it is in the archive (CloudEvents 1.0, JSON format).
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Type        lodge.EventType `json:"type"`
	Source      string          `json:"source"`
	Subject     string          `json:"subject"`
	Sequence    string          `json:"sequence"`
	Time        time.Time       `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Data        json.RawMessage `json:"data"`
}

// events judges the events: their ids follow from their facts.
func (j *judge) events() error {
	raw, err := j.take(eventsFile)
	if err != nil {
		return err
	}
	count, unknown := 0, 0
	for line := range bytes.Lines(raw) {
		var e cloudEvent
		if err := strictly(eventsFile, line, &e); err != nil {
			return err
		}
		id, err := idOf(e)
		judged := !errors.Is(err, errors.ErrUnsupported)
		switch {
		case judged && err != nil:
			return malformed("%s: event %.64s: %w", eventsFile, e.ID, err)
		case e.Subject != j.index.Key.String():
			j.result.Add(CheckEvents, nil, verify.Failed, "event %.64s of type %.80s is about %.80s", e.ID, e.Type, e.Subject)
			return nil
		case judged && id.Hex() != e.ID:
			j.result.Add(CheckEvents, nil, verify.Failed, "event %.64s of type %.80s is not what it says: its facts give the id %s", e.ID, e.Type, id.Hex())
			return nil
		case judged:
			count++
		default:
			unknown++
		}
	}
	switch {
	case count > 0:
		j.result.Add(CheckEvents, nil, verify.OK, "%d events", count)
	case unknown == 0:
		j.result.Add(CheckEvents, nil, verify.Absent, "0 events: they were pruned")
	}
	if unknown > 0 {
		j.result.Add(CheckEvents, nil, verify.Absent, "%d events of types whose ids are not judged", unknown)
	}
	return nil
}

// idOf computes the id of an event from its data. The error is errors.ErrUnsupported where its
// type is not one of those about a delivery.
func idOf(e cloudEvent) (lodge.Digest, error) {
	if !slices.Contains(ofDeliveries, e.Type) {
		return lodge.Digest{}, errors.ErrUnsupported
	}
	var data struct {
		Key     lodge.Key
		Signer  lodge.Signer
		Target  lodge.Target
		Subject lodge.Digest
		Attempt int
		Receipt *lodge.Receipt
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return lodge.Digest{}, err
	}
	d := lodge.Delivery{Key: data.Key, Signer: data.Signer, Target: data.Target, Subject: data.Subject, Attempt: data.Attempt, Receipt: data.Receipt}
	switch r := d.Receipt; {
	case e.Type == lodge.EntryQueued:
		return lodge.QueuedEvent(d, e.Time).ID, nil
	case e.Type == lodge.EntryFailed || e.Type == lodge.AttemptFailed:
		return lodge.FailedEvent(e.Type, d, e.Time).ID, nil
	case e.Type == lodge.ArtifactPublished && r != nil && r.OCI != nil:
		return lodge.PublishedEvent(d, e.Time).ID, nil
	case e.Type != lodge.ArtifactPublished && r != nil && r.Log != nil:
		return lodge.LogEvent(e.Type, d, e.Time).ID, nil
	}
	return lodge.Digest{}, errors.New("it has no receipt")
}

// ofDeliveries are the types of event whose data is a delivery.
var ofDeliveries = []lodge.EventType{lodge.EntryQueued, lodge.EntryLogged, lodge.InclusionVerified,
	lodge.ArtifactPublished, lodge.EntryFailed, lodge.AttemptFailed}
