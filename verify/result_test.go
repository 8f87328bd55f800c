package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// entryV2 logs att in a v2 log and returns the entry. Its tree has one leaf more than att's.
func entryV2(t testing.TB, l *logtest.Log, att *bundle.Attestation) lodge.Entry {
	t.Helper()
	b := body(t, att)
	l.Append(b)
	cp := must[tlog.Checkpoint](t)(l.Key().Open([]byte(l.Checkpoint())))
	if cp.Size != 1 {
		t.Fatalf("the log has %d leaves; this makes proofs for one", cp.Size)
	}
	return lodge.Entry{
		Kind: "test", Version: "1", Body: b,
		Receipt: lodge.LogReceipt{
			Origin: cp.Origin, LogID: l.Key().LogID(), LeafHash: tlog.LeafHash(b),
			InclusionProof: &lodge.InclusionProof{TreeSize: 1, RootHash: cp.Root, Checkpoint: cp.Note},
		},
	}
}

// logV1 is the key of a v1 log, and what signs with it.
type logV1 struct {
	*ecdsa.PrivateKey
	id [32]byte
}

func newLogV1(t *testing.T) logV1 {
	t.Helper()
	key := newKey(t)
	return logV1{key, sha256.Sum256(public(t, key).SPKI)}
}

func (l logV1) sign(t *testing.T, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	return must[[]byte](t)(l.Sign(rand.Reader, digest[:], crypto.SHA256))
}

// entry logs att in a tree of its own, at a time. jcs is the oracle for what a SET is over.
func (l logV1) entry(t *testing.T, att *bundle.Attestation, at time.Time) lodge.Entry {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	b := body(t, att)
	leaf := tlog.LeafHash(b)
	const host = "rekor.test"
	text := host + " - 17\n1\n" + b64(leaf[:]) + "\n"
	note := text + "\n— " + host + " " + b64(append(l.id[:4:4], l.sign(t, []byte(text))...)) + "\n"
	promise := must[[]byte](t)(json.Marshal(map[string]any{
		"logIndex": 5_000_000_000, "body": b64(b), "logID": hex.EncodeToString(l.id[:]), "integratedTime": at.Unix(),
	}))
	return lodge.Entry{
		Kind: "test", Version: "1", Body: b, SET: l.sign(t, must[[]byte](t)(jcs.Transform(promise))),
		Receipt: lodge.LogReceipt{
			Origin: host + " - 17", LogID: hex.EncodeToString(l.id[:]), LogIndex: 5_000_000_000, IntegratedTime: at.Unix(), LeafHash: leaf,
			InclusionProof: &lodge.InclusionProof{TreeSize: 1, RootHash: leaf, Checkpoint: note},
		},
	}
}

// entryV2 logs att in a v2 log's tree with the same key, which has the same id.
func (l logV1) entryV2(t *testing.T, att *bundle.Attestation) lodge.Entry {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	e := l.entry(t, att, time.Now())
	text := "v2.test\n1\n" + b64(e.Receipt.LeafHash[:]) + "\n"
	e.SET, e.Receipt.Origin, e.Receipt.LogIndex, e.Receipt.IntegratedTime = nil, "v2.test", 0, 0
	e.Receipt.InclusionProof.Checkpoint = text + "\n— v2.test " + b64(append(l.id[:4:4], l.sign(t, []byte(text))...)) + "\n"
	return e
}

// outcomes renders the checks that matter to a test, "name outcome" each.
func outcomes(r verify.Result) (all []string) {
	for _, c := range r.Checks {
		all = append(all, string(c.Name)+" "+string(c.Outcome))
	}
	return all
}

