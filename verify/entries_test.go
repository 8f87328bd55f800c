package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/testing/ca"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// signedFile is the body of a hashedrekord 0.0.2 entry, and a bundle around its signature.
func signedFile(t *testing.T, key *ecdsa.PrivateKey, file []byte) (body, message []byte) {
	t.Helper()
	digest := sha256.Sum256(file)
	sig := must[[]byte](t)(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	b64 := base64.StdEncoding.EncodeToString
	body = fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},`+
		`"signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"%s"}}}}}}`,
		b64(digest[:]), b64(sig), b64(public(t, key).SPKI))
	return body, fmt.Appendf(nil, `{"messageDigest":{"algorithm":"SHA2_256","digest":"%s"},"signature":"%s"}`, b64(digest[:]), b64(sig))
}

// inLog returns the entry of body, alone in the log, and its JSON.
func inLog(t *testing.T, l *logtest.Log, body []byte) (lodge.Entry, string) {
	t.Helper()
	l.Append(body)
	cp := must[tlog.Checkpoint](t)(l.Key().Open([]byte(l.Checkpoint())))
	e := lodge.Entry{Kind: "hashedrekord", Version: "0.0.2", Body: body, Receipt: lodge.LogReceipt{
		Origin: cp.Origin, LogID: l.Key().LogID(), LeafHash: tlog.LeafHash(body),
		InclusionProof: &lodge.InclusionProof{TreeSize: 1, RootHash: cp.Root, Checkpoint: cp.Note},
	}}
	note := must[[]byte](t)(json.Marshal(cp.Note))
	return e, fmt.Sprintf(`{"logIndex":"0","logId":{"keyId":%q},"kindVersion":{"kind":"hashedrekord","version":"0.0.2"},"inclusionPromise":null,`+
		`"inclusionProof":{"logIndex":"0","rootHash":%q,"treeSize":"1","hashes":[],"checkpoint":{"envelope":%s}},"canonicalizedBody":%q}`,
		b64hex(t, l.Key().LogID()), base64.StdEncoding.EncodeToString(cp.Root[:]), note, base64.StdEncoding.EncodeToString(body))
}

func b64hex(t *testing.T, digits string) string {
	t.Helper()
	d := must[lodge.Digest](t)(lodge.ParseDigest("sha256:" + digits))
	return base64.StdEncoding.EncodeToString(d[:])
}

// TestEntries: an entry as a log answers with it, judged by what is in it.
func TestEntries(t *testing.T) {
	key, stranger := newKey(t), newKey(t)
	file := []byte("what was signed")
	body, _ := signedFile(t, key, file)
	l := must[*logtest.Log](t)(logtest.NewV2("log.test"))
	e, answer := inLog(t, l, body)
	if got := must[[]lodge.Entry](t)(rekor.ParseAnswer([]byte(answer))); got[0].Receipt.LeafHash != e.Receipt.LeafHash {
		t.Fatalf("%+v", got)
	}
	change := func(by func(*lodge.Entry)) []lodge.Entry {
		changed := e
		by(&changed)
		return []lodge.Entry{changed}
	}
	logs := []tlog.Key{l.Key()}
	for _, tt := range []struct {
		name    string
		entries []lodge.Entry
		trust   verify.Trust
		ok      bool
		want    []string
	}{
		{"as it is", []lodge.Entry{e}, verify.Trust{Logs: logs}, true,
			[]string{"signature ok", "artifact absent", "certificate absent", "identity absent", "binding ok", "checkpoint ok", "inclusion ok", "SET absent"}},
		{"its file", []lodge.Entry{e}, verify.Trust{Logs: logs, Artifact: file}, true, []string{"artifact ok"}},
		{"another file", []lodge.Entry{e}, verify.Trust{Logs: logs, Artifact: []byte("another")}, false, []string{"artifact failed"}},
		{"its key", []lodge.Entry{e}, verify.Trust{Logs: logs, Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}}, true, []string{"identity ok"}},
		{"another key", []lodge.Entry{e}, verify.Trust{Logs: logs, Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, stranger)}}}, false, []string{"identity failed"}},
		{"another log", []lodge.Entry{e}, verify.Trust{}, false, []string{"checkpoint absent"}},
		{"another kind than its body's", change(func(e *lodge.Entry) { e.Kind = "jar" }), verify.Trust{Logs: logs}, false, []string{"binding failed"}},
		{"a body that is not read", change(func(e *lodge.Entry) { e.Kind, e.Body = "", []byte(`{"apiVersion":"0.0.1","kind":"tuf","spec":{}}`) }),
			verify.Trust{Logs: logs}, false, []string{"binding failed"}},
		{"another name", change(func(e *lodge.Entry) { e.Receipt.EntryUUID = strings.Repeat("0", 64) }), verify.Trust{Logs: logs}, false, []string{"binding failed"}},
		{"one good and one bad", append(change(func(e *lodge.Entry) { e.Receipt.LogIndex = 7 }), e), verify.Trust{Logs: logs}, false, []string{"inclusion failed", "inclusion ok"}},
		{"none", nil, verify.Trust{Logs: logs}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.trust.Bind, tt.trust.Signed = rekor.BindEntry, rekor.Signed
			check(t, verify.Entries(tt.entries, tt.trust), tt.ok, tt.want)
		})
	}
}

