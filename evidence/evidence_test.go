package evidence_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	random "math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/evidence"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// world is a log and a store that delivers to it.
type world struct {
	t      *testing.T
	log    *logtest.Log
	keys   []*dsse.PrivateKey
	config node.Config
	trust  verify.Trust
}

func newWorld(t *testing.T) *world {
	t.Helper()
	l := must[*logtest.Log](t)(logtest.NewV2("127.0.0.1"))
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	logKey := filepath.Join(dir, "log.pub")
	if err := os.WriteFile(logKey, l.PublicPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, log: l, config: node.Config{
		Store:   "sqlite:" + filepath.Join(dir, "lodge.db"),
		Targets: map[string]node.Target{"rekor": {Log: &node.Log{URL: server.URL, Key: logKey}}},
		Deliver: []string{"rekor"},
	}}
	w.trust = verify.Trust{Logs: []tlog.Key{l.Key()}, Bind: rekor.BindEntry, Signed: rekor.Signed}
	for range 2 {
		key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
		private := must[*dsse.PrivateKey](t)(dsse.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		w.keys = append(w.keys, private)
		w.trust.Signers.Keys = append(w.trust.Signers.Keys, private.Public())
	}
	return w
}

// open opens a node and runs it until the test or close ends it.
func (w *world) open() (n *node.Node, closed func()) {
	w.t.Helper()
	n = must[*node.Node](w.t)(node.Open(w.t.Context(), w.config))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	open := true
	closed = func() {
		if !open {
			return
		}
		open = false
		stop()
		if err := errors.Join(<-done, n.Close()); err != nil {
			w.t.Error(err)
		}
	}
	w.t.Cleanup(closed)
	return n, closed
}

// push lodges a statement, signed with the keys given, and returns its key.
func (w *world) push(n *node.Node, statement int, keys ...int) (key lodge.Key) {
	w.t.Helper()
	payload := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://example.com/%d"}`, statement)
	for _, k := range keys {
		raw := must[[]byte](w.t)(dsse.Sign("application/vnd.in-toto+json", []byte(payload), w.keys[k]))
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		defer cancel()
		accepted := must[[]lodge.Accepted](w.t)(n.Push(ctx, node.Submission{Envelope: raw, Key: w.keys[k].Public()}))
		if accepted[0].State != lodge.Verified {
			w.t.Fatalf("%+v", accepted[0])
		}
		key = accepted[0].Key
	}
	return key
}

// contents returns the files of an archive, as anybody's tar reads them.
func contents(t *testing.T, raw []byte) (names []string, files map[string]string) {
	t.Helper()
	files = map[string]string{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		files[h.Name] = string(must[[]byte](t)(io.ReadAll(r)))
	}
}

func TestArchive(t *testing.T) {
	w := newWorld(t)
	n, _ := w.open()
	key := w.push(n, 1, 0, 1)
	raw := must[[]byte](t)(n.Evidence(t.Context(), key))
	if again := must[[]byte](t)(n.Evidence(t.Context(), key)); !bytes.Equal(raw, again) {
		t.Error("made again, it differs")
	}
	names, files := contents(t, raw)
	want := []string{"1/bundle-1.json", "1/envelope.json", "1/key.pem", "1/receipts.json",
		"2/bundle-1.json", "2/envelope.json", "2/key.pem", "2/receipts.json", "SHA256SUMS"}
	if len(names) < len(want) || !slices.Equal(names[:len(want)], want) || !slices.IsSorted(names) {
		t.Errorf("files %q", names)
	}
	if lines := strings.Count(files["SHA256SUMS"], "\n"); lines != len(names)-1 {
		t.Errorf("the manifest has %d lines of %d files", lines, len(names))
	}
	if events := strings.Count(files["events.jsonl"], "\n"); events != 6 { // queued, logged, included, twice
		t.Errorf("%d events:\n%s", events, files["events.jsonl"])
	}
	r := must[verify.Result](t)(evidence.Verify(raw, w.trust))
	if !r.OK || r.Kind != "evidence" || r.Key != key || r.Entries != 2 || r.Logged != verify.Proven {
		t.Errorf("%+v", r)
	}
	if r := must[verify.Result](t)(evidence.Verify(raw, verify.Trust{Bind: w.trust.Bind, Signers: w.trust.Signers})); r.OK {
		t.Error("it verifies without any log's key")
	}
	w.trust.Signers.Keys = w.trust.Signers.Keys[:1]
	if r := must[verify.Result](t)(evidence.Verify(raw, w.trust)); r.OK || r.Failed() == nil || r.Failed().Name != verify.CheckSignature {
		t.Errorf("it verifies without the key of one of its signers: %+v", r)
	}
}

func TestUnknownKey(t *testing.T) {
	n, _ := newWorld(t).open()
	if _, err := n.Evidence(t.Context(), lodge.DigestOf(nil)); !errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestPending(t *testing.T) {
	w := newWorld(t)
	s := must[*store.Store](t)(store.Open(t.Context(), w.config.Store))
	defer func() { _ = s.Close() }()
	target := lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.test"}
	if err := s.Register(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	sub := lodge.Submission{Key: lodge.DigestOf([]byte("a")), Signer: "sha256:ab", Raw: []byte("{}")}
	must[[]lodge.Accepted](t)(s.Accept(t.Context(), sub, []lodge.Order{{Target: target}}, time.Now()))
	if _, err := evidence.Collect(t.Context(), s, sub.Key); !errors.Is(err, evidence.ErrPending) {
		t.Errorf("error %v", err)
	}
}

// TestFlippedByte: whatever byte of an archive is another one, it does not verify.
func TestFlippedByte(t *testing.T) {
	w := newWorld(t)
	n, _ := w.open()
	raw := must[[]byte](t)(n.Evidence(t.Context(), w.push(n, 1, 0)))
	if r := must[verify.Result](t)(evidence.Verify(raw, w.trust)); !r.OK {
		t.Fatalf("%+v", r)
	}
	passes := func(raw []byte) bool {
		r, err := evidence.Verify(raw, w.trust)
		if err != nil && !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
			t.Fatalf("neither malformed nor over a limit: %v", err)
		}
		return err == nil && r.OK
	}
	changed := slices.Clone(raw)
	for i := range raw {
		changed[i] ^= byte(1 + random.IntN(255))
		if passes(changed) {
			t.Errorf("it verifies with byte %d changed from %#x to %#x", i, raw[i], changed[i])
		}
		changed[i] = raw[i]
	}
	for name, other := range map[string][]byte{
		"cut by one": raw[:len(raw)-1], "cut by a block": raw[:len(raw)-512], "one zero more": append(slices.Clone(raw), 0),
		"padded as tar does": append(slices.Clone(raw), make([]byte, 10240-len(raw)%10240)...), "twice": append(slices.Clone(raw), raw...), "nothing": nil,
	} {
		if passes(other) {
			t.Errorf("%s: it verifies", name)
		}
	}
	t.Logf("%d bytes", len(raw))
}

// repack returns an archive with its files changed, and a manifest that fits.
func repack(t *testing.T, raw []byte, change func(files map[string]string)) []byte {
	t.Helper()
	_, files := contents(t, raw)
	change(files)
	delete(files, "SHA256SUMS")
	return must[[]byte](t)(evidence.Encode(files))
}

// TestForged: what is changed with the manifest made to fit is still not believed.
func TestForged(t *testing.T) {
	w := newWorld(t)
	n, _ := w.open()
	raw, other := must[[]byte](t)(n.Evidence(t.Context(), w.push(n, 1, 0))), must[[]byte](t)(n.Evidence(t.Context(), w.push(n, 2, 0)))
	_, theirs := contents(t, other)
	if r := must[verify.Result](t)(evidence.Verify(repack(t, raw, func(map[string]string) {}), w.trust)); !r.OK {
		t.Fatalf("repacked as it was, it does not verify: %+v", r)
	}
	replace := func(name, old, with string) func(map[string]string) {
		return func(files map[string]string) {
			if !strings.Contains(files[name], old) {
				t.Fatalf("%s has no %q:\n%s", name, old, files[name])
			}
			files[name] = strings.Replace(files[name], old, with, 1)
		}
	}
	take := func(name string) func(map[string]string) {
		return func(files map[string]string) { files[name] = theirs[name] }
	}
	unknown := repack(t, raw, func(files map[string]string) {
		files["events.jsonl"] += strings.Replace(strings.SplitAfter(files["events.jsonl"], "\n")[0], "EntryQueued", "Other", 1)
	})
	if r := must[verify.Result](t)(evidence.Verify(unknown, w.trust)); !slices.ContainsFunc(r.Checks, func(c verify.Check) bool {
		return c.Name == evidence.CheckEvents && c.Outcome == verify.Absent && strings.HasPrefix(c.Reason, "1 events of types")
	}) {
		t.Errorf("an event of a type that is not known: %+v", r.Checks)
	}
	for name, change := range map[string]func(map[string]string){
		"another's envelope":      take("1/envelope.json"),
		"another's bundle":        take("1/bundle-1.json"),
		"another's receipts":      take("1/receipts.json"),
		"another's events":        take("events.jsonl"),
		"another's index":         take("evidence.json"),
		"a receipt's index":       replace("1/receipts.json", `"logIndex": 0`, `"logIndex": 1`),
		"a receipt's log":         replace("1/receipts.json", `"logId": "`, `"logId": "00`),
		"a receipt less":          func(files map[string]string) { files["1/receipts.json"] = "[]\n" },
		"a receipt without proof": replace("1/receipts.json", `"receipt"`, `"reseipt"`),
		"a state":                 replace("1/receipts.json", `"state": "verified"`, `"state": "failed"`),
		"an event's leaf":         replace("events.jsonl", `"leafHash":"sha256:`, `"leafHash":"sha256:00`),
		"an event's key":          replace("events.jsonl", `"subject":"sha256:`, `"subject":"sha256:00`),
		"an event's id":           replace("events.jsonl", `"id":"`, `"id":"00`),
		"an event of a type that is not known, about something else": func(files map[string]string) {
			files["events.jsonl"] += strings.NewReplacer("EntryQueued", "Other", `"subject":"sha256:`, `"subject":"sha256:00`).Replace(strings.SplitAfter(files["events.jsonl"], "\n")[0])
		},
		"an event's signer":          replace("events.jsonl", `"signer":"sha256:`, `"signer":"sha256:00`),
		"a member more":              replace("evidence.json", `"key"`, `"more": 1, "key"`),
		"another signer":             replace("evidence.json", `"signers": [`, `"signers": ["sha256:00", `),
		"something after an object":  func(files map[string]string) { files["evidence.json"] += "}" },
		"a file more":                func(files map[string]string) { files["more.txt"] = "more" },
		"no key":                     func(files map[string]string) { delete(files, "events.jsonl") },
		"no bundle":                  func(files map[string]string) { delete(files, "1/bundle-1.json") },
		"an envelope of the payload": replace("1/envelope.json", `"payload":"e`, `"payload":"f`),
		"another key": func(files map[string]string) {
			files["1/key.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.keys[1].Public().SPKI}))
		},
		"a checkpoint": func(files map[string]string) {
			for name := range files {
				if strings.HasPrefix(name, "checkpoints/") {
					files[name] += "\n"
				}
			}
		},
	} {
		r, err := evidence.Verify(repack(t, raw, change), w.trust)
		if err == nil && r.OK {
			t.Errorf("%s: it verifies: %+v", name, r)
		}
	}
}

// FuzzVerify: nothing that is not an archive as it was written verifies.
func FuzzVerify(f *testing.F) {
	for _, files := range []map[string]string{{}, {"evidence.json": "{}"},
		{"evidence.json": `{"mediaType":"` + evidence.MediaType + `","key":"sha256:` + strings.Repeat("0", 64) + `","signers":["a"]}`, "events.jsonl": "",
			"1/envelope.json": `{"payloadType":"a/b","payload":"","signatures":[{"sig":"AA=="}]}`, "1/receipts.json": "[]", "1/bundle-1.json": "{}"}} {
		f.Add(must[[]byte](f)(evidence.Encode(files)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := evidence.Verify(raw, verify.Trust{})
		if err != nil && !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
			t.Errorf("neither malformed nor over a limit: %v", err)
		}
		if err == nil && r.OK {
			t.Errorf("it verifies: %+v", r)
		}
	})
}
