package rekor_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

func planV2(t *testing.T, c *rekor.V2, att *bundle.Attestation) lodge.Intent {
	t.Helper()
	intent, err := c.Plan(att)
	if err != nil {
		t.Fatal(err)
	}
	return intent
}

func TestV2(t *testing.T) {
	for _, algorithm := range []dsse.Algorithm{
		dsse.ECDSAP256SHA256, dsse.ECDSAP384SHA384, dsse.ECDSAP521SHA512, dsse.RSA2048PKCS1, dsse.Ed25519ph, "certificate",
	} {
		t.Run(string(algorithm), func(t *testing.T) {
			log, c, _ := newV2(t)
			log.Append(body(0), body(1))
			att := certified(t, 1)
			if algorithm != "certificate" {
				key, _ := newKey(t, algorithm)
				att = attest(t, key, statement(1))
			}
			intent := planV2(t, c, att)
			if again := planV2(t, c, att); !cmp.Equal(intent, again) {
				t.Error("a plan differs the second time")
			}
			found, err := c.Find(t.Context(), att, intent)
			if err != nil || found.Entry != nil || found.TreeSize != 2 {
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
			found, err = c.Find(t.Context(), att, intent)
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, found.Entry, log.Key(), intent)
			for _, e := range []*lodge.Entry{made, had, found.Entry} {
				if e.Receipt.LogIndex != 2 || e.Kind != "hashedrekord" || e.Version != "0.0.2" {
					t.Errorf("%s %s at %d", e.Kind, e.Version, e.Receipt.LogIndex)
				}
			}
			if got := log.Bodies()[2]; !bytes.Equal(got, made.Body) || log.Size() != 4 {
				t.Errorf("the log of %d has %s", log.Size(), got)
			}
			att.Entries = []lodge.Entry{{Body: []byte("another")}, *made}
			att.Entries[1].Receipt.LeafHash = lodge.Digest{} // as bundles have it: computed, never believed
			adopted, err := c.Adopt(t.Context(), att)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(made, adopted); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestV2PlanRefuses(t *testing.T) {
	log, c, index := newV2(t)
	for _, algorithm := range []dsse.Algorithm{dsse.Ed25519, dsse.RSA2048PSS, dsse.ECDSAP384SHA256, dsse.ECDSAP521SHA256, ""} {
		att := attestation(t, 1)
		att.Algorithm = algorithm
		_, err := c.Plan(att)
		wantError(t, err, lodge.ClassPermanent, "key-unsupported")
	}
	att := certified(t, 1)
	att.Timestamps = nil
	wantError(t, c.Admit(att), lodge.ClassCertificate, "no-timestamp")
	for _, tt := range []struct {
		at  time.Time
		err error
		ok  bool
	}{
		{time.Now(), nil, true},
		{time.Now().Add(-24 * time.Hour), nil, false},
		{time.Now().Add(24 * time.Hour), nil, false},
		{time.Now(), errors.New("by nobody"), false},
	} {
		att := certified(t, 1)
		judging, err := rekor.NewV2(rekor.Options{URL: logtest.URL, Keys: []tlog.Key{log.Key()}, Leaves: index,
			Time: func([]byte, []byte) (time.Time, error) { return tt.at, tt.err }})
		if err != nil {
			t.Fatal(err)
		}
		if err := judging.Admit(att); tt.ok {
			if err != nil {
				t.Errorf("%v: %v", tt, err)
			}
		} else {
			wantError(t, err, lodge.ClassCertificate, "timestamp")
		}
	}

	small, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}, Leaves: index, MaxRequest: 200})
	if err != nil {
		t.Fatal(err)
	}
	_, err = small.Plan(attestation(t, 1))
	wantError(t, err, lodge.ClassPermanent, "too-large")
	if n := log.Requests(""); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestFindsExistingV2 searches logs of sizes around the tiles' with an empty index.
func TestFindsExistingV2(t *testing.T) {
	for _, before := range []int{0, 1, 255, 256, 300, 1000} {
		for _, after := range []int{0, 1, 600} {
			t.Run(fmt.Sprintf("%d+1+%d", before, after), func(t *testing.T) {
				log, c, _ := newV2(t)
				att := attestation(t, 1)
				intent := planV2(t, c, att)
				for i := range before {
					log.Append(body(i))
				}
				if _, err := c.Send(t.Context(), att, intent); err != nil {
					t.Fatal(err)
				}
				for i := range after {
					log.Append(body(before + i))
				}
				log.HidePartial(true)
				found, err := clientV2(t, log, &leaves{}).Find(t.Context(), att, lodge.Intent{})
				if err != nil {
					t.Fatal(err)
				}
				wantProven(t, found.Entry, log.Key(), intent)
				if found.Entry.Receipt.LogIndex != int64(before) || found.Attestation != nil {
					t.Errorf("%+v", found)
				}
			})
		}
	}
}

// TestFindsExistingAfterLostReply is what the engine does after an answer that proves nothing.
func TestFindsExistingAfterLostReply(t *testing.T) {
	for name, f := range map[string]logtest.Fault{
		"lost reply": {Apply: true, Lose: true},
		"500":        {Apply: true, Status: 500},
		"503":        {Apply: true, Status: 503},
		"504":        {Apply: true, Status: 504},
		"499":        {Apply: true, Status: 499},
	} {
		t.Run(name, func(t *testing.T) {
			log, c, _ := newV2(t)
			att := attestation(t, 1)
			intent := planV2(t, c, att)
			log.Inject(f)
			_, err := c.Send(t.Context(), att, intent)
			if e := lodge.Classify(err); e.Class != lodge.ClassUnknown {
				t.Errorf("got %v", err)
			}
			found, err := c.Find(t.Context(), att, intent)
			if err != nil {
				t.Fatal(err)
			}
			wantProven(t, found.Entry, log.Key(), intent)
		})
	}
}

func TestV2LateEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, c, _ := newV2(t)
		att := attestation(t, 1)
		intent := planV2(t, c, att)
		log.Inject(logtest.Fault{Apply: true, Late: time.Minute, Lose: true})
		_, err := c.Send(t.Context(), att, intent)
		wantError(t, err, lodge.ClassUnknown, "no-answer")
		if found, err := c.Find(t.Context(), att, intent); err != nil || found.Entry != nil {
			t.Errorf("at once: %+v, %v", found, err)
		}
		_, err = c.Send(t.Context(), att, intent) // 409 for an entry that is not in the tree yet
		wantError(t, err, lodge.ClassUnknown, "not-integrated")
		<-time.After(time.Minute)
		found, err := c.Find(t.Context(), att, intent)
		if err != nil {
			t.Fatal(err)
		}
		wantProven(t, found.Entry, log.Key(), intent)
	})
}