// TestMessageSignature: a bundle that signs a file and no envelope.
func TestMessageSignature(t *testing.T) {
	key := newKey(t)
	file := []byte("what was signed")
	body, message := signedFile(t, key, file)
	l := must[*logtest.Log](t)(logtest.NewV2("log.test"))
	_, entry := inLog(t, l, body)
	raw := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"x"},"tlogEntries":[%s]},"messageSignature":%s}`, bundle.MediaType, entry, message)
	trust := verify.Trust{Bind: rekor.BindEntry, Logs: []tlog.Key{l.Key()}, Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}}

	check(t, must[verify.Result](t)(verify.Bundle(raw, trust)), true, []string{"signature ok", "artifact absent", "binding ok", "inclusion ok", "identity ok"})
	trust.Artifact = file
	check(t, must[verify.Result](t)(verify.Bundle(raw, trust)), true, []string{"artifact ok"})
	trust.Artifact = []byte("another")
	check(t, must[verify.Result](t)(verify.Bundle(raw, trust)), false, []string{"artifact failed"})
	trust.Artifact = nil
	_, other := signedFile(t, key, []byte("another"))
	check(t, must[verify.Result](t)(verify.Bundle([]byte(strings.Replace(string(raw), string(message), string(other), 1)), trust)), false, []string{"binding failed"})
	trust.Signers.Keys = []*dsse.PublicKey{public(t, newKey(t))}
	check(t, must[verify.Result](t)(verify.Bundle(raw, trust)), false, []string{"signature failed"})
}

// TestIdentity: who signed is who was asked for, or is not.
func TestIdentity(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	sig := signature(t, key)
	b := envelope(sig)
	b.Certificates, b.Timestamps = [][]byte{w.certificate(key, time.Now().Add(-time.Minute))}, [][]byte{must[[]byte](t)(w.sigs.TimestampResponse(sig))}
	raw := must[[]byte](t)(must[*bundle.Attestation](t)(verify.Signers{}.Attest(b)).Encode())
	for _, tt := range []struct {
		asked []verify.Identity
		ok    bool
		want  string
	}{
		{nil, true, "identity absent"},
		{[]verify.Identity{{Identity: identity, Issuer: issuer}}, true, "identity ok"},
		{[]verify.Identity{{Identity: "b@example.com", Issuer: issuer}}, false, "identity failed"},
		{[]verify.Identity{{Identity: identity, Issuer: "https://elsewhere.example.com"}}, false, "identity failed"},
	} {
		r := must[verify.Result](t)(verify.Bundle(raw, verify.Trust{Signers: verify.Signers{Root: withoutLogs(w.root, w), Identities: tt.asked}}))
		check(t, r, tt.ok, []string{tt.want, "certificate ok"})
	}
}

// TestTimestampWithoutRoot: without a trusted root a timestamp is judged as far as it goes.
func TestTimestampWithoutRoot(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	sig := signature(t, key)
	b := envelope(sig)
	b.Certificates = [][]byte{w.certificate(key, time.Now())}
	for _, tt := range []struct {
		over []byte
		ok   bool
		want string
	}{{sig, true, "timestamp absent"}, {[]byte("something else"), false, "timestamp failed"}} {
		b.Timestamps = [][]byte{must[[]byte](t)(w.sigs.TimestampResponse(tt.over))}
		raw := must[[]byte](t)(must[*bundle.Attestation](t)(verify.Signers{}.Attest(b)).Encode())
		r := must[verify.Result](t)(verify.Bundle(raw, verify.Trust{}))
		check(t, r, tt.ok, []string{tt.want, "certificate absent"})
		if i := slices.IndexFunc(r.Checks, func(c verify.Check) bool { return c.Name == verify.CheckTimestamp }); tt.ok && !strings.Contains(r.Checks[i].Reason, "no trusted root") {
			t.Errorf("reason %q", r.Checks[i].Reason)
		}
	}
}

// TestRootInChain: a bundle that brings its own root is refused, whatever it is good for.
func TestRootInChain(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	b := envelope(signature(t, key))
	b.Certificates = [][]byte{w.certificate(key, time.Now()), w.issuing.Raw}
	_, err := verify.Signers{Root: w.root}.Attest(b)
	if err == nil || !strings.Contains(err.Error(), "its own root certificate") {
		t.Errorf("error %v", err)
	}
}

// FuzzImprint: whatever a timestamp is, it is over this signature or refused.
func FuzzImprint(f *testing.F) {
	sigs := must[*ca.VirtualSigstore](f)(ca.NewVirtualSigstore())
	f.Add(must[[]byte](f)(sigs.TimestampResponse([]byte("signature"))))
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, ts []byte) {
		if _, err := verify.Imprint(ts, []byte("another signature")); err == nil {
			t.Error("it is taken")
		}
	})
}
