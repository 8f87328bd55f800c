package deliver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/oci"
)

// TestFreshStoreAdopts is a CI job without memory: the registry leads it to what another
// store has done, also where the statement was signed anew.
func TestFreshStoreAdopts(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		first := i.push(w.statement(1), true)
		stop()
		w.verified(first...)
		for name, raw := range map[string][]byte{"same envelope": w.statement(1), "signed anew": w.signedAnew(1)} {
			other, stop := w.open(w.newPath(), nil)
			d := other.push(raw, true)
			stop()
			w.verified(d...)
			if !d[0].Duplicate() || !d[1].Duplicate() || d[0].Sends+d[1].Sends > 0 {
				t.Errorf("%s: %+v", name, d)
			}
			if d[0].Receipt.Log.LogIndex != first[0].Receipt.Log.LogIndex || d[1].Receipt.OCI.Digest != first[1].Receipt.OCI.Digest {
				t.Errorf("%s: other receipts: %+v, %+v", name, d[0].Receipt.Log, d[1].Receipt.OCI)
			}
		}
		w.leaves(1)
		if got := w.referrers(); len(got) != 1 {
			t.Errorf("referrers %v, want one", got)
		}
	})
}

// TestFreshStoreFinds has no registry to ask: the log itself leads to the entry.
func TestFreshStoreFinds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for n := range 3 {
			i, stop := w.open(w.newPath(), nil)
			d := i.push(w.statement(1), false)
			stop()
			w.log.Forget() // the log's own deduplication must not matter
			w.verified(d...)
			if d[0].Duplicate() != (n > 0) {
				t.Errorf("store %d: duplicate = %v", n, d[0].Duplicate())
			}
		}
		w.leaves(1)
	})
}

// attested returns an envelope as signed by the key.
func (w *world) attested(raw []byte, key *dsse.PublicKey) *bundle.Attestation {
	w.t.Helper()
	b, err := bundle.Parse(raw)
	must(w.t, err)
	att, err := attest(b, key)
	must(w.t, err)
	return att
}

// attach puts an attestation into the registry as if it were another one.
func (w *world) attach(att, as *bundle.Attestation) lodge.Digest {
	w.t.Helper()
	forged := *att
	forged.Key = as.Key
	repo, err := oci.New(repository, oci.Options{Transport: w.registry})
	must(w.t, err)
	intent, err := repo.Plan(w.t.Context(), &forged, w.image)
	must(w.t, err)
	receipt, err := repo.Send(w.t.Context(), as.Key, as.Signer, w.image, intent)
	must(w.t, err)
	return receipt.Digest
}

// TestForgedArtifact: what somebody else has put under the key tag, with the right
// annotation, is not taken for the artifact unless it is this payload under this signer's
// signature.
func TestForgedArtifact(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		att := w.attested(w.statement(1), w.key.Public())
		other := signers()[1].PrivateKey
		theirs, err := dsse.Sign(att.PayloadType, att.Payload, other)
		must(t, err)
		forged := []lodge.Digest{w.attach(w.attested(theirs, other.Public()), att), w.attach(w.attested(w.statement(2), w.key.Public()), att)}

		i, stop := w.open(w.newPath(), nil)
		defer stop()
		a, err := i.Accept(t.Context(), lodge.Submission{Key: att.Key, Signer: att.Signer, Raw: w.statement(1), SPKI: att.PublicKey.SPKI},
			[]lodge.Order{{Target: ociTarget, Subject: w.image}})
		must(t, err)
		a[0].Delivery = i.await(a[0].Delivery)
		w.verified(a...)
		if a[0].Adopted || slices.Contains(forged, a[0].Receipt.OCI.Digest) {
			t.Errorf("%s was taken over, of %v", a[0].Receipt.OCI.Digest, forged)
		}
	})
}

// TestArtifactWithoutProof: an artifact that lacks the proof of a log that is required stays
// where it is, and one that has it takes its place under the key tag.
func TestArtifactWithoutProof(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		att := w.attested(w.statement(1), w.key.Public())
		bare := w.attach(att, att)
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		a := i.push(w.statement(1), true)
		w.verified(a...)
		if got := w.referrers(); len(got) != 2 || a[1].Adopted || a[1].Receipt.OCI.Digest == bare {
			t.Fatalf("%s was taken over; %d referrers", bare, len(got))
		}
		repo, err := oci.New(repository, oci.Options{Transport: w.registry})
		must(t, err)
		for c, err := range repo.Candidates(t.Context(), att.Key, att.Signer, w.image) {
			must(t, err)
			b, err := bundle.Parse(c.Bundle)
			must(t, err)
			if len(b.Entries) != 1 || b.Entries[0].Receipt.LogID != w.log.Key().LogID() {
				t.Errorf("the key tag leads to a bundle with %d entries", len(b.Entries))
			}
			break
		}
	})
}

// unlistable is a registry without the Referrers API that takes no index.
type unlistable struct{ http.RoundTripper }

func (u unlistable) RoundTrip(r *http.Request) (*http.Response, error) {
	var status int
	switch {
	case strings.Contains(r.URL.Path, "/referrers/"):
		status = http.StatusNotFound
	case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-"):
		status = http.StatusConflict
	default:
		return u.RoundTripper.RoundTrip(r)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// TestUnlistable: what a registry refuses to list for good fails each time that it is handed in, also
// where the artifact is found by then.
func TestUnlistable(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		mended := w.registry
		w.registry = unlistable{mended}
		path := w.newPath()
		i, stop := w.open(path, nil)
		for n := range 3 {
			d := i.push(w.statement(1), true)
			if d[1].State != lodge.Failed || d[1].Err.Class != lodge.ClassPermanent {
				t.Errorf("try %d: %s, %v", n, d[1].State, d[1].Err)
			}
		}
		stop()
		w.registry = mended
		i, stop = w.open(path, nil)
		defer stop()
		w.verified(i.push(w.statement(1), true)...)
		if got := w.referrers(); len(got) != 1 {
			t.Errorf("referrers %q, want one", got)
		}
	})
}
