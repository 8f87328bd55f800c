package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/storetest"
)

// TestBatchOfOneEnvelope asks for a repository in the very transaction in which the log that it
// requires is verified: it is due, with the log's entry.
func TestBatchOfOneEnvelope(t *testing.T) {
	for name, database := range map[string]storetest.Database{"SQLite": storetest.SQLite, "Postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			s := open(t, database(t))
			images := lodge.Target{Name: "images", Kind: lodge.KindRepository, Address: "oci://registry.example/app"}
			if err := s.Register(t.Context(), images); err != nil {
				t.Fatal(err)
			}
			sub := lodge.Submission{Key: lodge.DigestOf([]byte("a")), Signer: lodge.KeySigner([]byte("key")), Raw: []byte("raw")}
			now := time.Now()
			if _, err := s.Accept(t.Context(), sub, orders, now); err != nil {
				t.Fatal(err)
			}
			jobs, err := s.Claim(t.Context(), target.Address, lodge.PickDue, 1, now, now.Add(time.Hour))
			if err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			entry := lodge.Entry{Body: []byte("{}"), Receipt: lodge.LogReceipt{LogID: "ab", LogIndex: 7, InclusionProof: &lodge.InclusionProof{}}}
			change := lodge.Change{Delivery: jobs[0].Delivery, From: lodge.Queued, Entry: &entry}
			change.State, change.Receipt = lodge.Verified, &lodge.Receipt{Log: &entry.Receipt}
			both := append(slices.Clone(orders), lodge.Order{Target: images, Subject: lodge.DigestOf([]byte("image")), Requires: []int{0}})
			var verified, accepted error
			s.Together(
				func() { verified = s.Advance(t.Context(), change, now) },
				func() { _, accepted = s.Accept(t.Context(), sub, both, now) })
			if verified != nil || accepted != nil {
				t.Fatal(verified, accepted)
			}
			now = time.Now()
			if jobs, err = s.Claim(t.Context(), images.Address, lodge.PickDue, 1, now, now.Add(time.Hour)); err != nil || len(jobs) != 1 {
				t.Fatalf("the repository's: %v, %v", jobs, err)
			}
			if err := s.Load(t.Context(), &jobs[0]); err != nil || len(jobs[0].Required) != 1 {
				t.Errorf("with %d entries, %v", len(jobs[0].Required), err)
			}
		})
	}
}