func TestBundle(t *testing.T) {
	key := newKey(t)
	signers := verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}
	att := must[*bundle.Attestation](t)(signers.Attest(envelope(signature(t, key))))
	v1, v2 := newLogV1(t), must[*logtest.Log](t)(logtest.NewV2("log.test"))
	keyV1 := must[tlog.Key](t)(tlog.NewV1Key("", v1.Public()))
	publicV2 := must[crypto.PublicKey](t)(tlog.ParsePublicKey(v2.PublicPEM()))
	e1, e2 := v1.entry(t, att, time.Now()), entryV2(t, v2, att)
	logs := []tlog.Key{keyV1, v2.Key()}

	change := func(e lodge.Entry, by func(*lodge.Entry)) lodge.Entry {
		proof := *e.Receipt.InclusionProof
		e.Receipt.InclusionProof = &proof
		by(&e)
		return e
	}
	for _, tt := range []struct {
		name    string
		entries []lodge.Entry
		trust   verify.Trust
		ok      bool
		want    []string // among the outcomes
	}{
		{"v2", []lodge.Entry{e2}, verify.Trust{Logs: logs}, true,
			[]string{"signature ok", "timestamp absent", "certificate absent", "binding ok", "inclusion ok", "checkpoint ok", "SET absent"}},
		{"v1", []lodge.Entry{e1}, verify.Trust{Logs: logs}, true,
			[]string{"binding ok", "inclusion ok", "checkpoint ok", "SET ok"}},
		{"by key alone", []lodge.Entry{e1, e2}, verify.Trust{LogKeys: []crypto.PublicKey{v1.Public(), publicV2}}, true,
			[]string{"inclusion ok"}},
		{"v2 with a key on P-256, by key alone", []lodge.Entry{v1.entryV2(t, att)}, verify.Trust{LogKeys: []crypto.PublicKey{v1.Public()}}, true,
			[]string{"checkpoint ok", "inclusion ok"}},
		{"no entry, and no log asked for", nil, verify.Trust{}, true, []string{"inclusion absent"}},
		{"no entry, and a log asked for", nil, verify.Trust{Logs: logs}, false, []string{"inclusion absent"}},
		{"a log that is not trusted", []lodge.Entry{e2}, verify.Trust{Logs: logs[:1]}, false, []string{"checkpoint absent"}},
		{"one that is beside one that is not", []lodge.Entry{e1, e2}, verify.Trust{Logs: logs[:1]}, true,
			[]string{"checkpoint absent", "checkpoint ok"}},
		{"another log's key with its origin", []lodge.Entry{e2}, verify.Trust{LogKeys: []crypto.PublicKey{v1.Public()}}, false,
			[]string{"checkpoint absent"}},
		{"another leaf", []lodge.Entry{change(e2, func(e *lodge.Entry) { e.Body = append(slices.Clone(e.Body), ' ') })},
			verify.Trust{Logs: logs}, false, []string{"binding ok", "inclusion failed"}},
		{"another envelope's entry", []lodge.Entry{change(e2, func(e *lodge.Entry) { e.Body = []byte("{}") })},
			verify.Trust{Logs: logs}, false, []string{"binding failed", "inclusion failed"}},
		{"checkpoint of another tree", []lodge.Entry{change(e2, func(e *lodge.Entry) { e.Receipt.InclusionProof.Checkpoint = otherCheckpoint(t, v2) })},
			verify.Trust{Logs: logs}, false, []string{"checkpoint failed"}},
		{"unsigned checkpoint", []lodge.Entry{change(e2, func(e *lodge.Entry) {
			e.Receipt.InclusionProof.Checkpoint = strings.Replace(e.Receipt.InclusionProof.Checkpoint, "log.test\n1", "log.test\n2", 1)
		})}, verify.Trust{Logs: logs}, false, []string{"checkpoint failed"}},
		{"index that is not the proof's", []lodge.Entry{change(e2, func(e *lodge.Entry) { e.Receipt.LogIndex = 3 })},
			verify.Trust{Logs: logs}, false, []string{"inclusion failed"}},
		{"wrong SET", []lodge.Entry{change(e1, func(e *lodge.Entry) { e.Receipt.IntegratedTime++ })},
			verify.Trust{Logs: logs}, false, []string{"SET failed", "inclusion ok"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.trust.Signers, tt.trust.Bind = signers, contains
			r := must[verify.Result](t)(verify.Bundle(must[[]byte](t)(att.Encode(tt.entries...)), tt.trust))
			check(t, r, tt.ok, tt.want)
			if r.Key != att.Key || r.Signer != att.Signer {
				t.Errorf("key %s, signer %s", r.Key, r.Signer)
			}
		})
	}
}

func check(t *testing.T, r verify.Result, ok bool, want []string) {
	t.Helper()
	got := outcomes(r)
	if r.OK != ok || slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(got, w) }) {
		text, _ := json.MarshalIndent(r, "", " ")
		t.Errorf("OK is %t, want %t with %q:\n%s", r.OK, ok, want, text)
	}
}

// otherCheckpoint returns one that the log signed for a larger tree.
func otherCheckpoint(t *testing.T, l *logtest.Log) string {
	t.Helper()
	fork := l.Fork(1)
	fork.Append([]byte("another leaf"))
	return fork.Checkpoint()
}

