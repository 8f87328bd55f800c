package deliver_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/store"
)

// listing is a repository that is asked to list things again.
type listing struct {
	deliver.Repository
	broken lodge.Digest // subject whose list can't be mended

	mu    sync.Mutex
	asked []lodge.Digest
}

func (l *listing) Relist(_ context.Context, subject lodge.Digest, _ []lodge.Digest) ([]lodge.Digest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, subject)
	if subject == l.broken {
		return nil, lodge.Errorf(lodge.ClassPermanent, "index-full", "no room")
	}
	return nil, nil
}

// TestRelistGoesOn: a subject whose list is full, or whose artifact somebody deleted, keeps no
// other from being looked at.
func TestRelistGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "lodge.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		images := lodge.Target{Name: "images", Kind: lodge.KindRepository, Address: "oci://registry.test/app"}
		if err := s.Register(t.Context(), images); err != nil {
			t.Fatal(err)
		}
		const n = 20
		var subjects []lodge.Digest
		for i := range n {
			subjects = append(subjects, lodge.DigestOf([]byte(fmt.Sprint(i))))
			sub := lodge.Submission{Key: subjects[i], Signer: "key:x", Raw: []byte("raw")}
			if _, err := s.Accept(t.Context(), sub, []lodge.Order{{Target: images, Subject: subjects[i]}}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		now := time.Now()
		jobs, err := s.Claim(t.Context(), images.Address, lodge.PickDue, n, now, now.Add(time.Hour))
		if err != nil || len(jobs) != n {
			t.Fatal(len(jobs), err)
		}
		for _, job := range jobs {
			change := lodge.Change{Delivery: job.Delivery, From: job.State}
			change.State, change.Receipt = lodge.Verified, &lodge.Receipt{OCI: &lodge.OCIReceipt{Digest: job.Key, Subject: job.Subject}}
			if err := s.Advance(t.Context(), change, now); err != nil {
				t.Fatal(err)
			}
		}
		l := &listing{broken: subjects[n/2]}
		e, err := deliver.New(deliver.Config{Store: s, Targets: []deliver.Target{{Target: images, Repository: l, Relist: time.Minute}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
		defer stop()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for _, subject := range subjects {
			if !slices.Contains(l.asked, subject) {
				t.Errorf("subject %s was not looked at", subject)
			}
		}
	})
}
