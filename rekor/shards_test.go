package rekor_test

import (
	"errors"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
)

// TestShards freezes the first of two shards: what it has is found there, what it has not
// is sent to the next, and never to both.
func TestShards(t *testing.T) {
	old, first, _ := newV2(t)
	next, second, _ := newV2(t)
	log, err := rekor.NewShards(first, second)
	if err != nil {
		t.Fatal(err)
	}
	before, after := attestation(t, 1), attestation(t, 2)
	intent := must(log.Plan(before))(t)
	was := must(log.Send(t.Context(), before, intent))(t)

	old.Inject(logtest.Fault{Status: 405, Count: -1, Body: "frozen"})
	found := must(log.Find(t.Context(), before, intent))(t)
	if found.Entry == nil || found.Entry.Receipt.LogID != was.Receipt.LogID {
		t.Fatalf("what the frozen shard has is not found: %+v", found)
	}

	intent = must(log.Plan(after))(t)
	_, err = log.Send(t.Context(), after, intent)
	wantError(t, err, lodge.ClassReroute, "frozen")
	absent := must(log.Find(t.Context(), after, intent))(t)
	if absent.Entry != nil || absent.LogID != second.LogID() || absent.TreeSize != lodge.EmptyTree {
		t.Fatalf("found what nobody has: %+v", absent)
	}
	intent = must(log.Plan(after))(t)
	if intent.LogID != second.LogID() {
		t.Fatalf("planned for the shard %s, want the next one, %s", intent.LogID, second.LogID())
	}
	is := must(log.Send(t.Context(), after, intent))(t)
	found = must(log.Find(t.Context(), after, lodge.Intent{}))(t)
	if found.Entry == nil || found.Entry.Receipt.LogID != second.LogID() {
		t.Errorf("what the next shard has is not found: %+v", found)
	}
	if old.Size() != 1 || next.Size() != 1 {
		t.Errorf("the shards have %d and %d entries, want one each", old.Size(), next.Size())
	}

	for _, e := range []*lodge.Entry{was, is} {
		att := *before
		if e == is {
			att = *after
		}
		att.Entries = []lodge.Entry{*e}
		if adopted, err := log.Adopt(t.Context(), &att); err != nil || adopted.Receipt.LogID != e.Receipt.LogID {
			t.Errorf("the entry of shard %s is not adopted: %v", e.Receipt.LogID, err)
		}
	}
	if _, err := log.Adopt(t.Context(), before); !errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("adopted from nothing: %v", err)
	}
}

func TestShardsRunOut(t *testing.T) {
	only, client, _ := newV2(t)
	log, err := rekor.NewShards(client)
	if err != nil {
		t.Fatal(err)
	}
	only.Inject(logtest.Fault{Status: 405})
	att := attestation(t, 1)
	_, err = log.Send(t.Context(), att, must(log.Plan(att))(t))
	wantError(t, err, lodge.ClassHeld, "frozen")
	_, err = log.Send(t.Context(), att, lodge.Intent{LogID: "of no shard"})
	wantError(t, err, lodge.ClassHeld, "shard-unknown")
	if _, err := rekor.NewShards(); err == nil {
		t.Error("a log without shards was made")
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