// TestBundlePromise: a v1 entry with the log's promise and no proof that anybody signed, as
// bundles v0.1 and v0.2 may have it.
func TestBundlePromise(t *testing.T) {
	key := newKey(t)
	trust := verify.Trust{Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}, Bind: contains}
	att := must[*bundle.Attestation](t)(trust.Signers.Attest(envelope(signature(t, key))))
	l := newLogV1(t)
	trust.LogKeys = []crypto.PublicKey{l.Public()}
	raw := string(must[[]byte](t)(att.Encode(l.entry(t, att, time.Now()))))

	type change [2]string // what of its JSON becomes what
	var (
		noCheckpoint = change{`"checkpoint":\{[^}]*\},`, ""}
		noProof      = change{`"inclusionProof":\{[^{}]*(\{[^}]*\})?[^{}]*\},`, ""}
		noPromise    = change{`"inclusionPromise":\{[^}]*\},`, ""}
		otherRoot    = change{`"rootHash":"[^"]*"`, `"rootHash":"` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `"`}
	)
	for _, tt := range []struct {
		changes []change
		ok      bool
		want    []string
	}{
		{nil, true, []string{"SET ok", "inclusion ok", "checkpoint ok"}},
		{[]change{noCheckpoint}, true, []string{"SET ok", "inclusion absent"}},
		{[]change{noCheckpoint, otherRoot}, false, []string{"SET ok", "inclusion failed"}},
		{[]change{noProof}, true, []string{"SET ok", "inclusion absent"}},
		{[]change{noProof, noPromise}, false, []string{"SET absent", "inclusion absent"}},
	} {
		changed := raw
		for _, c := range tt.changes {
			next := regexp.MustCompile(c[0]).ReplaceAllString(changed, c[1])
			if next == changed {
				t.Fatalf("%s is not in %s", c[0], changed)
			}
			changed = next
		}
		check(t, must[verify.Result](t)(verify.Bundle([]byte(changed), trust)), tt.ok, tt.want)
	}
}

// TestBundleCertificate: what says when it was signed, and what does not.
func TestBundleCertificate(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	now := time.Now()
	sig := signature(t, key)
	l := newLogV1(t)
	stamped := must[[]byte](t)(w.sigs.TimestampResponse(sig))
	foreign := must[[]byte](t)(newWorld(t).sigs.TimestampResponse(sig))
	for _, tt := range []struct {
		name       string
		from       time.Time // of the certificate's ten minutes
		timestamps [][]byte
		logged     time.Time
		root       *verify.Root
		ok         bool
		want       []string
		signer     lodge.Signer
	}{
		{"stamped", now.Add(-time.Minute), [][]byte{stamped}, time.Time{}, w.root, true, []string{"timestamp ok", "certificate ok"}, certified},
		{"stamped too late", now.Add(-time.Hour), [][]byte{stamped}, time.Time{}, w.root, false, []string{"timestamp ok", "certificate failed"}, ""},
		{"stamped by a stranger", now.Add(-time.Minute), [][]byte{foreign}, time.Time{}, w.root, false, []string{"timestamp failed"}, ""},
		{"stamped by a stranger too", now.Add(-time.Minute), [][]byte{foreign, stamped}, time.Time{}, w.root, true, []string{"timestamp ok", "timestamp absent"}, certified},
		{"logged in time", now.Add(-time.Hour), nil, now.Add(-55 * time.Minute), w.root, true, []string{"certificate ok", "timestamp absent"}, certified},
		{"logged too late", now.Add(-time.Hour), nil, now, w.root, false, []string{"certificate failed"}, ""},
		{"no root", now.Add(-time.Hour), [][]byte{stamped}, now, nil, true, []string{"certificate absent", "timestamp absent"}, public(t, key).Signer()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := envelope(sig)
			b.Certificates, b.Timestamps = [][]byte{w.certificate(key, tt.from)}, tt.timestamps
			att := must[*bundle.Attestation](t)(verify.Signers{}.Attest(b))
			var entries []lodge.Entry
			if !tt.logged.IsZero() {
				entries = append(entries, l.entry(t, att, tt.logged))
			}
			trust := verify.Trust{Signers: verify.Signers{Root: tt.root}, Bind: contains}
			if tt.root != nil || entries != nil {
				trust.LogKeys = []crypto.PublicKey{l.Public()}
			}
			if entries == nil {
				trust.LogKeys = nil
				trust.Signers.Root = withoutLogs(tt.root, w)
			}
			r := must[verify.Result](t)(verify.Bundle(must[[]byte](t)(att.Encode(entries...)), trust))
			check(t, r, tt.ok, tt.want)
			if tt.ok && r.Signer != tt.signer {
				t.Errorf("signer %s, want %s", r.Signer, tt.signer)
			}
		})
	}
}

// withoutLogs returns the world's root as an instance without a transparency log has it.
func withoutLogs(r *verify.Root, w *world) *verify.Root {
	if r == nil {
		return nil
	}
	return verify.NewRoot(logless{material{VirtualSigstore: w.sigs, authority: &root.FulcioCertificateAuthority{Root: w.issuing}}})
}

type logless struct{ material }

func (logless) RekorLogs() map[string]*root.TransparencyLog { return nil }

