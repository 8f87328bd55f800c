package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/oci"
)

func TestNew(t *testing.T) {
	for name, address := range map[string]string{
		"registry.example/team/app":       "oci://registry.example/team/app",
		"oci://registry.example:5000/app": "oci://registry.example:5000/app",
	} {
		r, err := oci.New(name, oci.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if r.Address() != address {
			t.Errorf("%s: address %s, want %s", name, r.Address(), address)
		}
	}
	for _, name := range []string{"", "app", "registry.example/app:tag", "registry.example/App", "registry.example/app@sha256:" + strings.Repeat("a", 64)} {
		if _, err := oci.New(name, oci.Options{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one line", name, err)
		}
	}
}

// TestKeyTag holds the preimage fast: other instances compute it too.
func TestKeyTag(t *testing.T) {
	key, subject := lodge.DigestOf([]byte("key")), lodge.DigestOf([]byte("subject"))
	want := "lodge-" + lodge.DigestOf([]byte(key.String()+"\na via b\n"+subject.String())).Hex()
	if got := oci.KeyTag(key, "a via b", subject); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPlan checks the shape that cosign 3 looks for, and that it comes out the same again.
func TestPlan(t *testing.T) {
	s := newServer(t, true)
	att := s.attestation(1)
	intent, err := s.open(oci.Options{}).Plan(t.Context(), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "sha256:71c967901bd529880ff5dff8bab5a86ddcfb55325d2f9c9ccfd4c17eb6c0a982"
	if intent.Manifest.String() != golden {
		t.Errorf("manifest %s, want %s", intent.Manifest, golden)
	}
	if len(s.writes()) > 0 {
		t.Errorf("planning wrote %q", s.writes())
	}
	if _, err := publish(t.Context(), s.open(oci.Options{}), att, s.image); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(s.get(intent.Manifest.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"schemaVersion": 2.0,
		"mediaType":     manifestType,
		"artifactType":  bundle.MediaType,
		"config": map[string]any{
			"mediaType": "application/vnd.oci.empty.v1+json", "artifactType": bundle.MediaType, "size": 2.0,
			"digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
		},
		"layers": []any{map[string]any{
			"mediaType": bundle.MediaType, "size": float64(len(intent.Request)), "digest": lodge.DigestOf(intent.Request).String(),
		}},
		"subject": map[string]any{
			"mediaType": manifestType, "size": float64(len(s.get("latest"))), "digest": s.image.String(),
		},
		"annotations": map[string]any{
			"dev.lodge.key":                     att.Key.String(),
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": "https://openvex.dev/ns/v0.2.0",
			"org.opencontainers.image.created":  "1970-01-01T00:00:00Z",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

func TestSend(t *testing.T) {
	for name, api := range kinds {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, api)
			att := s.attestation(1)
			receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
			if err != nil {
				t.Fatal(err)
			}
			if want := s.host + "/app@" + receipt.Digest.String(); receipt.Reference != want || receipt.Subject != s.image {
				t.Errorf("receipt %+v, want the reference %s", receipt, want)
			}
			if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
				t.Errorf("referrers %q, want only %s", got, receipt.Digest)
			}
			if lodge.DigestOf(s.get(oci.KeyTag(att.Key, signer, s.image))) != receipt.Digest {
				t.Error("the key tag does not lead to the artifact")
			}

			before := len(s.writes())
			again, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
			if err != nil || again != receipt {
				t.Errorf("again: %+v, %v; want %+v", again, err, receipt)
			}
			if sent := s.writes()[before:]; len(sent) > 0 {
				t.Errorf("sending again wrote %q", sent)
			}
		})
	}
}

// TestFaults loses every request that writes, before and after it is applied. The class must
// be right, and whatever happened, sending again ends with one artifact.
func TestFaults(t *testing.T) {
	for name, api := range kinds {
		for _, kind := range []fault{lostBefore, lostAfter, busyBefore, busyAfter} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				nth := 1
				for ; ; nth++ {
					s := newServer(t, api)
					att := s.attestation(1)
					transport := &faults{nth: nth, kind: kind}
					r := s.open(oci.Options{Transport: transport})
					_, err := publish(t.Context(), r, att, s.image)
					if transport.seen < nth {
						break
					}
					if err != nil {
						class := lodge.Classify(err).Class
						placed := s.get(oci.KeyTag(att.Key, signer, s.image)) != nil || len(s.referrers()) > 0
						if class != lodge.ClassRetry && class != lodge.ClassUnknown || placed && class != lodge.ClassUnknown {
							t.Errorf("request %d: class %s of %v", nth, class, err)
						}
					}
					receipt, err := publish(t.Context(), r, att, s.image)
					if err != nil {
						t.Fatalf("request %d, sent again: %v", nth, err)
					}
					if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
						t.Errorf("request %d: referrers %q", nth, got)
					}
				}
				if nth < 6 {
					t.Errorf("only %d requests write", nth-1)
				}
			})
		}
	}
}