func TestV2RefusedIsRetry(t *testing.T) {
	log, c, _ := newV2(t)
	log.Inject(logtest.Fault{Refuse: true})
	_, err := c.Send(t.Context(), attestation(t, 1), lodge.Intent{})
	wantError(t, err, lodge.ClassRetry, "unreachable")
	if log.Size() != 0 {
		t.Error("it is there")
	}
}

func TestV2ConflictWithWrongLeaf(t *testing.T) {
	conflict := func(index string) logtest.Fault {
		return logtest.Fault{Status: http.StatusConflict, Header: http.Header{"X-Log-Index": {index}}}
	}
	for _, c := range []struct {
		index string
		class lodge.Class
		code  string
	}{
		{"1", lodge.ClassHeld, "log-lies"},
		{"3", lodge.ClassUnknown, "not-integrated"},
		{"9223372036854775807", lodge.ClassUnknown, "not-integrated"},
		{"", lodge.ClassUnknown, "conflict"},
		{"-1", lodge.ClassUnknown, "conflict"},
		{"99999999999999999999", lodge.ClassUnknown, "conflict"},
	} {
		log, client, _ := newV2(t)
		log.Append(body(0), body(1), body(2))
		log.Inject(conflict(c.index))
		_, err := client.Send(t.Context(), attestation(t, 1), lodge.Intent{})
		wantError(t, err, c.class, c.code)
	}
	// The log can't be read after its 409: the entry may be there.
	log, client, _ := newV2(t)
	log.Inject(conflict("0"))
	log.Inject(logtest.Fault{Path: "checkpoint", Refuse: true})
	_, err := client.Send(t.Context(), attestation(t, 1), lodge.Intent{})
	wantError(t, err, lodge.ClassUnknown, "unreachable")
}

