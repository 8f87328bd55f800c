package rekor_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

func planV1(t *testing.T, c *rekor.V1, att *bundle.Attestation) lodge.Intent {
	t.Helper()
	intent, err := c.Plan(att)
	if err != nil {
		t.Fatal(err)
	}
	return intent
}

// another returns att with another signature by the same key: for ECDSA, (r,-s) is one too.
func another(t *testing.T, att *bundle.Attestation) *bundle.Attestation {
	t.Helper()
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(att.Signature, &sig); err != nil {
		t.Fatal(err)
	}
	sig.S.Sub(elliptic.P256().Params().N, sig.S)
	der, err := asn1.Marshal(sig)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle.Bundle{Envelope: &dsse.Envelope{
		PayloadType: att.PayloadType, Payload: att.Payload, Signatures: []dsse.Signature{{Sig: der}},
	}}
	other, err := b.SignedBy(att.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	other.Certificates = att.Certificates
	return other
}

func TestV1(t *testing.T) {
	for _, algorithm := range []dsse.Algorithm{
		dsse.ECDSAP256SHA256, dsse.ECDSAP384SHA256, dsse.RSA2048PKCS1, dsse.Ed25519, "certificate",
	} {
		t.Run(string(algorithm), func(t *testing.T) {
			log, c := newV1(t)
			log.Append(body(0), body(1))
			att := certified(t, 1)
			if algorithm != "certificate" {
				key, _ := newKey(t, algorithm)
				att = attest(t, key, statement(1))
			}
			intent := planV1(t, c, att)
			if again := planV1(t, c, att); !cmp.Equal(intent, again) {
				t.Error("a plan differs the second time")
			}
			if found, err := c.Find(t.Context(), att, intent); err != nil || found.Entry != nil {
				t.Fatalf("before: %+v, %v", found, err)
			}
			made, err := c.Send(t.Context(), att, intent)
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, made, log.Key(), intent)
			log.Append(body(2))
			had, err := c.Send(t.Context(), att, intent) // 409
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, had, log.Key(), intent)
			found, err := c.Find(t.Context(), att, intent)
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, found.Entry, log.Key(), intent)
			for _, e := range []*lodge.Entry{made, had, found.Entry} {
				r := e.Receipt
				if r.LogIndex != 1002 || r.InclusionProof.LogIndex != 2 || e.Kind != "dsse" || e.Version != "0.0.1" ||
					!strings.HasSuffix(r.EntryUUID, intent.EntryUUID) || len(r.EntryUUID) != 80 || r.IntegratedTime == 0 || len(e.SET) == 0 {
					t.Errorf("%+v", e)
				}
			}
			if got := log.Bodies()[2]; !bytes.Equal(got, made.Body) || log.Size() != 4 {
				t.Errorf("the log of %d has %s", log.Size(), got)
			}
			asBundled := *made
			asBundled.Receipt.EntryUUID, asBundled.Receipt.LeafHash, asBundled.Receipt.Origin = "", lodge.Digest{}, ""
			att.Entries = []lodge.Entry{asBundled}
			n := log.Requests("")
			adopted, err := c.Adopt(t.Context(), att)
			if err != nil || log.Requests("") != n {
				t.Fatalf("%v after %d requests", err, log.Requests("")-n)
			}
			if diff := cmp.Diff(made, adopted); diff != "" {
				t.Error(diff)
			}
			asBundled.Receipt.InclusionProof = nil // SET only: the proof is fetched
			att.Entries = []lodge.Entry{asBundled}
			if adopted, err = c.Adopt(t.Context(), att); err != nil {
				t.Fatal(err)
			}
			wantProven(t, adopted, log.Key(), intent)
		})
	}
}