func TestFindsExisting(t *testing.T) {
	for name, api := range kinds {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, api)
			att := s.attestation(1)
			find := func() []oci.Candidate {
				t.Helper()
				found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			if found := find(); len(found) > 0 {
				t.Errorf("before anything is there: %+v", found)
			}
			r := s.open(oci.Options{})
			intent, err := r.Plan(t.Context(), att, s.image)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Send(t.Context(), att.Key, signer, s.image, intent); err != nil {
				t.Fatal(err)
			}
			if _, err := publish(t.Context(), r, s.attestation(2), s.image); err != nil {
				t.Fatal(err)
			}
			want := []oci.Candidate{{Manifest: intent.Manifest, Bundle: intent.Request}}
			if diff := cmp.Diff(want, find()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s.drop(oci.KeyTag(att.Key, signer, s.image))
			if diff := cmp.Diff(want, find()); diff != "" {
				t.Errorf("without the key tag (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFindsExistingUnlisted: the key tag leads to an artifact that lost its place in the
// index, and adopting it gives it back.
func TestFindsExistingUnlisted(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	s.drop("sha256-" + s.image.Hex())

	r := s.open(oci.Options{})
	found, err := all(r.Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) != 1 || found[0].Manifest != receipt.Digest {
		t.Fatalf("found %+v, %v; want %s unlisted", found, err, receipt.Digest)
	}
	adopted, err := r.Adopt(t.Context(), s.image, found[0].Manifest)
	if err != nil || adopted != receipt {
		t.Errorf("adopted %+v, %v; want %+v", adopted, err, receipt)
	}
	if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
		t.Errorf("referrers %q", got)
	}
	for _, w := range s.writes()[len(s.writes())-1:] {
		if !strings.Contains(w, "sha256-") {
			t.Errorf("adopting wrote %q", w)
		}
	}
}

// TestFindsExistingIgnoresOthers: a key tag that was pointed at something else, and artifacts
// that are no bundle for this image, are nobody's.
func TestFindsExistingIgnoresOthers(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	s.put("manifests/"+oci.KeyTag(att.Key, signer, s.image), manifestType, s.get("latest"))
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := s.open(oci.Options{}).Adopt(t.Context(), s.image, s.image); lodge.Classify(err).Code != "not-attached" {
		t.Errorf("adopting the image itself: %v", err)
	}
	missing, err := oci.New(s.host+"/nothing", oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := all(missing.Candidates(t.Context(), att.Key, signer, s.image)); err != nil || len(found) > 0 {
		t.Errorf("in a repository that is not there: %+v, %v", found, err)
	}
}

// TestLeavesOthersAlone: what others wrote into the index stays, to the last member.
func TestLeavesOthersAlone(t *testing.T) {
	s := newServer(t, false)
	foreign := `{"mediaType":"application/vnd.example","digest":"sha256:` + strings.Repeat("f", 64) + `","size":7,"x-unknown":{"a":[1.50]}}`
	s.put("manifests/sha256-"+s.image.Hex(), "application/vnd.oci.image.index.v1+json",
		[]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","annotations":{"by":"others"},"manifests":[`+foreign+`]}`))
	if _, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image); err != nil {
		t.Fatal(err)
	}
	var index struct {
		Annotations map[string]string
		Manifests   []json.RawMessage
	}
	if err := json.Unmarshal(s.get("sha256-"+s.image.Hex()), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 2 || string(index.Manifests[0]) != foreign || index.Annotations["by"] != "others" {
		t.Errorf("the index is now %s, %v", index.Manifests, index.Annotations)
	}
}

// TestTwoPushers: two processes write the same index, and nothing is lost.
func TestTwoPushers(t *testing.T) {
	s := newServer(t, false)
	const each = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	var want []string
	for p := range 2 {
		r := s.open(oci.Options{Settle: settle})
		for n := range each {
			wg.Go(func() {
				receipt, err := publish(t.Context(), r, s.attestation(p*each+n), s.image)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				want = append(want, receipt.Digest.String())
			})
		}
	}
	wg.Wait()
	got := s.referrers()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(want) != 2*each {
		t.Errorf("%d of %d referrers (-want +got):\n%s", len(got), 2*each, diff)
	}
}

// TestIndexOverwritten: another writer wipes the index right after every write, a few times.
func TestIndexOverwritten(t *testing.T) {
	s := newServer(t, false)
	tag := "sha256-" + s.image.Hex()
	empty := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	wiped := 0
	s.hook(func(_ http.ResponseWriter, r *http.Request) bool {
		// The re-check begins with HEAD of the tag; wipe before it looks.
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, tag) && wiped < 5 {
			wiped++
			if wiped > 1 {
				s.put("manifests/"+tag, "application/vnd.oci.image.index.v1+json", empty)
			}
		}
		return false
	})
	receipt, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) || wiped < 5 {
		t.Errorf("wiped %d times; referrers %q", wiped, got)
	}
}

func TestIndexFull(t *testing.T) {
	s := newServer(t, false)
	const limit = 4 << 20
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`)
	for i := 0; len(index) < limit-1000; i++ {
		index = fmt.Appendf(index, `{"mediaType":"application/vnd.example","digest":"sha256:%064x","size":7,"annotations":{"a":%q}},`, i, strings.Repeat("x", 250))
	}
	index = fmt.Appendf(index, `{"mediaType":"application/vnd.example","digest":"sha256:%064x","size":7,"annotations":{"a":%q}}]}`,
		1<<60, strings.Repeat("x", limit-len(index)-200))
	s.put("manifests/sha256-"+s.image.Hex(), "application/vnd.oci.image.index.v1+json", index)
	_, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassPermanent || e.Code != "index-full" || !strings.Contains(e.Message, "10,000") {
		t.Errorf("error %v", err)
	}
}

func TestIndexTagTaken(t *testing.T) {
	s := newServer(t, false)
	s.put("manifests/sha256-"+s.image.Hex(), manifestType, []byte(`{"schemaVersion":2}`))
	_, err := publish(t.Context(), s.open(oci.Options{}), s.attestation(1), s.image)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassPermanent || e.Code != "index-invalid" {
		t.Errorf("error %v", err)
	}
}

func TestSubjects(t *testing.T) {
	s := newServer(t, true)
	other := lodge.DigestOf([]byte("not there"))
	got, err := s.open(oci.Options{}).Subjects(t.Context(), []lodge.Digest{other, s.image})
	if err != nil || !slices.Equal(got, []lodge.Digest{s.image}) {
		t.Errorf("got %v, %v; want %s", got, err, s.image)
	}
	_, err = s.open(oci.Options{}).Plan(t.Context(), s.attestation(1), other)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassPermanent || e.Code != "subject-missing" {
		t.Errorf("planning for it: %v", err)
	}
}

func TestSendRefusesStalePlan(t *testing.T) {
	s := newServer(t, true)
	att := s.attestation(1)
	r := s.open(oci.Options{})
	intent, err := r.Plan(t.Context(), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	intent.Manifest = lodge.DigestOf([]byte("another"))
	_, err = r.Send(t.Context(), att.Key, signer, s.image, intent)
	if e := lodge.Classify(err); e == nil || e.Code != "plan-stale" || len(s.writes()) > 0 {
		t.Errorf("error %v, writes %q", err, s.writes())
	}
}

// TestLock: with a lock between them, the writers of one index take turns, and one that
// does not get it says that nothing was written to the index.
func TestLock(t *testing.T) {
	s := newServer(t, false)
	turn := make(chan struct{}, 1)
	var inside, most atomic.Int32
	lock := func(ctx context.Context, name string) (func(), error) {
		if !strings.HasSuffix(name, "@"+s.image.String()) || !strings.HasPrefix(name, "oci://") {
			t.Errorf("locked %q", name)
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		most.Store(max(most.Load(), inside.Add(1)))
		return func() { inside.Add(-1); <-turn }, nil
	}
	var wg sync.WaitGroup
	for p := range 3 {
		r := s.open(oci.Options{Settle: settle, Lock: lock})
		for n := range 5 {
			wg.Go(func() {
				if _, err := publish(t.Context(), r, s.attestation(p*5+n), s.image); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if got := s.referrers(); len(got) != 15 || most.Load() != 1 {
		t.Errorf("%d of 15 referrers, %d writers at once", len(got), most.Load())
	}

	refused := s.open(oci.Options{Settle: settle, Lock: func(context.Context, string) (func(), error) {
		return nil, errors.New("somebody else has it")
	}})
	_, err := publish(t.Context(), refused, s.attestation(99), s.image)
	if e := lodge.Classify(err); e == nil || e.Code != "index-busy" || e.Class.Final() {
		t.Errorf("without the lock: %v", err)
	}
	if got := s.referrers(); len(got) != 15 {
		t.Errorf("%d referrers, want 15", len(got))
	}
}

// TestRelist: another writer drops one of ours from the index later on, and leaves its own.
func TestRelist(t *testing.T) {
	for _, api := range []bool{false, true} {
		s := newServer(t, api)
		r := s.open(oci.Options{Settle: settle})
		var ours []lodge.Digest
		for n := range 3 {
			receipt, err := publish(t.Context(), r, s.attestation(n), s.image)
			if err != nil {
				t.Fatal(err)
			}
			ours = append(ours, receipt.Digest)
		}
		if lost, err := r.Relist(t.Context(), s.image, ours); err != nil || len(lost) > 0 {
			t.Errorf("api %v: with nothing lost, relisted %v, %v", api, lost, err)
		}
		if api {
			continue
		}
		theirs, err := publish(t.Context(), r, s.attestation(99), s.image)
		if err != nil {
			t.Fatal(err)
		}
		s.put("manifests/sha256-"+s.image.Hex(), "application/vnd.oci.image.index.v1+json", fmt.Appendf(nil,
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":7}]}`,
			theirs.Digest))
		lost, err := r.Relist(t.Context(), s.image, ours)
		if err != nil || !slices.Equal(lost, ours) {
			t.Errorf("relisted %v, %v, want %v", lost, err, ours)
		}
		if got := s.referrers(); len(got) != 4 || !slices.Contains(got, theirs.Digest.String()) {
			t.Errorf("afterwards listed: %v", got)
		}
	}
}

