package oci_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
	"github.com/lodgehq/lodge/oci"
)

// leases are those of a store, in memory. They implement lease.Store.
type leases struct {
	mu      sync.Mutex
	name    string
	term    int64
	ends    time.Time
	refused error // what Renew answers
}

func (l *leases) Acquire(_ context.Context, name, _ string, d time.Duration) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.ends) {
		return 0, nil
	}
	l.term++
	l.name, l.ends = name, time.Now().Add(d)
	return l.term, nil
}

func (l *leases) Renew(_ context.Context, _ string, term int64, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term != l.term || !time.Now().Before(l.ends) {
		return lodge.ErrStale
	}
	if l.refused == nil {
		l.ends = time.Now().Add(d)
	}
	return l.refused
}

func (l *leases) Release(_ context.Context, _ string, term int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term != l.term {
		return lodge.ErrStale
	}
	l.ends = time.Time{}
	return nil
}

// slowRegistry keeps no list of referrers and takes its time to write an index.
type slowRegistry struct {
	http.Handler
	image lodge.Digest
	takes time.Duration

	mu           sync.Mutex
	inside, most int // writers of the index
	applied      int // writes of the index
}

func newSlowRegistry(t *testing.T, takes time.Duration) *slowRegistry {
	t.Helper()
	s := &slowRegistry{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), image: lodge.DigestOf([]byte(image)), takes: takes}
	r := httptest.NewRequest(http.MethodPut, "http://registry.test/v2/app/manifests/latest", strings.NewReader(image))
	r.Header.Set("Content-Type", manifestType)
	res, err := s.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
	return s
}

const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// RoundTrip implements http.RoundTripper.
func (s *slowRegistry) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-") {
		s.enter(1)
		defer s.enter(-1)
		timer := time.NewTimer(s.takes)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.mu.Lock()
			s.applied++
			s.mu.Unlock()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	s.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r
	return res, nil
}

func (s *slowRegistry) enter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside += n
	s.most = max(s.most, s.inside)
}

func (s *slowRegistry) open(t *testing.T, l lease.Store) *oci.Repository {
	t.Helper()
	r, err := oci.New("registry.test/app", oci.Options{Transport: s, Leases: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLease: of several processes one writes the index at a time, however long that takes,
// and all are listed in the end.
func TestLease(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			l, s := &leases{}, newSlowRegistry(t, takes)
			var processes sync.WaitGroup
			for p := range 3 {
				r := s.open(t, l)
				for n := range 5 {
					processes.Go(func() {
						if _, err := publish(t.Context(), r, attestation(t, s.image, p*5+n), s.image); err != nil {
							t.Error(err)
						}
					})
				}
			}
			processes.Wait()
			if s.most != 1 {
				t.Errorf("%d writers at once, of writes that take %s", s.most, takes)
			}
			if s.applied > 6 {
				t.Errorf("15 attestations in 3 processes took %d writes", s.applied)
			}
			if want := "oci://registry.test/app@" + s.image.String(); l.name != want {
				t.Errorf("the lease is on %q, want %q", l.name, want)
			}
			for p := range 15 {
				found, err := all(s.open(t, l).Candidates(t.Context(), attestation(t, s.image, p).Key, signer, s.image))
				if err != nil || len(found) != 1 {
					t.Errorf("%d: %d found, %v", p, len(found), err)
				}
			}
		})
	}
}

// TestLeaseOfTheDead: a process that was killed while it wrote blocks nobody for long.
func TestLeaseOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := &leases{}, newSlowRegistry(t, time.Millisecond)
		taken := make(chan time.Duration, 1)
		dead := &dying{l, taken}
		ctx, kill := context.WithCancel(t.Context())
		go func() { _, _ = publish(ctx, s.open(t, dead), attestation(t, s.image, 1), s.image) }()
		<-taken
		kill()
		begin := time.Now()
		if _, err := publish(t.Context(), s.open(t, l), attestation(t, s.image, 2), s.image); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 8*time.Second {
			t.Errorf("the next one waited %s", took)
		}
	})
}

// dying takes a lease and is not heard of any more.
type dying struct {
	*leases
	taken chan time.Duration
}

func (d *dying) Acquire(ctx context.Context, name, holder string, length time.Duration) (int64, error) {
	if _, err := d.leases.Acquire(ctx, name, holder, length); err != nil {
		return 0, err
	}
	d.taken <- length
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestLeaseLost: a writer whose lease is lost, or can't be renewed, stops writing before
// somebody else begins, and says that nothing is known.
func TestLeaseLost(t *testing.T) {
	for _, refused := range []error{lodge.ErrStale, errors.New("the database is down")} {
		synctest.Test(t, func(t *testing.T) {
			l, s := &leases{refused: refused}, newSlowRegistry(t, time.Minute)
			begin := time.Now()
			_, err := publish(t.Context(), s.open(t, l), attestation(t, s.image, 1), s.image)
			if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown {
				t.Errorf("with %v: %v", refused, err)
			}
			if took := time.Since(begin); took > 6*time.Second || s.applied > 0 {
				t.Errorf("with %v it wrote on for %s (%d writes)", refused, took, s.applied)
			}
		})
	}
}

// hanging has a database whose answers do not come, whatever the caller's patience: it may
// be in the middle of a commit.
type hanging struct{ *leases }

func (hanging) Renew(context.Context, string, int64, time.Duration) error {
	<-time.After(time.Minute)
	return lodge.ErrStale
}

// TestLeaseInDoubt: a writer that does not hear whether its lease goes on stops in time too.
func TestLeaseInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := hanging{&leases{}}, newSlowRegistry(t, 50*time.Second)
		_, err := publish(t.Context(), s.open(t, l), attestation(t, s.image, 1), s.image)
		if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassUnknown || s.applied > 0 {
			t.Errorf("it wrote on without a lease (%d writes): %v", s.applied, err)
		}
	})
}

// unleased has no lease to give.
type unleased struct{ *leases }

func (unleased) Acquire(context.Context, string, string, time.Duration) (int64, error) {
	return 0, errors.New("the database is down")
}

// TestLeaseRefused: without the lease nothing is written to the index, and that is said.
func TestLeaseRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowRegistry(t, time.Millisecond)
		_, err := publish(t.Context(), s.open(t, unleased{}), attestation(t, s.image, 1), s.image)
		if e := lodge.Classify(err); e == nil || e.Code != "index-busy" || e.Class.Final() {
			t.Errorf("without the lease: %v", err)
		}
		if s.applied > 0 {
			t.Errorf("the index was written %d times", s.applied)
		}
	})
}
