package trigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/policy"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/trigger"
)

// database is a store as an engine sees it. What was accepted is a bare payload here.
type database struct{ *store.Store }

func (d database) Under(name string, term int64) trigger.Ledger { return d.Store.Under(name, term) }

func (d database) Proven(ctx context.Context, key lodge.Key, signer lodge.Signer, by lodge.EventType) (bool, error) {
	st, err := d.Standing(ctx, key, signer)
	return st.Proven(by), err
}

func (d database) Facts(ctx context.Context, key lodge.Key, signer lodge.Signer) (trigger.Facts, error) {
	given, narrowed, err := d.Scopes(ctx, key, signer)
	facts := trigger.Facts{Given: given}
	if err != nil {
		return facts, err
	}
	sub, err := d.Envelope(ctx, key, signer)
	if err != nil || len(sub.Raw) == 0 {
		return facts, err
	}
	facts.Hints = hint.Extract("", sub.Raw)
	facts.Scopes = lodge.Hints{Scopes: facts.Hints.Scopes}.Scope(given, narrowed)
	return facts, nil
}

var (
	log1  = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}
	log2  = lodge.Target{Name: "other", Kind: lodge.KindLog, Address: "https://other.example"}
	repo1 = lodge.Target{Name: "repo", Kind: lodge.KindRepository, Address: "oci://registry.example/app"}
	repo2 = lodge.Target{Name: "mirror", Kind: lodge.KindRepository, Address: "oci://mirror.example/app"}
	image = lodge.DigestOf([]byte("image"))
)

// world is a database and what lodge does with it.
type world struct {
	testing.TB
	store *store.Store
	path  string
	logs  int64 // entries
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, path: "sqlite:" + t.TempDir() + "/lodge.db"}
	w.store = w.open()
	for _, target := range []lodge.Target{log1, log2, repo1, repo2} {
		w.ok(w.store.Register(t.Context(), target))
	}
	return w
}

func (w *world) open() *store.Store {
	w.Helper()
	s, err := store.Open(w.Context(), w.path)
	w.ok(err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// submission is a payload as somebody hands it in.
func submission(payload []byte, signer string, scopes ...string) lodge.Submission {
	h := hint.Extract("", payload)
	return lodge.Submission{Key: lodge.DigestOf(payload), Signer: lodge.Signer(signer), Raw: payload, Scopes: scopes,
		Hints: lodge.Hints{Version: hint.Version, Document: h.Document(), Scopes: h.Scopes}}
}

func (w *world) accept(sub lodge.Submission, targets ...lodge.Target) []lodge.Accepted {
	w.Helper()
	var orders []lodge.Order
	for _, target := range targets {
		order := lodge.Order{Target: target}
		if target.Kind == lodge.KindRepository {
			order.Subject = image
		}
		orders = append(orders, order)
	}
	accepted, err := w.store.Accept(w.Context(), sub, orders, time.Now())
	w.ok(err)
	return accepted
}

// verify has a delivery done.
func (w *world) verify(d lodge.Delivery) {
	w.Helper()
	change := lodge.Change{Delivery: d, From: lodge.Queued}
	change.State = lodge.Verified
	if d.Target.Kind == lodge.KindRepository {
		change.Receipt = &lodge.Receipt{OCI: &lodge.OCIReceipt{Digest: lodge.DigestOf([]byte(d.Key.String()))}}
		change.Events = []lodge.Event{lodge.PublishedEvent(change.Delivery, time.Now())}
	} else {
		change.Receipt = &lodge.Receipt{Log: &lodge.LogReceipt{LogID: "ab", LogIndex: w.logs}}
		w.logs++
		change.Events = []lodge.Event{lodge.LogEvent(lodge.EntryLogged, change.Delivery, time.Now()),
			lodge.LogEvent(lodge.InclusionVerified, change.Delivery, time.Now())}
	}
	w.ok(w.store.Advance(w.Context(), change, time.Now()))
}

// refuse fails a delivery for good.
func (w *world) refuse(d lodge.Delivery) {
	w.Helper()
	change := lodge.Change{Delivery: d, From: lodge.Queued}
	change.State, change.Err = lodge.Failed, lodge.Errorf(lodge.ClassPermanent, "refused", "no")
	change.Events = []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, change.Delivery, time.Now())}
	w.ok(w.store.Advance(w.Context(), change, time.Now()))
}

// lodge accepts a payload for a log and has it verified there.
func (w *world) lodge(payload []byte, signer string, scopes ...string) lodge.Key {
	w.Helper()
	sub := submission(payload, signer, scopes...)
	w.verify(w.accept(sub, log1)[0].Delivery)
	return sub.Key
}

// apply applies policies, each "name: scope scope".
func (w *world) apply(policies ...string) {
	w.Helper()
	for _, text := range policies {
		name, selector, _ := strings.Cut(text, ": ")
		p, err := policy.Policy{Name: name, Selector: strings.Fields(selector), Reason: "because"}.Normalize()
		w.ok(err)
		_, err = w.store.ApplyPolicy(w.Context(), lodge.AppliedPolicy{Name: name, Revision: p.Revision(), Body: p.JSON()}, time.Now())
		w.ok(err)
	}
}

func (w *world) engine(s *store.Store) *trigger.Engine {
	return trigger.New(trigger.Config{Outbox: database{s}, Leases: database{s}})
}

// react lets an engine do what there is to be done.
func (w *world) react() {
	w.Helper()
	ctx, end := context.WithCancel(w.Context())
	end()
	w.ok(w.engine(w.store).Run(ctx))
}

// request is what a ReanalysisRequested says.
type request struct {
	lodge.Request
	Sequence int64
}

// requests returns all so far.
func (w *world) requests() (found []request) {
	w.Helper()
	events, err := w.store.FindEvents(w.Context(), store.EventQuery{Types: []lodge.EventType{lodge.ReanalysisRequested}}, 0, 100_000)
	w.ok(err)
	for _, e := range events {
		r := request{Sequence: e.Sequence}
		w.ok(json.Unmarshal(e.Data, &r.Request))
		if e.Subject != r.Key.String() || !strings.Contains(string(e.Data), `"hints":{`) {
			w.Errorf("event %+v with %s", e, e.Data)
		}
		found = append(found, r)
	}
	return found
}

// asked reacts and returns the policies that were asked about a key, with their priorities.
func (w *world) asked(key lodge.Key) string {
	w.Helper()
	w.react()
	var names []string
	for _, r := range w.requests() {
		if r.Key == key {
			name := r.Policy
			if r.Priority != "normal" {
				name += "!"
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// vex is an OpenVEX document with statements "CVE product status [justification]".
func vex(version int, at string, statements ...string) []byte {
	type object = map[string]any
	list := []object{}
	for _, s := range statements {
		words := append(strings.Fields(s), "")
		list = append(list, object{"vulnerability": object{"name": words[0]}, "products": []object{{"@id": words[1]}},
			"status": words[2], "justification": words[3]})
	}
	doc := object{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://vex.example/1", "author": "somebody", "version": version, "statements": list}
	if at != "" {
		doc["timestamp"] = at
	}
	return encode(doc)
}

// sbom is a CycloneDX document.
func sbom(name string, components ...string) []byte {
	type object = map[string]any
	list := []object{}
	for _, c := range components {
		list = append(list, object{"type": "library", "name": c})
	}
	return encode(object{"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": name, "components": list})
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprint(v, err))
	}
	return raw
}
