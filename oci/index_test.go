package oci_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/oci"
)

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

// TestIndexOverwrittenAfterwards: an artifact that is listed when it is looked for, by a writer who
// did not live to look again, is looked for again all the same.
func TestIndexOverwrittenAfterwards(t *testing.T) {
	s := newServer(t, false)
	tag := "sha256-" + s.image.Hex()
	att := s.attestation(1)
	receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	looks := 0
	s.hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, tag) {
			if looks++; looks == 2 {
				s.put("manifests/"+tag, "application/vnd.oci.image.index.v1+json",
					[]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
			}
		}
		return false
	})
	if _, err := publish(t.Context(), s.open(oci.Options{}), att, s.image); err != nil {
		t.Fatal(err)
	}
	if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) || looks < 3 {
		t.Errorf("after %d looks: referrers %q", looks, got)
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

// gate gives a lease only when it is open.
type gate struct {
	*leases
	entered chan<- struct{}
	open    <-chan struct{}
}

func (g gate) Acquire(ctx context.Context, name, holder string, d time.Duration) (int64, error) {
	g.entered <- struct{}{}
	<-g.open
	return g.leases.Acquire(ctx, name, holder, d)
}

// TestWaitingWriterGivesUp: who waits for another writer of the same index waits no longer
// than its own time, and the other one goes on.
func TestWaitingWriterGivesUp(t *testing.T) {
	s := newServer(t, false)
	entered, goOn := make(chan struct{}, 2), make(chan struct{})
	r := s.open(oci.Options{Settle: settle, Leases: gate{&leases{}, entered, goOn}})
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
