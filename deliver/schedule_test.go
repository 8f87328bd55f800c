package deliver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// schedule is one life of a site, drawn from a seed: which servers there are, which
// replicas, who submits what when, and what goes wrong. All of it is decided by the seed,
// the process, the step and how often the process came to it, so it does not depend on the order in
// which goroutines happen to run.
//
// After c.heal nothing more goes wrong. What was accepted has to end with one verified
// receipt for each delivery, one leaf for each key and signer, and one listed artifact.
type schedule struct {
	t       testing.TB
	seed    uint64
	shelves *shelves
	site    *site

	replicas    []*replica
	submissions []submission
	job         *replica        // a lodge of its own store, nil where there is none
	freezes     []time.Duration // when each shard is frozen
	operator    bool            // somebody resumes targets that are held
	restarts    bool            // processes are told to stop now and then, and start again
	heal        atomic.Int64    // nanoseconds since 1970: no fault begins later
	network     float64         // how likely a request fails
	deaths      float64         // how likely a process dies at a step
	sleeps      float64         // how likely it is suspended
	focus       [2]string       // steps that go wrong more often than not; "" where there is none
	limits      bool            // more than the design promises may happen: limits (a) and (b)

	mu       sync.Mutex
	steps    map[string]uint64 // how often a process came to a step
	seen     map[string]sight  // of the deliveries in a store
	accepted map[string]map[int64]lodge.Accepted
}

// submission is somebody who hands in an envelope, again until it is accepted.
type submission struct {
	at      time.Duration
	replica *replica
	n       int // which statement
	style   int // which form of it
	signer  int
	to      destination
	after   bool // only once the others are through with the statement
}

func (s submission) String() string {
	return fmt.Sprintf("%s: statement %d, form %d, signer %d to %s, %s, after=%v", s.at.Round(time.Millisecond), s.n, s.style, s.signer, s.replica.name, s.to, s.after)
}

func (c *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "v%d, %d shards frozen at %v, fallback=%v forgetful=%v, lease %s, settle %s; network %g, deaths %g, sleeps %g, focus %q, limits %v, restarts %v; healed at %s\n",
		c.site.version, len(c.site.shards), c.freezes, c.site.fallback, c.site.forgetful, c.site.lease, c.site.settle,
		c.network, c.deaths, c.sleeps, c.focus, c.limits, c.restarts, time.Unix(0, c.heal.Load()).Sub(c.site.begin))
	for _, s := range c.submissions {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// signer is a key that statements are signed with; raw, so that no signature is like another.
type signer struct {
	*dsse.PrivateKey
	raw *ecdsa.PrivateKey
}

var signers = sync.OnceValue(func() (keys []signer) {
	for n := range byte(2) {
		raw, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n + 1}, 32))
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(raw)
		if err != nil {
			panic(err)
		}
		key, err := dsse.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil {
			panic(err)
		}
		keys = append(keys, signer{key, raw})
	}
	return keys
})

// random returns the source of what is decided about the nth of something.
func (c *schedule) random(what, who string, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, hash(what+"\x00"+who)+n))
}

// hash is FNV-1a: the same in every process.
func hash(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }

func newSchedule(t testing.TB, seed uint64, all *shelves) *schedule {
	t.Helper()
	c := &schedule{t: t, seed: seed, shelves: all, steps: map[string]uint64{}, seen: map[string]sight{}, accepted: map[string]map[int64]lodge.Accepted{}}
	r := c.random("schedule", "", 0)
	pass(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // the store rounds times
	o := plain{number: seed, version: pick(r, 1, 2, 2), fallback: r.IntN(3) == 0}
	if o.version == 2 {
		o.shards = pick(r, 1, 1, 2, 3)
	}
	c.site = newSite(t, o)
	c.site.lease, c.site.settle = pick(r, 6*time.Second, 10*time.Second), 4*time.Second
	c.site.forgetful = r.IntN(4) > 0
	if o.version == 2 && r.IntN(40) == 0 { // full tiles, whose partial ones are deleted
		c.site.fill(240 + r.Int64N(30))
		c.site.shards[0].HidePartial(true)
	}
	c.network = pick(r, 0, 0.03, 0.1, 0.3, 0.5)
	c.deaths = pick(r, 0, 0, 0.01, 0.04)
	c.sleeps = pick(r, 0, 0, 0.01, 0.04)
	for i := range c.focus {
		c.focus[i] = pick(r, "", "", "", "POST entry", "POST entry", "GET checkpoint", "GET checkpoint", "GET entry",
			"log sending", "log unknown", "log queued", "log verified", "claim", "load", "GET referrers", "HEAD tag", "PUT manifest",
			"PUT tag", "PUT index", "HEAD index", "repository sending", "repository verified", "acquire", "renew", "release")
	}
	c.limits = r.IntN(4) == 0
	c.restarts = r.IntN(4) == 0
	c.operator = r.IntN(4) > 0
	c.healIn(5*time.Second + upTo(r, 30*time.Second))
	for i := range 1 + r.IntN(3) {
		c.replicas = append(c.replicas, &replica{name: fmt.Sprintf("r%d", i), store: all.main[i%len(all.main)]})
	}
	for range len(c.site.shards) - 1 {
		c.freezes = append(c.freezes, upTo(r, 25*time.Second))
	}
	slices.Sort(c.freezes)
	c.plan(r)
	return c
}

func (c *schedule) healIn(d time.Duration) { c.heal.Store(time.Now().Add(d).UnixNano()) }

func (c *schedule) untilHealed() time.Duration { return time.Until(time.Unix(0, c.heal.Load())) }

// plan says who submits what.
func (c *schedule) plan(r *rand.Rand) {
	own := len(c.replicas)
	if r.IntN(4) == 0 {
		c.job = &replica{name: "job", store: c.shelves.other}
		c.replicas = append(c.replicas, c.job)
	}
	for n := range pick(r, 1, 1, 2, 3) {
		both := r.IntN(3) > 0 // whether the first to submit the statement also gives it to the registry
		alone := false        // whether somebody gives it to the registry alone
		signer := 0
		for k := range 1 + r.IntN(4) {
			s := submission{at: upTo(r, 12*time.Second), replica: c.replicas[r.IntN(own)], n: n, style: r.IntN(3), to: toLog}
			switch {
			case r.IntN(8) == 0:
				s.to, alone = toImages, true
			case both && (k == 0 || r.IntN(2) == 0):
				s.to = toBoth
			}
			if r.IntN(8) == 0 {
				signer = 1
			}
			s.signer = signer
			c.submissions = append(c.submissions, s)
		}
		if c.job != nil && r.IntN(2) == 0 && !alone { // to another store an artifact without the log's entry is none
			s := c.submissions[len(c.submissions)-1]
			s.replica, s.after = c.job, r.IntN(4) > 0
			if s.after && r.IntN(2) == 0 { // what it finds in the registry leads it to the log's entry
				first := s
				first.to = toImages
				c.submissions = append(c.submissions, first)
				s.at += upTo(r, 30*time.Second)
			}
			c.submissions = append(c.submissions, s)
		}
	}
}

// fate says what goes wrong at the steps of one process.
func (c *schedule) fate(process string) func(step, about string) mishap {
	return func(step, about string) mishap {
		c.mu.Lock()
		n := c.steps[process+step+about]
		c.steps[process+step+about]++
		c.mu.Unlock()
		r := c.random(step+about, process, n*0x9e3779b97f4a7c15)
		method, _, isRequest := strings.Cut(step, " ")
		isRequest = isRequest && method == strings.ToUpper(method)
		m := mishap{Slow: upTo(r, time.Millisecond)}
		if isRequest {
			m.Slow = time.Millisecond + upTo(r, 30*time.Millisecond)
		}
		if c.untilHealed() <= 0 {
			return m
		}
		deaths, sleeps, network := c.deaths, c.sleeps, c.network
		if slices.Contains(c.focus[:], step) {
			deaths, sleeps, network = 0.1, 0.3, 0.4
		}
		switch p := r.Float64(); {
		case p < deaths:
			m.Die, m.After = true, r.IntN(2) == 0
			if isRequest && m.After && r.IntN(2) == 0 {
				m.Late = c.lateness(r) // it dies while the request is under way
			}
		case p < deaths+sleeps:
			m.After = r.IntN(2) == 0
			m.Suspend = c.nap(r, step == "POST entry" && !m.After)
			if isRequest && m.After && r.IntN(2) == 0 {
				c.failure(r, step, &m) // and wakes up to bad news
			}
		case isRequest && p < deaths+sleeps+network:
			c.failure(r, step, &m)
		}
		return m
	}
}

// lateness is how long after its answer a request may arrive: less than the settle time,
// but for limit (a).
func (c *schedule) lateness(r *rand.Rand) time.Duration {
	if c.limits && r.IntN(4) == 0 {
		return c.site.settle + upTo(r, 3*c.site.settle)
	}
	return upTo(r, c.site.settle-staleness-500*time.Millisecond)
}

// nap is how long a process is suspended. Where its request goes out afterwards, it must be
// back before lease and settle time are over, but for limit (b).
func (c *schedule) nap(r *rand.Rand, sends bool) time.Duration {
	whole := c.site.lease + c.site.settle
	if sends && !c.limits {
		return upTo(r, c.site.settle/2)
	}
	return pick(r, upTo(r, c.site.lease), c.site.lease, whole, whole+upTo(r, 20*time.Second))
}

// failure fills in how a request fails.
func (c *schedule) failure(r *rand.Rand, step string, m *mishap) {
	unwell := pick(r, 408, 499, 500, 502, 503, 504)
	kind := r.IntN(15)
	if step == "POST entry" && r.IntN(3) == 0 {
		kind = 9 + r.IntN(3) // what arrives late is what makes doubles
	}
	switch {
	case kind >= 12:
		m.Drag = upTo(r, c.site.lease+c.site.settle)
	case kind == 0:
		m.Refuse = true
	case kind == 1:
		m.Lost = true
	case kind == 2:
		m.Lost, m.Stall = true, true
	case kind == 3:
		m.Lost, m.Status = true, pick(r, 425, 429)
	case kind == 4:
		m.Lost, m.Status = true, unwell
	case kind == 5:
		m.Status = unwell
	case kind == 6:
		m.Lose = true
	case kind == 7:
		m.Cut = true
	case kind == 8:
		m.Lost, m.Status = r.IntN(2) == 0, c.refusal(r, step)
		if m.Status == http.StatusBadRequest && step == "POST entry" {
			m.Lost = true // a log that refuses for good has not taken it
		}
	case step == "GET checkpoint":
		m.Stale = true
	case strings.HasPrefix(step, http.MethodGet), strings.HasPrefix(step, http.MethodHead):
		m.Stall = true
	case kind == 9:
		m.Late, m.Stall = c.lateness(r), true
	case kind == 10:
		m.Late, m.Lose = c.lateness(r), true
	default:
		m.Late, m.Status = c.lateness(r), unwell
	}
}

// refusal is a status that says no. Where a 404 would say "absent", it would be a lie.
func (c *schedule) refusal(r *rand.Rand, step string) int {
	switch {
	case strings.HasPrefix(step, http.MethodPut), step == "POST upload":
		return pick(r, 400, 401, 403, 404)
	case step == "POST entry":
		return pick(r, 400, 401, 403, 404, 415)
	}
	return pick(r, 401, 403)
}

// submit hands in an envelope until it is accepted.
func (c *schedule) submit(s submission) {
	key := signers()[s.signer]
	raw := c.site.envelope(c.t, s.n, s.style, key.PrivateKey)
	if s.after {
		raw = c.findable(s, raw)
	} else if s.replica == c.job {
		// Limit (c): two stores at the same moment.
		for _, kind := range []lodge.TargetKind{lodge.KindLog, lodge.KindRepository} {
			c.site.excuse(id{c.site.key(raw), key.Public().Signer(), kind}, "two stores at the same moment")
		}
	}
	for {
		p := s.replica.process()
		accepted, err := c.site.push(p, raw, key.Public(), s.to)
		if err == nil {
			c.note(p.store.name, accepted)
			return
		}
		pass(time.Second)
	}
}

// findable returns the envelope that another store finds: the one given, where the key tag
// leads to what is there; the same payload signed anew, where v1's index does; else the very same.
func (c *schedule) findable(s submission, raw []byte) []byte {
	var logged, published *lodge.Delivery
	for _, d := range c.deliveries(c.shelves.main[0].name) {
		if d.Key == c.site.key(raw) && d.Signer == signers()[s.signer].Public().Signer() {
			switch d.Target.Kind {
			case lodge.KindLog:
				logged = &d
			case lodge.KindRepository:
				published = &d
			}
		}
	}
	if logged == nil || published != nil && s.to != toLog {
		return raw
	}
	sub, err := c.shelves.main[0].Submission(context.Background(), logged.ID)
	must(c.t, err)
	if c.site.version == 2 {
		return sub.Raw
	}
	e, err := dsse.Parse(sub.Raw)
	must(c.t, err)
	pae := sha256.Sum256(dsse.PAE(e.PayloadType, e.Payload))
	sig, err := ecdsa.SignASN1(crand.Reader, signers()[s.signer].raw, pae[:])
	must(c.t, err)
	anew, err := json.Marshal(map[string]any{"payload": e.Payload, "payloadType": e.PayloadType, "signatures": []any{map[string]any{"sig": sig}}})
	must(c.t, err)
	return anew
}

func (c *schedule) note(store string, accepted []lodge.Accepted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.accepted[store] == nil {
		c.accepted[store] = map[int64]lodge.Accepted{}
	}
	for _, a := range accepted {
		c.accepted[store][a.ID] = a
	}
}

// stores returns a handle of each store.
func (c *schedule) stores() []*shelf {
	if c.job == nil {
		return c.shelves.main[:1:1]
	}
	return []*shelf{c.shelves.main[0], c.shelves.other}
}

// shelf returns the store with that name.
func (c *schedule) shelf(name string) *shelf {
	if name == c.shelves.other.name {
		return c.shelves.other
	}
	return c.shelves.main[0]
}

// sight is what deliveries saw, at that count of writes.
type sight struct {
	writes int64
	found  []lodge.Delivery
}

// deliveries returns what was accepted into a store as it stands.
func (c *schedule) deliveries(store string) (found []lodge.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	writes := c.shelf(store).memo.writes.Load()
	if seen := c.seen[store]; seen.writes == writes && len(seen.found) == len(c.accepted[store]) {
		return seen.found
	}
	defer func() { c.seen[store] = sight{writes, found} }()
	for id := range c.accepted[store] {
		d, err := c.shelf(store).Delivery(context.Background(), id)
		must(c.t, err)
		found = append(found, d)
	}
	slices.SortFunc(found, func(a, b lodge.Delivery) int { return int(a.ID - b.ID) })
	return found
}

// done tells whether all that a store accepted is delivered.
func (c *schedule) done(store string) bool {
	return !slices.ContainsFunc(c.deliveries(store), func(d lodge.Delivery) bool { return d.State != lodge.Verified })
}

// finish waits until all is delivered, and says what was not after a long time. What failed
// for good is handed in again, as a person would who has read why.
func (c *schedule) finish(submissions []submission) []string {
	pass(c.untilHealed())
	deadline := time.Now().Add(2 * time.Hour)
	for time.Now().Before(deadline) {
		pass(2 * time.Second)
		if c.done(c.shelves.main[0].name) && c.done(c.shelves.other.name) && c.site.pending.Load() == 0 && c.allAwake() && c.relisted() {
			return nil
		}
		for _, s := range submissions {
			if c.failed(s) {
				c.submit(s)
			}
		}
	}
	var stuck []string
	for _, shelf := range c.stores() {
		for _, d := range c.deliveries(shelf.name) {
			if d.State != lodge.Verified {
				stuck = append(stuck, fmt.Sprintf("after two hours without a fault, delivery %d of %.14s to %s in %s is %s, due %s: %v",
					d.ID, d.Key, d.Target.Name, shelf.name, d.State, d.Due.Sub(c.site.begin), d.Err))
			}
		}
	}
	return stuck
}

// relisted tells whether all is listed that was once; where an index was overwritten, that
// takes a while.
func (c *schedule) relisted() bool {
	c.site.mu.Lock()
	overwritten := len(c.site.overwritten) > 0
	c.site.mu.Unlock()
	if !overwritten {
		return true
	}
	listed := c.site.listed(c.t)
	for _, shelf := range c.stores() {
		for _, d := range c.deliveries(shelf.name) {
			if r := d.Receipt; r != nil && r.OCI != nil && !slices.Contains(listed, r.OCI.Digest.String()) {
				return false
			}
		}
	}
	return true
}

// failed tells whether a delivery of the submission's statement failed for good.
func (c *schedule) failed(s submission) bool {
	return slices.ContainsFunc(c.deliveries(s.replica.store.name), func(d lodge.Delivery) bool { return d.State == lodge.Failed })
}

// allAwake tells whether no process is suspended any more.
func (c *schedule) allAwake() bool {
	for _, r := range c.replicas {
		p := r.process()
		p.mu.Lock()
		asleep := time.Now().Before(p.wakes.Add(time.Second))
		p.mu.Unlock()
		if asleep {
			return false
		}
	}
	return true
}
