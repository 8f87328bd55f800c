package watch_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

// signer is somebody who signs.
type signer struct {
	private *ecdsa.PrivateKey
	spki    []byte
	cert    []byte // nil: a bare key
}

func newSigner(t *testing.T, identity, issuer string) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := signer{private: private, spki: spki}
	if identity == "" {
		return s
	}
	name, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	// Fulcio's OID for the issuer (fulcio docs/oid-info.md, 1.3.6.1.4.1.57264.1.8).
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{name},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value}}}
	if s.cert, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private); err != nil {
		t.Fatal(err)
	}
	return s
}

const payloadType = "application/vnd.in-toto+json"

// envelope signs a payload.
func (s signer) envelope(t *testing.T, payload string) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"payloadType": payloadType, "payload": []byte(payload),
		"signatures": []any{map[string]any{"sig": s.sign(t, payload)}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s signer) sign(t *testing.T, payload string) []byte {
	t.Helper()
	digest := sha256.Sum256(dsse.PAE(payloadType, []byte(payload)))
	sig, err := s.private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// entry returns the body of an entry about a payload, as a v2 log has it.
func (s signer) entry(t *testing.T, payload string) []byte {
	t.Helper()
	digest := sha256.Sum256(dsse.PAE(payloadType, []byte(payload)))
	verifier := map[string]any{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": map[string]any{"rawBytes": s.spki}}
	if s.cert != nil {
		verifier = map[string]any{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": map[string]any{"rawBytes": s.cert}}
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": map[string]any{"hashedRekordV002": map[string]any{
		"data":      map[string]any{"algorithm": "SHA2_256", "digest": digest[:]},
		"signature": map[string]any{"content": s.sign(t, payload), "verifier": verifier},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// accept accepts an envelope for the log.
func (w *world) accept(s *store.Store, who signer, payload string) lodge.Delivery {
	w.Helper()
	sub := lodge.Submission{Key: dsse.Key(payloadType, []byte(payload)), Signer: lodge.KeySigner(who.spki), Raw: who.envelope(w.T, payload), SPKI: who.spki}
	accepted, err := s.Accept(w.Context(), sub, []lodge.Order{{Target: w.target}}, time.Now())
	w.ok(err)
	return accepted[0].Delivery
}

// send writes ahead what is sent, as a worker does.
func (w *world) send(s *store.Store, body []byte) lodge.Delivery {
	w.Helper()
	now := time.Now()
	jobs, err := s.Claim(w.Context(), w.target.Address, lodge.PickDue, 1, now, now.Add(time.Hour))
	w.ok(err)
	d := jobs[0].Delivery
	from := d.State
	d.State, d.Due = lodge.Sending, now.Add(time.Hour)
	intent := &lodge.Intent{LeafHash: tlog.LeafHash(body), LogID: w.log.Key().LogID(), Request: body}
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: d, From: from, Intent: intent}, now))
	return d
}

// settle makes the receipt of the entry at index, in a tree of log's, the end of a delivery.
func (w *world) settle(s *store.Store, d lodge.Delivery, log *logtest.Log, index int64) {
	w.Helper()
	view := w.view(log)
	heads, err := view.Heads(w.Context(), false)
	w.ok(err)
	in, err := view.Include(w.Context(), heads[0], index)
	w.ok(err)
	from := d.State
	d.State = lodge.Verified
	d.Receipt = &lodge.Receipt{Log: &lodge.LogReceipt{Origin: heads[0].Origin, LogID: heads[0].LogID, LogIndex: index, LeafHash: in.Leaf, InclusionProof: &in.Proof}}
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: d, From: from, Events: []lodge.Event{
		lodge.LogEvent(lodge.EntryLogged, d, time.Now()), lodge.LogEvent(lodge.InclusionVerified, d, time.Now())}}, time.Now()))
}

// observed returns the data of all events of a type.
func (w *world) observed(t lodge.EventType) (found []observation) {
	w.Helper()
	events, err := w.store.Events(w.Context(), 0, 10_000)
	w.ok(err)
	for _, e := range events {
		if e.Type == t {
			var o observation
			w.ok(json.Unmarshal(e.Data, &o))
			found = append(found, o)
		}
	}
	return found
}

