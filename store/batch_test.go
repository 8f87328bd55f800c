package store_test

import (
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/storetest"
)

// TestAcceptSeesWhatItsBatchWrites resubmits an envelope in the very transaction in which its
// delivery is verified: it comes back with its receipt, which the receipt cache keeps.
func TestAcceptSeesWhatItsBatchWrites(t *testing.T) {
	for name, database := range map[string]storetest.Database{"SQLite": storetest.SQLite, "Postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			s := open(t, database(t))
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
			sub.Scopes = []string{"component:openssl"}
			var again []lodge.Accepted
			var verified, accepted error
			s.Together(
				func() { verified = s.Advance(t.Context(), change, now) },
				func() { again, accepted = s.Accept(t.Context(), sub, orders, now) })
			if verified != nil || accepted != nil {
				t.Fatal(verified, accepted)
			}
			if d := again[0]; d.State != lodge.Verified || d.Receipt == nil || d.Receipt.Log.LogIndex != 7 {
				t.Errorf("resubmitted: state %s, receipt %+v", d.State, d.Receipt)
			}
		})
	}
}