func TestV1PlanRefuses(t *testing.T) {
	log, c := newV1(t)
	for _, algorithm := range []dsse.Algorithm{dsse.Ed25519ph, dsse.RSA2048PSS, dsse.ECDSAP384SHA384, dsse.ECDSAP521SHA512, ""} {
		att := attestation(t, 1)
		att.Algorithm = algorithm
		_, err := c.Plan(att)
		wantError(t, err, lodge.ClassPermanent, "key-unsupported")
	}
	key, signer := newKey(t, dsse.ECDSAP256SHA256)
	for _, validity := range [][2]time.Duration{{-2 * time.Hour, -time.Hour}, {time.Hour, 2 * time.Hour}} {
		att := attest(t, key, statement(1))
		att.Certificates = [][]byte{certify(t, "signer.test", signer.Public(), time.Now().Add(validity[0]), time.Now().Add(validity[1]))}
		wantError(t, c.Admit(att), lodge.ClassCertificate, "certificate-expired")
	}
	if n := log.Requests(""); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestFindsExistingV1(t *testing.T) {
	t.Run("after a lost reply", func(t *testing.T) {
		for _, f := range []logtest.Fault{{Apply: true, Lose: true}, {Apply: true, Status: 500}, {Apply: true, Status: 504}} {
			log, c := newV1(t)
			log.Inject(f)
			att := attestation(t, 1)
			intent := planV1(t, c, att)
			_, err := c.Send(t.Context(), att, intent)
			if e := lodge.Classify(err); e.Class != lodge.ClassUnknown {
				t.Errorf("got %v", err)
			}
			found, err := c.Find(t.Context(), att, intent)
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, found.Entry, log.Key(), intent)
		}
	})
	t.Run("signed anew", func(t *testing.T) {
		log, c := newV1(t)
		first := attestation(t, 1)
		intent := planV1(t, c, first)
		if _, err := c.Send(t.Context(), first, intent); err != nil {
			t.Fatal(err)
		}
		second := another(t, first)
		found, err := c.Find(t.Context(), second, lodge.Intent{})
		if err != nil {
			t.Fatal(err)
		}
		wantProven(t, found.Entry, log.Key(), intent)
		as := found.Attestation
		if as == nil || !bytes.Equal(as.Signature, first.Signature) || as.Key != first.Key || len(as.Entries) != 1 {
			t.Fatalf("as %+v", as)
		}
		if _, err := c.Adopt(t.Context(), as); err != nil { // it is whole
			t.Error(err)
		}
		if !bytes.Equal(second.Signature, another(t, first).Signature) {
			t.Error("the attestation that was looked for has changed")
		}
	})
	t.Run("of another signer", func(t *testing.T) {
		_, c := newV1(t)
		if _, err := c.Send(t.Context(), attestation(t, 1), lodge.Intent{}); err != nil {
			t.Fatal(err)
		}
		if found, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{}); err != nil || found.Entry != nil {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// TestFindsExistingKinds logs the same statement as entries of other kinds.
func TestFindsExistingKinds(t *testing.T) {
	att := attestation(t, 1)
	verifier := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: att.PublicKey.SPKI}))
	pae, payload := lodge.DigestOf(att.PAE()).Hex(), lodge.DigestOf(att.Payload).Hex()
	for kind, format := range map[string]string{
		"hashedrekord": `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + pae + `"}},"signature":{"content":"%[1]s","publicKey":{"content":"` + verifier + `"}}}}`,
		"dsse":         `{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":"` + pae + `"},"payloadHash":{"algorithm":"sha256","value":"` + payload + `"},"signatures":[{"signature":"%[1]s","verifier":"` + verifier + `"}]}}`,
		"intoto":       `{"apiVersion":"0.0.2","kind":"intoto","spec":{"content":{"envelope":{"payloadType":"application/vnd.in-toto+json","signatures":[{"publicKey":"` + verifier + `","sig":"%[2]s"}]},"hash":{"algorithm":"sha256","value":"` + pae + `"},"payloadHash":{"algorithm":"sha256","value":"` + payload + `"}}}}`,
	} {
		for _, signed := range []*bundle.Attestation{att, another(t, att)} {
			sig := base64.StdEncoding.EncodeToString(signed.Signature)
			log, c := newV1(t)
			log.Append(body(0), fmt.Appendf(nil, format, sig, base64.StdEncoding.EncodeToString([]byte(sig))))
			found, err := c.Find(t.Context(), att, lodge.Intent{})
			if err != nil || found.Entry == nil || found.Entry.Kind != kind || (found.Attestation != nil) != (signed != att) {
				t.Errorf("%s: %+v, %v", kind, found, err)
			}
			// A signature by nobody, in an entry that is otherwise the same.
			log, c = newV1(t)
			sig = base64.StdEncoding.EncodeToString(append([]byte{0}, signed.Signature...))
			log.Append(fmt.Appendf(nil, format, sig, base64.StdEncoding.EncodeToString([]byte(sig))))
			if found, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil || found.Entry != nil {
				t.Errorf("%s, forged: %+v, %v", kind, found, err)
			}
		}
	}
}