// TestBundleRefuses: what can't be read is an error, and a signature by nobody a failed check.
func TestBundleRefuses(t *testing.T) {
	if _, err := verify.Bundle([]byte("{"), verify.Trust{}); !errors.Is(err, lodge.ErrMalformed) {
		t.Errorf("error %v", err)
	}
	key := newKey(t)
	att := must[*bundle.Attestation](t)(verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}.Attest(envelope(signature(t, key))))
	raw := must[[]byte](t)(att.Encode())
	r := must[verify.Result](t)(verify.Bundle(raw, verify.Trust{Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, newKey(t))}}}))
	check(t, r, false, []string{"signature failed"})

	// Without anything that reads entries, none is accepted.
	l := newLogV1(t)
	raw = must[[]byte](t)(att.Encode(l.entry(t, att, time.Now())))
	r = must[verify.Result](t)(verify.Bundle(raw, verify.Trust{
		Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}, LogKeys: []crypto.PublicKey{l.Public()}}))
	check(t, r, false, []string{"binding failed", "SET ok"})
}

// FuzzBundle: whatever is done to a bundle, one that passes has the content that was signed.
func FuzzBundle(f *testing.F) {
	key := must[*ecdsa.PrivateKey](f)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := sha256.Sum256(dsse.PAE(payloadType, []byte(payload)))
	trust := verify.Trust{Bind: contains, Signers: verify.Signers{Keys: []*dsse.PublicKey{must[*dsse.PublicKey](f)(dsse.NewPublicKey(key.Public()))}}}
	att := must[*bundle.Attestation](f)(trust.Signers.Attest(envelope(must[[]byte](f)(key.Sign(rand.Reader, digest[:], crypto.SHA256)))))
	l := must[*logtest.Log](f)(logtest.NewV2("log.test"))
	trust.Logs = []tlog.Key{l.Key()}
	f.Add(must[[]byte](f)(att.Encode(entryV2(f, l, att))))
	f.Add(must[[]byte](f)(att.Encode()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := verify.Bundle(raw, trust)
		if err != nil || !r.OK {
			return
		}
		b, err := bundle.Parse(raw)
		if err != nil || b.Envelope.PayloadType != payloadType || string(b.Envelope.Payload) != payload || r.Key != att.Key {
			t.Errorf("it passes: %s", raw)
		}
	})
}

// TestBundleVectors judges real entries, where they are at hand: each check must come out as
// their index says.
func TestBundleVectors(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "vectors")
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no vectors here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var index []struct {
		File      string
		Log, Kind string
		Expect    struct {
			Inclusion, Checkpoint, Set, Binding, ContentSignature string
			TlogOK                                                bool
		}
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	prod, staging := readRoot(t, dir, "prod"), readRoot(t, dir, "staging")
	seen := 0
	for _, v := range index {
		raw, err := os.ReadFile(filepath.Join(dir, v.File))
		if err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Parse(raw)
		if err != nil {
			continue // a message, or no bundle at all: not for this package
		}
		seen++
		trust := verify.Trust{Signers: verify.Signers{Root: prod}, Bind: contains}
		if len(b.Entries) > 0 && names(staging, b.Entries[0].Receipt.LogID) {
			trust.Signers.Root = staging
		}
		r, err := verify.Bundle(raw, trust)
		if err != nil {
			t.Errorf("%s: %v", v.File, err)
			continue
		}
		t.Logf("%s: %t %q", filepath.Base(v.File), r.OK, outcomes(r))
		if !v.Expect.TlogOK && r.OK {
			t.Errorf("%s: passes, and its log entry is wrong: %+v", v.File, v.Expect)
		}
		for name, want := range map[string]string{"signature": v.Expect.ContentSignature, "inclusion": v.Expect.Inclusion,
			"checkpoint": v.Expect.Checkpoint, "SET": v.Expect.Set} {
			got := outcomes(r)
			if strings.HasPrefix(want, "FAIL") && slices.Contains(got, name+" ok") {
				t.Errorf("%s: %s is ok, want %s", v.File, name, want)
			}
			if want == "ok" && slices.Contains(got, "signature ok") && !slices.Contains(got, name+" ok") && !slices.Contains(got, "checkpoint absent") {
				t.Errorf("%s: %s is not ok: %s", v.File, name, fmt.Sprint(r.Checks))
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d vectors are attestations", seen)
	}
}

func readRoot(t *testing.T, dir, name string) *verify.Root {
	t.Helper()
	return must[*verify.Root](t)(verify.ParseRoot(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "roots", "trusted_root_"+name+".json")))))
}

func names(r *verify.Root, logID string) bool {
	return slices.ContainsFunc(r.Logs(), func(l verify.Log) bool { return l.Key.LogID() == logID })
}