// TestOvertakenWriter: another writer's index comes between the moment that ours is read and
// the one that it is written. Its entry stays.
func TestOvertakenWriter(t *testing.T) {
	s := newServer(t, false)
	r := s.open(oci.Options{Settle: settle})
	theirs := s.put("manifests/theirs", manifestType, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json",`+
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"annotations":{"by":"them"}}`))
	path := "manifests/sha256-" + s.image.Hex()
	var overtaken atomic.Bool
	reads := make(chan struct{}, 1000)
	s.hook(func(_ http.ResponseWriter, req *http.Request) bool {
		switch {
		case !strings.HasSuffix(req.URL.Path, path):
		case req.Method == http.MethodHead && overtaken.Load():
			reads <- struct{}{}
		case req.Method == http.MethodPut && !overtaken.Swap(true):
			s.put(path, "application/vnd.oci.image.index.v1+json", fmt.Appendf(nil,
				`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":7}]}`,
				theirs))
			for range 2 { // our PUT takes the registry until a look has been answered
				select {
				case <-reads:
				case <-time.After(20 * time.Second):
					t.Error("nobody looks at an index that is being written")
				}
			}
		}
		return false
	})
	receipt, err := publish(t.Context(), r, s.attestation(1), s.image)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.referrers(); len(got) != 2 || !slices.Contains(got, theirs.String()) || !slices.Contains(got, receipt.Digest.String()) {
		t.Errorf("listed: %v, want %s and %s", got, theirs, receipt.Digest)
	}
}