type observation struct {
	LogIndex int64
	Key      lodge.Key
	Because  []struct{ Kind, Value string }
	Signers  []string
}

func (o observation) String() string { return fmt.Sprint(o.LogIndex, o.Because, o.Signers, o.Key) }

// TestFindsListed finds what a watch list names, and nothing else.
func TestFindsListed(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	named, other := newSigner(t, "", ""), newSigner(t, "", "")
	ci := newSigner(t, "https://ci.example/build@refs/tags/v1", "https://issuer.example")
	fake := newSigner(t, "https://ci.example/build@refs/tags/v1", "https://other.example")
	near := newSigner(t, "https://ci.example.org/", "https://issuer.example")
	w.list = watch.List{
		Keys:       [][]byte{named.spki},
		Identities: []watch.Identity{{Identity: "https://ci.example/build@*", Issuer: "https://issuer.example"}},
		Digests:    []lodge.Digest{lodge.DigestOf(dsse.PAE(payloadType, []byte("artifact")))},
	}
	w.log.Append(other.entry(t, "x"), named.entry(t, "y"), ci.entry(t, "z"), fake.entry(t, "z"), near.entry(t, "z"), other.entry(t, "artifact"))
	w.follow()
	w.awaitRead(6)
	found := w.observed(lodge.EntryObserved)
	if len(found) != 3 {
		t.Fatalf("%v", found)
	}
	for i, want := range []struct {
		index int64
		kind  string
	}{{1, "key"}, {2, "identity"}, {5, "digest"}} {
		if o := found[i]; o.LogIndex != want.index || len(o.Because) != 1 || o.Because[0].Kind != want.kind || len(o.Signers) != 1 {
			t.Errorf("%v, want %v", o, want)
		}
	}
	if s := w.shard(); s.Unsearched != 0 || s.Quarantined != 0 {
		t.Errorf("%+v", s)
	}
}

// TestFromNow: of a log that was never met, only what comes after the first look is read, by
// whoever goes on too. A shard that comes later is read whole.
func TestFromNow(t *testing.T) {
	onBoth(t, func(w *world) {
		w.fromNow = true
		who := newSigner(w.T, "", "")
		w.list.Keys = [][]byte{who.spki}
		w.log.Append(who.entry(w.T, "before"), who.entry(w.T, "also before"), []byte("no entry"))
		stop := w.follow()
		w.await("the first look", func() bool { return w.shard().Head.Size == 3 })
		stop()
		w.log.Append(who.entry(w.T, "after"))
		w.follow()
		w.awaitRead(4)
		if found := w.observed(lodge.EntryObserved); len(found) != 1 || found[0].LogIndex != 3 {
			w.Errorf("%v, want entry 3 alone", found)
		}
		if s := w.shard(); s.First != 3 || s.VerifiedThrough() != 3 || s.Quarantined != 0 || s.Lag() != 0 {
			w.Errorf("%+v", s)
		}
		w.wantCalm()
	})
	t.Run("another tree", func(t *testing.T) {
		onBoth(t, func(w *world) {
			w.fromNow = true
			w.add(6)
			w.follow()
			w.await("the first look", func() bool { return w.shard().Head.Size == 6 })
			w.add(4)
			w.awaitRead(10)
			fork := w.log.Fork(8)
			for range 4 {
				fork.Append([]byte("another"))
			}
			w.log.Replace(fork)
			w.wantDiverged()
			w.ok(w.store.ResumeLog(w.Context(), w.target, time.Now()))
			w.awaitRead(12)
			if s := w.shard(); s.First != 6 || s.Quarantined != 4 || s.VerifiedThrough() != 11 {
				w.Errorf("%+v", s)
			}
		})
	})
	t.Run("later shard", func(t *testing.T) {
		w := newWorld(t, rekor.Version2)
		w.fromNow = true
		next, err := logtest.NewV2("next.test")
		w.ok(err)
		reader, err := rekor.NewV2Reader(rekor.Options{URL: logtest.URL, HTTP: next.Client(), Keys: []tlog.Key{next.Key()}})
		w.ok(err)
		w.add(3)
		next.Append([]byte("a"), []byte("b"))
		w.ok(w.follower(w.open()).Check(t.Context()))
		w.sources = []watch.Source{{Log: w.view(w.log)}, {Log: reader}}
		w.ok(w.follower(w.open()).Check(t.Context()))
		shards, err := w.store.Shards(t.Context(), w.target.Address)
		w.ok(err)
		if len(shards) != 2 || shards[0].First != 3 || shards[1].First != 0 || shards[1].Next != 2 {
			t.Errorf("%+v", shards)
		}
	})
}

