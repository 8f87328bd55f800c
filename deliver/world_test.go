package deliver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// world is a log and a registry without sockets, and any number of lodges around them.
// It lives inside a synctest bubble: hours of waiting cost nothing.
type world struct {
	t        *testing.T
	version  int // of the log
	log      *logtest.Log
	registry http.RoundTripper
	key      *dsse.PrivateKey
	image    lodge.Digest
	adjust   func(*deliver.Target) // the targets, where a test wants them otherwise
}

const (
	logAddress = logtest.URL
	repository = "registry.test/app"
	settle     = 5 * time.Second
)

func newWorld(t *testing.T, version int) *world {
	t.Helper()
	newLog := logtest.NewV2
	if version == 1 {
		newLog = logtest.NewV1
	}
	l, err := newLog("log.test")
	if err != nil {
		t.Fatal(err)
	}
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	w := &world{t: t, version: version, log: l, registry: inProcess{handler}, key: newKey(t)}
	w.image = w.pushImage()
	return w
}

// pass lets that much of the bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

// inProcess serves requests by calling a handler.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, r)
	res := recorder.Result()
	res.Request = r
	return res, nil
}

func newKey(t *testing.T) *dsse.PrivateKey {
	t.Helper()
	key, err := dsse.ParsePrivateKey([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testKey signs in these tests only.
const testKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/2yQenPiTwsq0i5X
6l9hE5SxkdULC8Rhlh0bi1MLpmehRANCAAQUYcYLZnw8h/+fghuJ4L7hvtKxaeTG
jFpKkueVIBXSI/CqspZJxh6JINXz3H9jcYrJzIR7kkyV5tcZlk/IkUUq
-----END PRIVATE KEY-----
`

func (w *world) pushImage() lodge.Digest {
	w.t.Helper()
	put := func(path, mediaType string, content []byte) {
		r := httptest.NewRequest(http.MethodPut, "https://registry.test/v2/app/"+path, bytes.NewReader(content))
		r.Header.Set("Content-Type", mediaType)
		res := w.call(r)
		if res.StatusCode != http.StatusCreated {
			w.t.Fatalf("PUT %s: %v", path, res)
		}
		_ = res.Body.Close()
	}
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
	put("manifests/latest", "application/vnd.oci.image.manifest.v1+json", manifest)
	return lodge.DigestOf(manifest)
}

func (w *world) call(r *http.Request) *http.Response {
	w.t.Helper()
	res, err := w.registry.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// referrers returns the digests that are listed for the image.
func (w *world) referrers() (digests []string) {
	w.t.Helper()
	res := w.call(httptest.NewRequest(http.MethodGet, "https://registry.test/v2/app/referrers/"+w.image.String(), nil))
	defer func() { _ = res.Body.Close() }()
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.NewDecoder(res.Body).Decode(&index); err != nil {
		w.t.Fatal(err)
	}
	for _, m := range index.Manifests {
		digests = append(digests, m.Digest)
	}
	return digests
}

// statement returns a signed statement about the image; n makes it a different one.
func (w *world) statement(n int) []byte {
	payload := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],"predicateType":"https://example.com/verdict","predicate":{"n":%d}}`, w.image.Hex(), n)
	return w.sign(payload)
}

func (w *world) sign(payload string) []byte {
	w.t.Helper()
	raw, err := dsse.Sign("application/vnd.in-toto+json", []byte(payload), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// signedAnew returns the statement with other white space and so another signature.
func (w *world) signedAnew(n int) []byte {
	payload := fmt.Sprintf(`{"predicate": {"n": %d}, "predicateType": "https://example.com/verdict", "subject": [{"digest": {"sha256": %q}, "name": "app"}], "_type": "https://in-toto.io/Statement/v1"}`, n, w.image.Hex())
	return w.sign(payload)
}

// lodge is one instance.
type instance struct {
	*deliver.Engine
	w      *world
	store  *store.Store
	scopes []string // of what is submitted
}

// newPath returns a place for a store.
func (w *world) newPath() string { return filepath.Join(w.t.TempDir(), "lodge.db") }

var (
	logTarget = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: logAddress}
	ociTarget = lodge.Target{Name: "images", Kind: lodge.KindRepository, Address: "oci://" + repository}
)

// open starts an instance on the store at path; it runs until stop is called. wrap may
// put something between the engine and its store.
func (w *world) open(path string, wrap func(deliver.Store) deliver.Store) (i *instance, stop func()) {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), path)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, target := range []lodge.Target{logTarget, ociTarget} {
		if err := s.Register(w.t.Context(), target); err != nil {
			w.t.Fatal(err)
		}
	}
	config := deliver.Config{Store: s, Attest: attest, Targets: w.targets(s), Cache: deliver.Cache{TTL: 10 * time.Minute}}
	if wrap != nil {
		config.Store = wrap(s)
	}
	engine, err := deliver.New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	return &instance{engine, w, s, nil}, func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil && wrap == nil {
			w.t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) targets(leaves rekor.Leaves) []deliver.Target {
	o := rekor.Options{URL: logAddress, HTTP: w.log.Client(), Keys: []tlog.Key{w.log.Key()}, Leaves: leaves}
	var client deliver.Log
	if w.version == 1 {
		c, err := rekor.NewV1(o)
		if err != nil {
			w.t.Fatal(err)
		}
		client = planner{c}
	} else {
		c, err := rekor.NewV2(o)
		if err != nil {
			w.t.Fatal(err)
		}
		client = planner{c}
	}
	repo, err := oci.New(repository, oci.Options{Transport: w.registry})
	if err != nil {
		w.t.Fatal(err)
	}
	targets := []deliver.Target{
		{Target: logTarget, Log: client, Settle: settle},
		{Target: ociTarget, Repository: repo, Settle: settle},
	}
	if w.adjust != nil {
		for i := range targets {
			w.adjust(&targets[i])
		}
	}
	return targets
}

func attest(b *bundle.Bundle, key *dsse.PublicKey) (*bundle.Attestation, error) {
	return verify.Signers{Keys: []*dsse.PublicKey{key}}.Attest(b)
}

// submission returns what the world's key has signed, verified.
func (w *world) submission(raw []byte) lodge.Submission {
	w.t.Helper()
	att := w.attested(raw, w.key.Public())
	return lodge.Submission{Key: att.Key, Signer: att.Signer, Raw: raw, SPKI: att.PublicKey.SPKI, Subjects: att.Statement.Subjects}
}

// accept takes an envelope for the log, or for both.
func (i *instance) accept(raw []byte, both bool) []lodge.Accepted {
	i.w.t.Helper()
	orders := []lodge.Order{{Target: logTarget}}
	if both {
		orders = append(orders, lodge.Order{Target: ociTarget, Subject: i.w.image, Requires: []int{0}})
	}
	sub := i.w.submission(raw)
	sub.Scopes = i.scopes
	accepted, err := i.Accept(i.w.t.Context(), sub, orders)
	if err != nil {
		i.w.t.Fatal(err)
	}
	return accepted
}

// push accepts and waits for up to a day.
func (i *instance) push(raw []byte, both bool) []lodge.Accepted {
	i.w.t.Helper()
	accepted := i.accept(raw, both)
	for n := range accepted {
		accepted[n].Delivery = i.await(accepted[n].Delivery)
	}
	return accepted
}

func (i *instance) await(d lodge.Delivery) lodge.Delivery {
	i.w.t.Helper()
	ctx, cancel := context.WithTimeout(i.w.t.Context(), 24*time.Hour)
	defer cancel()
	d, err := i.Await(ctx, d)
	if err != nil {
		i.w.t.Fatal(err)
	}
	return d
}

// verified fails the test unless all deliveries are verified.
func (w *world) verified(deliveries ...lodge.Accepted) {
	w.t.Helper()
	for _, d := range deliveries {
		if d.State != lodge.Verified {
			w.t.Errorf("delivery to %s is %s: %v", d.Target.Name, d.State, d.Err)
		}
	}
}

// one fails the test unless the log has n entries, all different.
func (w *world) leaves(n int64) {
	w.t.Helper()
	if got := w.log.Size(); got != n {
		w.t.Errorf("the log has %d entries, want %d", got, n)
	}
}

// inOrder checks the events of one key: EntryQueued, EntryLogged, InclusionVerified in
// this order, each once.
func (i *instance) inOrder(keys ...lodge.Key) {
	i.w.t.Helper()
	events, err := i.store.Events(i.w.t.Context(), 0, 10_000)
	if err != nil {
		i.w.t.Fatal(err)
	}
	for _, key := range keys {
		var got []lodge.EventType
		for _, e := range events {
			switch e.Type {
			case lodge.EntryLogged, lodge.InclusionVerified:
				if e.Subject == key.String() {
					got = append(got, e.Type)
				}
			case lodge.EntryQueued:
				if e.Subject == key.String() && e.Source == logAddress {
					got = append(got, e.Type)
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint([]lodge.EventType{lodge.EntryQueued, lodge.EntryLogged, lodge.InclusionVerified}) {
			i.w.t.Errorf("events of %s: %v", key, got)
		}
	}
}

// planner gives a client's Plan the context that deliver.Log has.
type planner struct{ client }

type client interface {
	Has(logID string) bool
	Plan(att *bundle.Attestation) (lodge.Intent, error)
	Admit(att *bundle.Attestation) error
	Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error)
	Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error)
	Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error)
}

func (p planner) Plan(_ context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	return p.client.Plan(att)
}

// resumedOnce fails the test unless the log was held once and resumed once.
func (i *instance) resumedOnce() {
	i.w.t.Helper()
	events, err := i.store.Events(i.w.t.Context(), 0, 10_000)
	if err != nil {
		i.w.t.Fatal(err)
	}
	var got []lodge.EventType
	for _, e := range events {
		if e.Type == lodge.TargetHeld || e.Type == lodge.TargetResumed {
			got = append(got, e.Type)
		}
	}
	if len(got) != 2 || got[0] != lodge.TargetHeld || got[1] != lodge.TargetResumed {
		i.w.t.Errorf("events of the target: %v", got)
	}
}

func (p planner) Admit(_ context.Context, att *bundle.Attestation) error { return p.client.Admit(att) }