// TestFindsExistingCertificate looks for a statement that the same identity has signed under
// another certificate.
func TestFindsExistingCertificate(t *testing.T) {
	log, plain := newV1(t)
	first, second := certified(t, 1), certified(t, 1)
	first.Signer, second.Signer = "signer.test via ca", "signer.test via ca"
	if _, err := plain.Send(t.Context(), first, lodge.Intent{}); err != nil {
		t.Fatal(err)
	}
	if found, err := plain.Find(t.Context(), second, lodge.Intent{}); err != nil || found.Entry != nil {
		t.Errorf("without a trust root: %+v, %v", found, err)
	}
	for _, c := range []struct {
		signer lodge.Signer
		err    error
		found  bool
	}{
		{"signer.test via ca", nil, true},
		{"somebody via ca", nil, false},
		{"", errors.New("unknown authority"), false},
	} {
		judged, err := rekor.NewV1(rekor.Options{
			URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()},
			Signer: func(cert *x509.Certificate, at time.Time) (lodge.Signer, error) {
				if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
					t.Errorf("judged as of %s", at)
				}
				return c.signer, c.err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		found, err := judged.Find(t.Context(), second, lodge.Intent{})
		if err != nil || (found.Entry != nil) != c.found {
			t.Errorf("%+v: %+v, %v", c, found, err)
		}
		if c.found && !bytes.Equal(found.Attestation.Certificates[0], first.Certificates[0]) {
			t.Errorf("under another certificate than logged")
		}
	}
}

func TestV1SearchIndexDown(t *testing.T) {
	log, c := newV1(t)
	for _, x := range []struct {
		status int
		want   error
	}{{501, nil}, {404, nil}, {400, nil}, {500, &lodge.Error{Class: lodge.ClassRetry, Code: "server-error"}}, {429, &lodge.Error{Class: lodge.ClassRetry, Code: "rate-limited"}},
		{403, &lodge.Error{Class: lodge.ClassHeld, Code: "unauthorized"}}} { // not let look: that is no proof that it is absent
		log.Heal()
		log.Inject(logtest.Fault{Path: "index/retrieve", Status: x.status, Count: -1})
		found, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{})
		if e := (*lodge.Error)(nil); errors.As(x.want, &e) {
			wantError(t, err, e.Class, e.Code)
		} else if err != nil || found.Entry != nil {
			t.Errorf("%d: %+v, %v", x.status, found, err)
		}
	}
}

func TestV1NotIntegrated(t *testing.T) {
	log, c := newV1(t)
	att := attestation(t, 1)
	intent := planV1(t, c, att)
	log.Inject(logtest.Fault{Apply: true, Late: time.Hour, Lose: true}) // queued, the signer stands still
	_, err := c.Send(t.Context(), att, intent)
	wantError(t, err, lodge.ClassUnknown, "no-answer")
	_, err = c.Send(t.Context(), att, intent) // 409, while a GET says 404
	wantError(t, err, lodge.ClassUnknown, "not-integrated")
}

func TestV1PromisedOnly(t *testing.T) {
	log, c := newV1(t)
	att := attestation(t, 1)
	intent := planV1(t, c, att)
	log.Inject(logtest.Fault{Tamper: change(t, func(e map[string]any) { delete(inside(t, e, "verification"), "inclusionProof") })})
	log.Inject(logtest.Fault{Path: "GET /api/v1/log/entries", Status: 404})
	e, err := c.Send(t.Context(), att, intent)
	if err != nil || e.Receipt.InclusionProof != nil || e.Receipt.LogIndex != 1000 || len(e.SET) == 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	found, err := c.Find(t.Context(), att, intent) // as the engine polls
	if err != nil {
		t.Fatal(err)
	}
	wantProven(t, found.Entry, log.Key(), intent)
}

func TestV1Conflict(t *testing.T) {
	att := attestation(t, 1)
	for name, x := range map[string]struct {
		faults []logtest.Fault
		class  lodge.Class
		code   string
	}{
		"another leaf": {[]logtest.Fault{{Status: 409, Header: http.Header{"Location": {"/api/v1/log/entries/" + strings.Repeat("0", 80)}}}},
			lodge.ClassHeld, "log-lies"},
		"no answer afterwards": {[]logtest.Fault{{Status: 409}, {Path: "GET ", Lose: true}}, lodge.ClassUnknown, "no-answer"},
		"refused afterwards":   {[]logtest.Fault{{Status: 409}, {Path: "GET ", Refuse: true}}, lodge.ClassUnknown, "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			log, c := newV1(t)
			for _, f := range x.faults {
				log.Inject(f)
			}
			_, err := c.Send(t.Context(), att, lodge.Intent{})
			wantError(t, err, x.class, x.code)
		})
	}
}

// change returns a tamperer of the one entry in an answer.
func change(t *testing.T, f func(map[string]any)) func([]byte) []byte {
	return func(raw []byte) []byte {
		var entries map[string]map[string]any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&entries); err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			f(e)
		}
		out, err := json.Marshal(entries)
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

// inside returns the object that names lead to.
func inside(t *testing.T, e map[string]any, names ...string) map[string]any {
	t.Helper()
	for _, name := range names {
		var ok bool
		if e, ok = e[name].(map[string]any); !ok {
			t.Fatalf("no %s", name)
		}
	}
	return e
}