// TestFindsOurs tells our own entries from second ones and from those of others about the same.
func TestFindsOurs(t *testing.T) {
	for _, name := range []string{"followed from the first", "followed later", "followed later again, and events pruned"} {
		t.Run(name, func(t *testing.T) {
			late, pruned := name != "followed from the first", strings.Contains(name, "pruned")
			w := newWorld(t, rekor.Version2)
			w.list.Ours = true
			s := w.open()
			us, them := newSigner(t, "", ""), newSigner(t, "", "")
			body := us.entry(t, "ours")
			w.log.Append(them.entry(t, "theirs"))
			if !late || pruned {
				stop := w.follow()
				w.awaitRead(1)
				if pruned {
					stop()
				}
			}
			w.accept(s, us, "ours")
			d := w.send(s, body)
			w.log.Append(body)
			w.settle(s, d, w.log, 1)
			if !late {
				w.awaitRead(2)
				if n := w.count("DuplicateObserved") + w.count("EntryObserved"); n != 0 {
					t.Errorf("events %v", w.events())
				}
			}
			w.log.Append(body, us.entry(t, "ours"), them.entry(t, "ours"))
			if pruned {
				p, err := s.Prune(t.Context(), store.Retention{Events: time.Nanosecond}, time.Now())
				w.ok(err)
				if p.Events < 3 {
					t.Fatalf("%+v", p)
				}
			}
			if late {
				w.follow()
			}
			w.awaitRead(5)
			duplicates, others := w.observed(lodge.DuplicateObserved), w.observed(lodge.EntryObserved)
			if len(duplicates) != 2 || duplicates[0].LogIndex+duplicates[1].LogIndex != 5 || duplicates[0].Key != d.Key {
				t.Errorf("duplicates %v", duplicates)
			}
			if len(others) != 1 || others[0].LogIndex != 4 || others[0].Key != d.Key || others[0].Because[0].Kind != "ours" {
				t.Errorf("by others %v", others)
			}
			w.wantCalm()
		})
	}
}

// TestFindsImpostor: an entry about our payload under a certificate that only claims to be ours is told
// of as one by others too.
func TestFindsImpostor(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.list.Ours = true
	s := w.open()
	const identity, issuer = "https://ci.example/build", "https://issuer.example"
	us, them := newSigner(t, identity, issuer), newSigner(t, identity, issuer)
	name, err := lodge.CertificateSigner(identity, issuer)
	w.ok(err)
	_, err = s.Accept(t.Context(), lodge.Submission{Key: dsse.Key(payloadType, []byte("ours")), Signer: name, Raw: us.envelope(t, "ours")},
		[]lodge.Order{{Target: w.target}}, time.Now())
	w.ok(err)
	w.log.Append(them.entry(t, "ours"))
	w.follow()
	w.awaitRead(1)
	if d, o := w.observed(lodge.DuplicateObserved), w.observed(lodge.EntryObserved); len(d) != 1 || len(o) != 1 || o[0].Because[0].Kind != "ours" {
		t.Errorf("duplicates %v, by others %v", d, o)
	}
}

