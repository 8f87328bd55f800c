package node_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/trigger"
)

// TestRetention has a node delete a payload that is too old, and another one leave the next
// alone: one of all nodes does that, once an hour.
func TestRetention(t *testing.T) {
	s := newSite(t)
	s.config.Deliver = []string{"rekor"}
	keeper := s.open()
	first, err := s.push(keeper, node.Submission{Envelope: s.envelope(lodge.Digest{1})})
	if err != nil || first[0].State != lodge.Verified {
		t.Fatalf("first: %+v, %v", first, err)
	}
	if _, err := keeper.Bundle(t.Context(), first[0].Key, "", ""); err != nil {
		t.Fatal(err)
	}
	s.awaitTrigger()
	s.config.Retention = node.Retention{Payloads: 1}
	s.open()
	pruned := func(key lodge.Key) bool {
		_, err := keeper.Bundle(t.Context(), key, "", "")
		if err != nil && (!errors.Is(err, lodge.ErrPruned) || !strings.Contains(err.Error(), "lodge status "+key.String())) {
			t.Fatal(err)
		}
		return err != nil
	}
	deadline := time.After(time.Minute)
	for !pruned(first[0].Key) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatal("the payload is not pruned")
		}
	}
	if d, err := keeper.Delivery(t.Context(), first[0].ID); err != nil || d.Receipt.Log.InclusionProof == nil {
		t.Errorf("the receipt: %+v, %v", d.Receipt, err)
	}
	other := s.open()
	second, err := s.push(other, node.Submission{Envelope: s.envelope(lodge.Digest{2})})
	if err != nil || second[0].State != lodge.Verified {
		t.Fatalf("second: %+v, %v", second, err)
	}
	if pruned(second[0].Key) {
		t.Error("another node has pruned within the same hour")
	}
	if again, err := s.push(other, node.Submission{Envelope: s.envelope(lodge.Digest{1})}); err != nil || again[0].Receipt.Log.LogIndex != first[0].Receipt.Log.LogIndex {
		t.Errorf("a resubmission of what was pruned: %+v, %v", again, err)
	}
}

// awaitTrigger waits until policies have seen all events: before that no payload is deleted.
func (s *site) awaitTrigger() {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), s.config.Store)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	deadline := time.After(time.Minute)
	for {
		last, err := db.LastSequence(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		c, err := db.Cursor(s.t.Context(), trigger.Name)
		if err != nil {
			s.t.Fatal(err)
		}
		if c.Sequence >= last {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			s.t.Fatal("the trigger does not come to the last event")
		}
	}
}