// TestWaitingWriterGivesUp: who waits for another writer of the same index waits no longer
// than its own time, and the other one goes on.
func TestWaitingWriterGivesUp(t *testing.T) {
	s := newServer(t, false)
	entered, goOn := make(chan struct{}, 2), make(chan struct{})
	r := s.open(oci.Options{Settle: settle, Lock: func(context.Context, string) (func(), error) {
		entered <- struct{}{}
		<-goOn
		return func() {}, nil
	}})
	first := make(chan error, 1)
	go func() {
		_, err := publish(t.Context(), r, s.attestation(1), s.image)
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		_, err := publish(ctx, r, s.attestation(2), s.image)
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) || lodge.Classify(err).Class.Final() {
			t.Errorf("the one who waited: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for the other one although its time is over")
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if got := s.referrers(); len(got) < 1 || len(got) > 2 {
		t.Errorf("%d referrers, want the first, perhaps the second", len(got))
	}
}

func all(candidates iter.Seq2[oci.Candidate, error]) (found []oci.Candidate, err error) {
	for c, err := range candidates {
		if err != nil {
			return found, err
		}
		found = append(found, c)
	}
	return found, nil
}

// TestFindsExistingWhileIndexIsReplaced: oras and cosign write a new index and delete the
// old one. Whoever reads in between must not take that for "nothing is attached".
func TestFindsExistingWhileIndexIsReplaced(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	if _, err := publish(t.Context(), s.open(oci.Options{Settle: settle}), att, s.image); err != nil {
		t.Fatal(err)
	}
	tag := "manifests/sha256-" + s.image.Hex()
	s.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/sha256") {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return true
		}
		return false
	})
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if e := lodge.Classify(err); e == nil || e.Class.Final() || errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("with %s vanishing: %d candidates, error %v; want a retry", tag, len(found), err)
	}
}