// TestLostReply makes a delivery due whose answer was lost, as soon as its entry is seen.
func TestLostReply(t *testing.T) {
	onBoth(t, func(w *world) {
		s := w.open()
		us := newSigner(w.T, "", "")
		body := us.entry(w.T, "ours")
		w.add(3)
		w.follow()
		w.awaitRead(3)
		w.accept(s, us, "ours")
		d := w.send(s, body)
		w.log.Append(body)
		w.awaitRead(4)
		w.awaitLooks(3)
		if now, err := s.Delivery(w.Context(), d.ID); err != nil || !now.Due.After(time.Now().Add(time.Minute)) {
			w.Errorf("a delivery whose answer is waited for: %+v, %v", now, err)
		}
		lost := d
		lost.State = lodge.Unknown
		w.ok(s.Advance(w.Context(), lodge.Change{Delivery: lost, From: d.State}, time.Now()))
		w.await("due", func() bool {
			now, err := s.Delivery(w.Context(), d.ID)
			return err == nil && !now.Due.After(time.Now())
		})
		w.wantCalm()
	})
}

// TestReceiptView catches a log that gave a receipt under another tree than it shows: when the
// receipt is new, and when it is checked again.
func TestReceiptView(t *testing.T) {
	for name, later := range map[string]bool{"new": false, "checked again": true} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(w *world) {
				s := w.open()
				us := newSigner(w.T, "", "")
				w.add(5)
				split := w.log.Fork(5)
				split.Append(us.entry(w.T, "ours"))
				w.add(9)
				receive := func() {
					w.accept(s, us, "ours")
					w.settle(s, w.send(s, us.entry(w.T, "ours")), split, 5)
				}
				if later {
					w.recheck = 50 * time.Millisecond
					receive()
				}
				w.follow()
				if !later {
					w.awaitRead(14)
					receive()
				}
				if d := w.wantDiverged(); d.View != "a receipt" || d.Older.Size != 6 {
					w.Errorf("%+v", d)
				}
			})
		})
	}
}

// TestRecheckOutlivesRestart: when everything was last gone over is known to whoever follows
// the log next, so that restarts put it off no further, and cause none either.
func TestRecheckOutlivesRestart(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.add(5)
	stop := w.follow()
	w.awaitRead(5)
	stop()
	first := w.shard().Checked
	if first.IsZero() {
		t.Error("not gone over at first")
	}
	w.add(5)
	stop = w.follow()
	w.awaitRead(10)
	stop()
	if again := w.shard().Checked; !again.Equal(first) {
		t.Errorf("gone over at %s and at %s, within the hour", first, again)
	}
	w.recheck = time.Millisecond
	w.follow()
	w.await("the next time", func() bool { return w.shard().Checked.After(first) })
}

// TestStale alarms a log that shows less than it has signed for a receipt.
func TestStale(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	s := w.open()
	us := newSigner(t, "", "")
	w.add(5)
	w.follow()
	w.awaitRead(5)
	ahead := w.log.Fork(5)
	ahead.Append(us.entry(t, "ours"))
	w.accept(s, us, "ours")
	w.settle(s, w.send(s, us.entry(t, "ours")), ahead, 5)
	w.await("the alarm", func() bool { a := w.shard().Alarm; return a != nil && a.Code == "stale" })
	if w.count("CheckpointRejected") != 1 || w.held() != "" {
		t.Errorf("held %q, events %v", w.held(), w.events())
	}
	w.log.Replace(ahead)
	w.await("the end of the alarm", func() bool { return w.shard().Alarm == nil })
	if w.count("CheckpointDiverged") != 0 {
		t.Errorf("events %v", w.events())
	}
}

// encoded returns a body as it stands in a JSON answer.
func encoded(t *testing.T, body []byte) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestUnreadable stops in front of what is not the tree's where nothing can tell which leaf it
// is, says so, and goes on once that is mended.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.add(1000)
	w.log.Inject(logtest.Fault{Path: "tile/1/000", Count: -1, Tamper: func(b []byte) []byte { b[3] ^= 1; return b }})
	w.follow()
	w.await("the alarm", func() bool { a := w.shard().Alarm; return a != nil && strings.Contains(a.Message, "tile/1/000") })
	if s := w.shard(); s.Next != 0 || s.VerifiedThrough() != -1 {
		t.Errorf("%+v", s)
	}
	w.log.Heal()
	w.awaitRead(1000)
	w.await("the end of the alarm", func() bool { return w.shard().Alarm == nil })
	w.wantCalm()
}
