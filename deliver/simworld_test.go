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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
)

// site is what is outside of all lodges: a log with its shards and a registry, and what
// is true of them. It notes what happens, so that a failure can be told.
type site struct {
	version  int
	shards   []*logtest.Log
	prior    int64 // leaves of others in the first of them
	registry http.RoundTripper
	fallback bool // the registry lists no referrers itself
	image    lodge.Digest
	log      lodge.Target // their addresses are this site's alone, so that
	images   lodge.Target // many sites can share a store

	lease, settle time.Duration
	forgetful     bool // the log restarts after each submission: its deduplication remembers nothing

	frozen  atomic.Int32 // so many shards take no more
	pending atomic.Int32 // so many requests are still on their way

	mu          sync.Mutex
	begin       time.Time
	ahead       map[string]bool             // what was written ahead: store and request or manifest
	sent        map[string]id               // whose request, or manifest
	leaf        map[lodge.Digest]id         // whose leaf
	excuses     map[id][]string             // limits of the design that were hit, and how
	verified    map[string]lodge.Submission // what was handed in, by its bytes
	claimed     map[string]*process         // who claimed a delivery last
	breaches    []string                    // of what must hold at every moment
	overwritten []string                    // indexes that arrived late
	old         []snapshot                  // checkpoints that caches may still have
	notes       []note
}

// id is what is to be somewhere once.
type id struct {
	key    lodge.Key
	signer lodge.Signer
	kind   lodge.TargetKind
}

type note struct {
	at       time.Duration
	who, did string
	m        mishap
	err      error
}

func (n note) String() string {
	text := fmt.Sprintf("%10s %-8s %s", n.at.Round(time.Millisecond), n.who, n.did)
	if !n.m.harmless() {
		text += "  " + n.m.String()
	}
	if n.err != nil {
		text += "  -> " + n.err.Error()
	}
	return text
}

func (m mishap) String() string {
	type bare mishap // without this method
	m.Slow = 0
	var set []string
	for f := range strings.FieldsSeq(strings.Trim(fmt.Sprintf("%+v", bare(m)), "{}")) {
		if !strings.HasSuffix(f, ":false") && !strings.HasSuffix(f, ":0") && !strings.HasSuffix(f, ":0s") {
			set = append(set, f)
		}
	}
	return strings.Join(set, " ")
}

// plain is how a site is made.
type plain struct {
	number   uint64 // makes its addresses its own
	version  int
	shards   int
	fallback bool
}

func newSite(t testing.TB, o plain) *site {
	t.Helper()
	s := &site{
		version: o.version, fallback: o.fallback, lease: 30 * time.Second, settle: settle, begin: time.Now(),
		log:    lodge.Target{Name: fmt.Sprint("log", o.number), Kind: lodge.KindLog, Address: fmt.Sprint("http://log.test/", o.number)},
		images: lodge.Target{Name: fmt.Sprint("images", o.number), Kind: lodge.KindRepository, Address: fmt.Sprint("oci://", repository, o.number)},
		ahead:  map[string]bool{}, sent: map[string]id{}, claimed: map[string]*process{}, leaf: map[lodge.Digest]id{}, excuses: map[id][]string{}, verified: map[string]lodge.Submission{},
	}
	for i := range max(1, o.shards) {
		newLog := logtest.NewV2
		if o.version == 1 {
			newLog = logtest.NewV1
		}
		l, err := newLog(fmt.Sprintf("shard%d.log.test", i))
		if err != nil {
			t.Fatal(err)
		}
		s.shards = append(s.shards, l)
	}
	s.registry = inProcess{registry.New(registry.WithReferrersSupport(!o.fallback), registry.Logger(log.New(io.Discard, "", 0)))}
	r := httptest.NewRequest(http.MethodPut, "https://registry.test/v2/app/manifests/latest", strings.NewReader(imageManifest))
	r.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	res, err := s.registry.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
	s.image = lodge.DigestOf([]byte(imageManifest))
	return s
}

// fill puts n entries of somebody else into the log.
func (s *site) fill(n int64) {
	s.prior += n
	for i := range n {
		s.shards[0].Append(fmt.Appendf(nil, "somebody else's entry %d", i))
	}
}

func (s *site) shardURL(i int) string { return fmt.Sprintf("http://shard%d.test", i) }

// shard returns which shard a request is for; ok is false where it is for the registry.
func (s *site) shard(r *http.Request) (i int, ok bool) {
	number, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Host, ".test"), "shard")
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(number)
	return i, err == nil
}

