package deliver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/logtest"
)

// validity is how long a certificate of Fulcio's kind lasts.
const validity = 10 * time.Minute

// keyless returns a statement signed under a certificate that is valid from now on. Who vouches
// for it was asked before it is accepted, so nobody is here.
func (w *world) keyless(n int) *bundle.Attestation {
	w.t.Helper()
	b, err := bundle.Parse(w.statement(n))
	must(w.t, err)
	public, err := x509.ParsePKIXPublicKey(w.key.Public().SPKI)
	must(w.t, err)
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(w.t, err)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "signer.test"}, URIs: []*url.URL{{Scheme: "https", Host: "signer.test"}},
		NotBefore: now, NotAfter: now.Add(validity),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}}, public, ca)
	must(w.t, err)
	b.Certificates = [][]byte{der}
	att, err := b.SignedByCertificate()
	must(w.t, err)
	att.Signer = "https://signer.test via ca"
	if w.version == 2 {
		att.Timestamps = [][]byte{{0x30, 0}} // nobody here looks into it
	}
	return att
}

// acceptKeyless takes it for the log, with entries that logs have of it.
func (i *instance) acceptKeyless(att *bundle.Attestation, entries ...lodge.Entry) []lodge.Accepted {
	i.w.t.Helper()
	raw, err := att.Encode(entries...)
	must(i.w.t, err)
	accepted, err := i.Accept(i.w.t.Context(), lodge.Submission{Key: att.Key, Signer: att.Signer, Raw: raw, Subjects: att.Statement.Subjects}, []lodge.Order{{Target: logTarget}})
	must(i.w.t, err)
	return accepted
}

// TestKeylessWhileLogIsDown: a bundle that was signed a moment ago arrives while its log is
// down. It is logged when the log is back in time; later a log that states the time would
// make an entry that nobody can verify, so nothing is sent there.
func TestKeylessWhileLogIsDown(t *testing.T) {
	for _, outage := range []time.Duration{validity / 2, 2 * validity} {
		onBoth(t, func(t *testing.T, w *world) {
			i, stop := w.open(w.newPath(), nil)
			defer stop()
			w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
			a := i.acceptKeyless(w.keyless(1))
			pass(outage)
			w.log.Heal()
			a[0].Delivery = i.await(a[0].Delivery)
			if w.version == 2 || outage < validity {
				w.verified(a...)
				w.leaves(1)
				return
			}
			if a[0].State != lodge.Failed || a[0].Err.Class != lodge.ClassCertificate || a[0].Sends > 0 {
				t.Errorf("after its certificate had expired: %s, sent %d times: %v", a[0].State, a[0].Sends, a[0].Err)
			}
			w.leaves(0)
		})
	}
}

// TestKeylessEntryWhileLogIsDown: a bundle that brings its entry along needs no log.
func TestKeylessEntryWhileLogIsDown(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		att := w.keyless(1)
		i, stop := w.open(w.newPath(), nil)
		a := i.acceptKeyless(att)
		a[0].Delivery = i.await(a[0].Delivery)
		w.verified(a...)
		proof, err := i.store.Proof(t.Context(), a[0].ID)
		must(t, err)
		proof.Entry.Receipt = *a[0].Receipt.Log
		stop()

		pass(24 * time.Hour)
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		asked := w.log.Requests("")
		other, stop := w.open(w.newPath(), nil)
		defer stop()
		b := other.acceptKeyless(att, proof.Entry)
		b[0].Delivery = other.await(b[0].Delivery)
		w.verified(b...)
		if !b[0].Adopted || b[0].Receipt.Log.LogIndex != a[0].Receipt.Log.LogIndex {
			t.Errorf("%+v", b[0].Delivery)
		}
		if n := w.log.Requests("") - asked; n > 0 {
			t.Errorf("the log was asked %d times", n)
		}
		w.leaves(1)
		kept, err := other.store.Proof(t.Context(), b[0].ID)
		if err != nil || !bytes.Equal(kept.Entry.Body, proof.Entry.Body) {
			t.Errorf("kept %q, %v", kept.Entry.Body, err)
		}
	})
}