// TestV2LyingLog changes one thing in a 201 at a time.
func TestV2LyingLog(t *testing.T) {
	other, err := logtest.NewV2("log.test") // the same name, another key
	if err != nil {
		t.Fatal(err)
	}
	other.Append(body(0))
	log, c, _ := newV2(t)
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("no %s in %s", old, b)
			}
			return bytes.Replace(b, []byte(old), []byte(with), 1)
		}
	}
	forged := fmt.Sprintf(`"envelope":%q`, other.Checkpoint())
	for name, x := range map[string]struct {
		tamper func([]byte) []byte
		class  lodge.Class
		code   string
	}{
		"another leaf":        {replace(`"canonicalizedBody":"ey`, `"canonicalizedBody":"ez`), lodge.ClassHeld, "log-lies"},
		"another index":       {replace(`"logIndex":"`, `"logIndex":"1`), lodge.ClassHeld, "log-lies"},
		"another size":        {replace(`"treeSize":"`, `"treeSize":"1`), lodge.ClassHeld, "log-lies"},
		"a short root":        {replace(`"rootHash":"`, `"rootHash":"","_":"`), lodge.ClassHeld, "log-lies"},
		"another root":        {replace(`"rootHash":"`, `"rootHash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","_":"`), lodge.ClassHeld, "log-lies"},
		"no proof hashes":     {replace(`"hashes":[`, `"hashes":[],"_":[`), lodge.ClassHeld, "log-lies"},
		"a short hash":        {replace(`"hashes":["`, `"hashes":["AAAA","`), lodge.ClassHeld, "log-lies"},
		"another's signature": {replace(`"envelope":`, forged+`,"_":`), lodge.ClassHeld, "log-key"},
		"no checkpoint":       {replace(`"envelope":`, `"_":`), lodge.ClassHeld, "log-lies"},
		"no proof":            {replace(`"inclusionProof":`, `"_":`), lodge.ClassUnknown, "answer-unreadable"},
		"half":                {func(b []byte) []byte { return b[:len(b)/2] }, lodge.ClassUnknown, "answer-unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			log.Append(body(int(log.Size()))) // so that there are hashes to a proof
			log.Inject(logtest.Fault{Tamper: x.tamper})
			_, err := c.Send(t.Context(), attestation(t, int(log.Size())), lodge.Intent{})
			wantError(t, err, x.class, x.code)
		})
	}
}

func TestV2Frozen(t *testing.T) {
	log, c, _ := newV2(t)
	log.Inject(logtest.Fault{Status: 405, Body: "This log has been frozen, please switch to the latest log.\n"})
	_, err := c.Send(t.Context(), attestation(t, 1), lodge.Intent{})
	if wantError(t, err, lodge.ClassReroute, "frozen"); !strings.Contains(err.Error(), "has been frozen") {
		t.Errorf("got %v", err)
	}
}

func TestV2AdoptRefuses(t *testing.T) {
	log, c, _ := newV2(t)
	log.Append(body(0))
	att, other := attestation(t, 1), attestation(t, 2)
	e, err := c.Send(t.Context(), att, lodge.Intent{})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := c.Send(t.Context(), other, lodge.Intent{})
	if err != nil {
		t.Fatal(err)
	}
	alter := func(change func(*lodge.Entry)) lodge.Entry {
		x := *e
		proof := *e.Receipt.InclusionProof
		proof.Hashes = slices.Clone(proof.Hashes)
		x.Receipt.InclusionProof = &proof
		change(&x)
		return x
	}
	for name, entry := range map[string]lodge.Entry{
		"of another statement": *foreign,
		"of another log":       alter(func(e *lodge.Entry) { e.Receipt.LogID = strings.Repeat("0", 64) }),
		"without proof":        alter(func(e *lodge.Entry) { e.Receipt.InclusionProof = nil }),
		"another leaf's proof": alter(func(e *lodge.Entry) { e.Receipt.InclusionProof = foreign.Receipt.InclusionProof }),
		"another index":        alter(func(e *lodge.Entry) { e.Receipt.InclusionProof.LogIndex = 0 }),
		"another hash":         alter(func(e *lodge.Entry) { e.Receipt.InclusionProof.Hashes[0][0] ^= 1 }),
		"no checkpoint":        alter(func(e *lodge.Entry) { e.Receipt.InclusionProof.Checkpoint = "" }),
		"more in its body":     alter(func(e *lodge.Entry) { e.Body = slices.Concat(e.Body[:len(e.Body)-1], []byte(`,"x":1}`)) }),
		"no body":              alter(func(e *lodge.Entry) { e.Body = nil }),
	} {
		att.Entries = []lodge.Entry{entry}
		if got, err := c.Adopt(t.Context(), att); !errors.Is(err, lodge.ErrNotFound) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	n := log.Requests("")
	att.Entries = []lodge.Entry{*foreign, *e}
	if _, err := c.Adopt(t.Context(), att); err != nil || log.Requests("") != n {
		t.Errorf("the good one: %v after %d requests", err, log.Requests("")-n)
	}
}