// step names a request by what it is for.
func (s *site) step(r *http.Request) string {
	parts := strings.Split(r.URL.Path, "/")
	last := parts[len(parts)-1]
	if _, isLog := s.shard(r); isLog {
		switch {
		case r.Method == http.MethodPost && last == "entries":
			return "POST entry"
		case strings.Contains(r.URL.Path, "/tile/"):
			return "GET tile"
		case strings.Contains(r.URL.Path, "/entries/"):
			return "GET entry"
		}
		return r.Method + " " + last // checkpoint, retrieve
	}
	what := "blob"
	switch kind := parts[len(parts)-2]; {
	case kind == "referrers":
		what = "referrers"
	case kind == "uploads" || strings.HasSuffix(r.URL.Path, "/uploads/"):
		what = "upload"
	case kind != "manifests":
	case last == s.image.String():
		what = "subject"
	case strings.HasPrefix(last, "lodge-"):
		what = "tag"
	case strings.HasPrefix(last, "sha256-"):
		what = "index"
	default:
		what = "manifest"
	}
	return r.Method + " " + what
}

// isSubmission tells whether a request makes a log entry.
func (s *site) isSubmission(r *http.Request) bool {
	_, isLog := s.shard(r)
	return isLog && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/log/entries")
}

// serve lets the server that a request is for answer it.
func (s *site) serve(r *http.Request, body []byte) *http.Response {
	own := r.Clone(context.WithoutCancel(r.Context()))
	own.Body = io.NopCloser(bytes.NewReader(body))
	i, isLog := s.shard(r)
	if !isLog {
		res, err := s.registry.RoundTrip(own)
		if err != nil {
			panic(err) // it is a handler
		}
		return res
	}
	if s.isSubmission(r) && i < int(s.frozen.Load()) {
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: http.Header{}, Body: http.NoBody, Request: r}
	}
	own.URL.Host = strings.TrimPrefix(logtest.URL, "http://")
	res, err := s.shards[i].RoundTrip(own)
	if err != nil {
		panic(err) // no fault was injected
	}
	if s.isSubmission(r) && s.forgetful {
		s.shards[i].Forget()
	}
	if strings.HasSuffix(r.URL.Path, "/checkpoint") {
		content, _ := io.ReadAll(res.Body)
		res.Body = io.NopCloser(bytes.NewReader(content))
		s.mu.Lock()
		s.old = append(s.old, snapshot{i, time.Now(), content})
		s.mu.Unlock()
	}
	return res
}

// snapshot is a checkpoint as it was served once.
type snapshot struct {
	shard   int
	at      time.Time
	content []byte
}

// staleness is how old a checkpoint out of a cache may be. Together with what arrives late it
// has to stay below the settle time: an older one would be limit (a).
const staleness = time.Second

// stale answers a request for a checkpoint with the oldest that a cache may still have.
func (s *site) stale(r *http.Request) *http.Response {
	i, isLog := s.shard(r)
	if !isLog || !strings.HasSuffix(r.URL.Path, "/checkpoint") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.old {
		if old.shard == i && time.Since(old.at) < staleness {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(old.content)), Request: r}
		}
	}
	return nil
}

// leaves holds promise 4: no byte of a submission leaves before its intent is durable. And
// none is waited for beyond its lease: somebody else may have sent it by then.
func (s *site) leaves(p *process, r *http.Request, body []byte) {
	var what string
	switch {
	case s.isSubmission(r):
		what = string(body)
	case s.step(r) == http.MethodPut+" manifest":
		what = lodge.DigestOf(body).String()
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ahead[p.store.name+what] {
		s.breaches = append(s.breaches, fmt.Sprintf("%s sent what it had not written ahead: %.80q", p.name, what))
	}
	if ends, limited := r.Context().Deadline(); !limited || time.Until(ends) > s.lease+time.Second {
		s.breaches = append(s.breaches, fmt.Sprintf("%s sent a request that its lease does not bound (%v, %s)", p.name, limited, time.Until(ends)))
	}
}

// claims notes who has claimed what.
func (s *site) claims(p *process, jobs []lodge.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, job := range jobs {
		s.claimed[fmt.Sprint(p.store.name, job.ID)] = p
	}
}

// taken tells whether another process has claimed the delivery that p works on.
func (s *site) taken(p *process, delivery int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed[fmt.Sprint(p.store.name, delivery)] != p
}

// written notes what became durable. Nothing may, of a process that had lost its lease.
func (s *site) written(p *process, change lodge.Change, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if taken {
		s.breaches = append(s.breaches, fmt.Sprintf("%s made a delivery %s that another process had claimed since", p.name, change.State))
	}
	if change.Intent == nil {
		return
	}
	whose := id{change.Key, change.Signer, change.Target.Kind}
	what := string(change.Intent.Request)
	if change.Target.Kind == lodge.KindRepository {
		what = change.Intent.Manifest.String()
	} else {
		s.leaf[change.Intent.LeafHash] = whose
	}
	s.ahead[p.store.name+what] = true
	s.sent[what] = whose
}

// later does something that nobody waits for.
func (s *site) later(do func()) {
	s.pending.Add(1)
	go func() {
		defer s.pending.Add(-1)
		do()
	}()
}

// arrives notes that a submission arrives that lodge gave up at that time. Where it was
// longer ago than the settle time, that is limit (a) or (b) of the design: nobody can know,
// and a second leaf is excused.
func (s *site) arrives(p *process, r *http.Request, body []byte, over time.Time) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isSubmission(r) || now.Before(over.Add(s.settle-staleness)) {
		return
	}
	whose := s.sent[string(body)]
	s.excuses[whose] = append(s.excuses[whose], fmt.Sprintf("%s: a request of %s arrived %s after it was over", now.Sub(s.begin), p.name, now.Sub(over)))
}