// TestFindsExistingAmongBroken: artifacts that claim to be ours and are broken do not stand
// in the way of the good one.
func TestFindsExistingAmongBroken(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	receipt, err := publish(t.Context(), s.open(oci.Options{Settle: settle}), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
		Manifests     []any  `json:"manifests"`
	}
	if err := json.Unmarshal(s.get("sha256-"+s.image.Hex()), &index); err != nil {
		t.Fatal(err)
	}
	good := s.get(receipt.Digest.String())
	for _, broken := range []string{`"size":1`, `"size":99999999`, `"size":-5`} {
		// A layer whose size is not the blob's, and an entry whose size is not the manifest's.
		var m ocispec.Manifest
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		size := fmt.Sprintf(`"size":%d`, m.Layers[0].Size)
		digest := s.put("manifests/broken", manifestType, bytes.Replace(good, []byte(size), []byte(broken), 1))
		entry := map[string]any{"mediaType": manifestType, "digest": digest.String(), "size": json.RawMessage(strings.TrimPrefix(broken, `"size":`))}
		index.Manifests = append(index.Manifests, entry)
		annotated := maps.Clone(entry)
		annotated["annotations"] = map[string]string{"dev.lodge.key": att.Key.String()}
		index.Manifests = append(index.Manifests, annotated)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	s.put("manifests/sha256-"+s.image.Hex(), "application/vnd.oci.image.index.v1+json", raw)
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) != 1 || found[0].Manifest != receipt.Digest {
		t.Errorf("found %+v, %v", found, err)
	}
}