// TestV1LyingLog changes one thing in a 201 at a time.
func TestV1LyingLog(t *testing.T) {
	log, c := newV1(t)
	proof := func(name string, value any) func(map[string]any) {
		return func(e map[string]any) {
			inside(t, e, "verification", "inclusionProof")[name] = value
		}
	}
	member := func(name string, value any) func(map[string]any) {
		return func(e map[string]any) { e[name] = value }
	}
	other, err := logtest.NewV1("rekor.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		change func(map[string]any)
		code   string
	}{
		"another body":         {member("body", "e30="), "log-lies"},
		"another log":          {member("logID", other.Key().LogID()), "log-key"},
		"another time":         {member("integratedTime", 1), "log-lies"},
		"another index":        {member("logIndex", 7), "log-lies"},
		"neither":              {member("verification", map[string]any{}), "log-lies"},
		"another leaf index":   {proof("logIndex", 0), "log-lies"},
		"another size":         {proof("treeSize", 1000), "log-lies"},
		"another root":         {proof("rootHash", strings.Repeat("0", 64)), "log-lies"},
		"other hashes":         {proof("hashes", []string{}), "log-lies"},
		"another's checkpoint": {proof("checkpoint", other.Checkpoint()), "log-key"},
	} {
		t.Run(name, func(t *testing.T) {
			log.Append(body(int(log.Size())))
			log.Inject(logtest.Fault{Tamper: change(t, x.change)})
			_, err := c.Send(t.Context(), attestation(t, int(log.Size())), lodge.Intent{})
			wantError(t, err, lodge.ClassHeld, x.code)
		})
	}
	for name, tamper := range map[string]func([]byte) []byte{
		"half":     func(b []byte) []byte { return b[:len(b)/2] },
		"no entry": func([]byte) []byte { return []byte("{}") },
		"two":      func(b []byte) []byte { return bytes.Replace(b, []byte("{"), []byte(`{"x":{},`), 1) },
		"odd hash": change(t, proof("rootHash", "00")),
	} {
		log.Inject(logtest.Fault{Tamper: tamper})
		_, err := c.Send(t.Context(), attestation(t, 1), lodge.Intent{})
		if wantError(t, err, lodge.ClassUnknown, "answer-unreadable"); t.Failed() {
			t.Fatal(name)
		}
	}
	renamed := func(b []byte) []byte { return bytes.Replace(b, []byte(`{"108`), []byte(`{"008`), 1) }
	log.Inject(logtest.Fault{Tamper: renamed})
	_, err = c.Send(t.Context(), attestation(t, 2), lodge.Intent{})
	wantError(t, err, lodge.ClassHeld, "log-lies")
}

func TestV1AdoptRefuses(t *testing.T) {
	log, c := newV1(t)
	att := attestation(t, 1)
	e, err := c.Send(t.Context(), att, lodge.Intent{})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := c.Send(t.Context(), attestation(t, 2), lodge.Intent{})
	if err != nil {
		t.Fatal(err)
	}
	alter := func(change func(*lodge.Entry)) lodge.Entry {
		x := *e
		change(&x)
		return x
	}
	n := log.Requests("")
	for name, entry := range map[string]lodge.Entry{
		"of another statement": *foreign,
		"of another log":       alter(func(e *lodge.Entry) { e.Receipt.LogID = strings.Repeat("0", 64) }),
		"forged timestamp":     alter(func(e *lodge.Entry) { e.SET = append([]byte{0}, e.SET...) }),
		"another time":         alter(func(e *lodge.Entry) { e.Receipt.IntegratedTime++ }),
		"another index":        alter(func(e *lodge.Entry) { e.Receipt.LogIndex++ }),
		"another proof":        alter(func(e *lodge.Entry) { e.Receipt.InclusionProof = foreign.Receipt.InclusionProof }),
		"neither":              alter(func(e *lodge.Entry) { e.Receipt.InclusionProof, e.SET = nil, nil }),
	} {
		att.Entries = []lodge.Entry{entry}
		if got, err := c.Adopt(t.Context(), att); !errors.Is(err, lodge.ErrNotFound) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		var held *lodge.Error
		if _, err := c.Adopt(t.Context(), att); errors.As(err, &held) {
			t.Errorf("%s: a bundle's lie is blamed on the log: %v", name, err)
		}
	}
	if log.Requests("") != n {
		t.Error("the log was asked")
	}
	promised := alter(func(e *lodge.Entry) { e.Receipt.InclusionProof = nil })
	att.Entries = []lodge.Entry{promised}
	log.Inject(logtest.Fault{Path: "GET ", Refuse: true})
	_, err = c.Adopt(t.Context(), att)
	if wantError(t, err, lodge.ClassRetry, "unreachable"); errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("a log that can't be asked has nothing: %v", err)
	}
	log.Inject(logtest.Fault{Path: "GET ", Status: 404})
	if _, err = c.Adopt(t.Context(), att); !errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("a promise that was not kept: %v", err)
	}
	if _, err = c.Adopt(t.Context(), att); err != nil {
		t.Error(err)
	}
}