func (s *site) excuse(owner id, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.excuses[owner] = append(s.excuses[owner], why)
}

// overwrites notes that a referrers index arrives that its writer has given up, or that was
// made before it was suspended: what others have listed meanwhile is not in it. No registry
// can refuse that; lodge lists it again.
func (s *site) overwrites(p *process, r *http.Request) {
	if s.step(r) != http.MethodPut+" index" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overwritten = append(s.overwritten, fmt.Sprintf("%s: an index of %s", time.Since(s.begin), p.name))
}

func (s *site) note(who, did string, m mishap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, note{time.Since(s.begin), who, did, m, nil})
}

func (s *site) noteError(who, did string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, note{time.Since(s.begin), who, did, mishap{}, err})
}

// story is all that happened.
func (s *site) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, n := range s.notes {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

// listed returns what is listed for the image.
func (s *site) listed(t testing.TB) (digests []string) {
	t.Helper()
	path := "referrers/" + s.image.String()
	if s.fallback {
		path = "manifests/sha256-" + s.image.Hex()
	}
	res, err := s.registry.RoundTrip(httptest.NewRequest(http.MethodGet, "https://registry.test/v2/app/"+path, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusNotFound {
		return nil
	}
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.NewDecoder(res.Body).Decode(&index); err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		digests = append(digests, m.Digest)
	}
	return digests
}

const imageManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// envelope is a statement about the site's image, signed. n makes it another statement;
// style another form of the same, with other bytes and another signature.
func (s *site) envelope(t testing.TB, n, style int, key *dsse.PrivateKey) []byte {
	t.Helper()
	payload := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],%s"predicateType":"https://example.com/verdict","predicate":{"n":%d,"of":%q}}`,
		s.image.Hex(), strings.Repeat(" ", style), n, s.log.Name)
	raw, err := dsse.Sign("application/vnd.in-toto+json", []byte(payload), key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// key returns the idempotency key of an envelope.
func (s *site) key(raw []byte) lodge.Key {
	e, err := dsse.Parse(raw)
	if err != nil {
		panic(err) // the tests' own
	}
	return dsse.Key(e.PayloadType, e.Payload)
}

// destination is where a submitter wants an envelope.
type destination string

const (
	toLog    destination = "the log"
	toBoth   destination = "both"
	toImages destination = "the registry alone"
)

// push hands an envelope to a process.
func (s *site) push(p *process, raw []byte, key *dsse.PublicKey, to destination) ([]lodge.Accepted, error) {
	s.mu.Lock()
	sub, known := s.verified[string(raw)]
	s.mu.Unlock()
	if !known {
		b, err := bundle.Parse(raw)
		if err != nil {
			return nil, err
		}
		att, err := attest(b, key)
		if err != nil {
			return nil, err
		}
		sub = lodge.Submission{Key: att.Key, Signer: att.Signer, Raw: raw, SPKI: att.PublicKey.SPKI, Subjects: att.Statement.Subjects}
		s.mu.Lock()
		s.verified[string(raw)] = sub
		s.mu.Unlock()
	}
	var orders []lodge.Order
	if to != toImages {
		orders = append(orders, lodge.Order{Target: s.log})
	}
	if to != toLog {
		orders = append(orders, lodge.Order{Target: s.images, Subject: s.image})
	}
	if to == toBoth {
		orders[1].Requires = []int{0}
	}
	return p.Accept(context.Background(), sub, orders)
}
