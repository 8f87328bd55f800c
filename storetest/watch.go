package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// shard opens a shard of log1.
func (w *world) shard(s *store.Store) lodge.Shard {
	w.Helper()
	shard, err := s.OpenShard(w.Context(), lodge.Shard{Target: log1.Address, LogID: "ab", Origin: "log.example", URL: "https://log.example"})
	w.ok(err)
	return shard
}

func treeHead(size int64, root byte) lodge.TreeHead {
	return lodge.TreeHead{Size: size, Root: lodge.Digest{root}, Note: strings.Repeat("n", int(size)+1)}
}

// keep makes head the newest and returns the shard with it.
func (w *world) keep(s *store.Store, shard lodge.Shard, head lodge.TreeHead) lodge.Shard {
	w.Helper()
	w.ok(s.KeepHead(w.Context(), shard, head, false, time.Now()))
	return w.shard(s)
}

func heads(w *world) {
	s := w.open()
	shard := w.shard(s)
	w.equal("a new shard", []any{shard.Head.Size, shard.Next, shard.FirstBad, shard.Cursor, shard.VerifiedThrough()}, []any{int64(-1), int64(0), int64(-1), int64(-1), int64(-1)})
	first := shard
	for _, head := range []lodge.TreeHead{treeHead(0, 1), treeHead(7, 2), treeHead(9, 3)} {
		shard = w.keep(s, shard, head)
		w.equal("head", shard.Head, head)
	}
	if err := s.KeepHead(w.Context(), first, treeHead(20, 9), false, time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("a checkpoint in place of one that is not there any more: %v", err)
	}
	for size, want := range map[int64]int64{0: 0, 6: 0, 7: 7, 8: 7, 100: 9} {
		kept, err := s.KeptHead(w.Context(), shard.ID, size)
		w.ok(err)
		w.equal("newest of at most so many leaves", kept.Size, want)
	}
	shards, err := s.Shards(w.Context(), "")
	w.ok(err)
	w.equal("shards", len(shards), 1)
	none, err := s.Shards(w.Context(), log2.Address)
	w.ok(err)
	w.equal("shards of another log", len(none), 0)
	w.equal("events", w.events(s), []string{"CheckpointUpdated", "CheckpointUpdated", "CheckpointUpdated"})

	term, err := s.Acquire(w.Context(), "follow", "a", time.Hour)
	w.ok(err)
	w.ok(s.Release(w.Context(), "follow", term))
	if err := s.Under("follow", term).KeepHead(w.Context(), shard, treeHead(30, 4), false, time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("a follower without its lease wrote: %v", err)
	}
}

// headFrom begins to read behind what was there at first.
func headFrom(w *world) {
	s := w.open()
	shard := w.shard(s)
	shard.First = 7
	shard = w.keep(s, shard, treeHead(7, 1))
	w.equal("where reading begins", []int64{shard.First, shard.Next, shard.VerifiedThrough()}, []int64{7, 7, 6})
	w.ok(s.AddProgress(w.Context(), shard, lodge.Reading{From: 7, To: 9}, time.Now()))
	shard = w.keep(s, shard, treeHead(9, 2))
	w.equal("where it is after more", []int64{shard.First, shard.Next}, []int64{7, 9})
	w.ok(s.KeepHead(w.Context(), shard, treeHead(8, 3), true, time.Now()))
	shard = w.shard(s)
	w.equal("in another tree", []int64{shard.First, shard.Next}, []int64{7, 7})
	w.ok(s.KeepHead(w.Context(), shard, treeHead(4, 4), true, time.Now()))
	shard = w.shard(s)
	w.equal("in a smaller tree", []int64{shard.First, shard.Next}, []int64{4, 4})
}

// headsAnew gives up a tree: what is known of it is not compared with any more.
func headsAnew(w *world) {
	s := w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	if !w.shard(s).Anchor.IsZero() {
		w.Error("a tree was given up before there was any")
	}
	w.ok(s.AddProgress(w.Context(), shard, lodge.Reading{From: 0, To: 9, Bad: []lodge.Quarantined{{Index: 3, Words: "altered"}}}, time.Now()))
	shard = w.shard(s)
	w.ok(s.KeepHead(w.Context(), shard, treeHead(4, 2), true, time.Now()))
	shard = w.shard(s)
	w.equal("head", shard.Head.Size, int64(4))
	w.equal("read, in quarantine", []int64{shard.Next, shard.Quarantined}, []int64{0, 0})
	kept, err := s.KeptHead(w.Context(), shard.ID, 100)
	w.ok(err)
	w.equal("newest that counts", kept.Size, int64(4))
	if shard.Anchor.IsZero() {
		w.Error("nothing says since when it counts")
	}
}

func alarms(w *world) {
	s := w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	event := lodge.RejectedEvent(shard, "unsigned", "no signature", treeHead(10, 2), time.Now())
	since, err := s.Raise(w.Context(), shard.ID, "unsigned", "no \x00 signature", &event)
	w.ok(err)
	again, err := s.Raise(w.Context(), shard.ID, "unsigned", "still none", &event)
	w.ok(err)
	w.equal("since when", again, since)
	w.equal("alarm", *w.shard(s).Alarm, lodge.Alarm{Code: "unsigned", Message: "still none", Since: since})
	other, err := s.Raise(w.Context(), shard.ID, "stale", "it does not grow", nil)
	w.ok(err)
	if other.Before(since) {
		w.Error("another alarm began before the first")
	}
	w.ok(s.Looked(w.Context(), shard.ID, true))
	shard = w.shard(s)
	if shard.Alarm != nil || !shard.Closed || shard.Looked.IsZero() {
		w.Errorf("after a look that went well: %+v", shard)
	}
	since, err = s.Raise(w.Context(), shard.ID, lodge.CodeRolledBack, "it is smaller", nil)
	w.ok(err)
	again, err = s.Raise(w.Context(), shard.ID, "unreachable", "no answer", nil)
	w.ok(err)
	w.equal("since when, with another alarm meanwhile", again, since)
	w.equal("alarm that stays", *w.shard(s).Alarm, lodge.Alarm{Code: lodge.CodeRolledBack, Message: "it is smaller", Since: since})
	w.equal("events", w.events(s), []string{"CheckpointUpdated", "CheckpointRejected"})
}

// diverged holds the target also where it was held for something that would be tried again,
// withholds what a worker has in its hands, and goes on only when it is resumed.
func diverged(w *world) {
	s, other := w.open(), w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	w.accept(s, submission("a"), toLog...)
	d := w.claim(s, log1, time.Hour)[0].Delivery
	w.accept(s, submission("placed"), toLog...)
	placed := w.claim(s, log1, time.Hour)[0].Delivery
	placed = w.advance(s, placed, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{}})
	placed = w.advance(s, placed, lodge.Placed, time.Hour, lodge.Change{})
	w.ok(s.Hold(w.Context(), log1, "unauthorized", "HTTP 401", time.Now()))
	proof := lodge.Divergence{Older: treeHead(9, 1), Newer: treeHead(9, 2), View: "https://mirror", Proof: []byte(`{"older":"x"}`)}
	for range 2 {
		w.ok(s.Diverged(w.Context(), shard, log1, proof, "two trees", time.Now()))
	}
	code, _, err := other.Held(w.Context(), log1.Address)
	w.ok(err)
	w.equal("held", code, lodge.CodeDiverged)
	found, err := other.Divergences(w.Context(), log1.Address)
	w.ok(err)
	if len(found) != 1 || found[0].Newer.Root != (lodge.Digest{2}) || string(found[0].Proof) != `{"older":"x"}` || !found[0].Resumed.IsZero() {
		w.Errorf("divergences: %+v", found)
	}
	d.Receipt = &lodge.Receipt{Log: &lodge.LogReceipt{LogID: "ab"}}
	change := lodge.Change{Delivery: d, From: d.State, Events: []lodge.Event{lodge.LogEvent(lodge.InclusionVerified, d, time.Now())}}
	change.State = lodge.Verified
	err = s.Advance(w.Context(), change, time.Now())
	if failure := lodge.Classify(err); failure == nil || failure.Class != lodge.ClassHeld || failure.Code != lodge.CodeDiverged {
		w.Errorf("a delivery was verified under a log that has diverged: %v", err)
	}
	w.equal("events", w.events(s), []string{"CheckpointUpdated", "EntryQueued", "EntryQueued", "TargetHeld", "CheckpointDiverged", "TargetResumed", "TargetHeld"})

	w.ok(other.ResumeLog(w.Context(), log1, time.Now()))
	if now, err := s.Delivery(w.Context(), placed.ID); err != nil || now.State != lodge.Unknown || now.Due.After(time.Now()) {
		w.Errorf("what the tree was to have that is given up: %+v, %v", now, err)
	}
	shard = w.shard(s)
	if shard.Alarm != nil || !shard.Trust {
		w.Errorf("after it was resumed: %+v", shard)
	}
	w.ok(s.HoldFor(w.Context(), shard.ID, log1, lodge.CodeDiverged, "two trees", time.Now())) // by somebody who does not know it yet
	if code, _, err := s.Held(w.Context(), log1.Address); code != "" || err != nil {
		w.Errorf("held again: %q, %v", code, err)
	}
	w.ok(s.Advance(w.Context(), change, time.Now()))
	found, err = s.Divergences(w.Context(), "")
	w.ok(err)
	if found[0].Resumed.IsZero() {
		w.Error("nothing says that it was resumed")
	}
}

// divergedAndMoved: a log that has diverged and gets another address is resumed under that one, and
// what was wrong with the old address alone is over.
func divergedAndMoved(w *world) {
	s := w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	w.accept(s, submission("a"), toLog...)
	placed := w.claim(s, log1, time.Hour)[0].Delivery
	placed = w.advance(s, placed, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{LeafHash: image, LogID: "ab"}})
	placed = w.advance(s, placed, lodge.Placed, time.Hour, lodge.Change{})
	_, err := s.Raise(w.Context(), shard.ID, "unreachable", "no answer", nil)
	w.ok(err)
	moved := log1
	moved.Address = "https://moved.example"
	w.ok(s.Register(w.Context(), moved))
	alarm := func() string {
		w.Helper()
		shards, err := s.Shards(w.Context(), moved.Address)
		w.ok(err)
		if len(shards) != 1 || shards[0].ID != shard.ID {
			w.Fatalf("shards of the log where it is now: %+v", shards)
		}
		if shards[0].Alarm == nil {
			return ""
		}
		return shards[0].Alarm.Code
	}
	w.equal("what was wrong with the old address", alarm(), "")

	w.ok(s.Diverged(w.Context(), shard, moved, lodge.Divergence{Older: treeHead(9, 1), Newer: treeHead(9, 2), View: "here", Proof: []byte(`{}`)}, "two trees", time.Now()))
	moved.Address = "https://moved-again.example"
	w.ok(s.Register(w.Context(), moved))
	w.equal("after it diverged", alarm(), lodge.CodeDiverged)
	w.ok(s.ResumeLog(w.Context(), moved, time.Now()))
	w.equal("after it was resumed", alarm(), "")
	found, err := s.Divergences(w.Context(), moved.Address)
	w.ok(err)
	if len(found) != 1 || found[0].Resumed.IsZero() {
		w.Errorf("divergences after it was resumed: %+v", found)
	}
	now, err := s.Delivery(w.Context(), placed.ID)
	w.ok(err)
	w.equal("placed in the tree that is given up", now.State, lodge.Unknown)
}

func progress(w *world) {
	s := w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	w.accept(s, submission("a"), toLog...)
	leaf := lodge.Own{Hash: lodge.Digest{5}, Index: 2, Key: submission("a").Key}
	observed := lodge.ObservedEvent(shard, leaf, time.Now(), map[string]any{"why": "subject"})
	p := lodge.Reading{From: 0, To: 5, Unsearched: 2, Bad: []lodge.Quarantined{{Index: 3, Words: "altered\x00"}, {Index: 4, Words: "cut"}},
		Events: []lodge.Event{observed}, Speed: 100}
	w.ok(s.AddProgress(w.Context(), shard, p, time.Now()))
	if err := s.AddProgress(w.Context(), shard, p, time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("the same leaves were read twice: %v", err)
	}
	shard = w.shard(s)
	w.equal("progress", []any{shard.Next, shard.Quarantined, shard.Unsearched, shard.VerifiedThrough(), shard.Lag(), shard.Remaining()},
		[]any{int64(5), int64(2), int64(2), int64(2), int64(4), 40 * time.Millisecond})
	bad, err := s.Quarantine(w.Context(), shard.ID, 3, 10)
	w.ok(err)
	if len(bad) != 1 || bad[0].Index != 4 || bad[0].Words != "cut" {
		w.Errorf("in quarantine behind 3: %+v", bad)
	}
	w.ok(s.Mend(w.Context(), shard, lodge.Reading{From: 3, To: 4}, time.Now()))
	w.equal("verified through", w.shard(s).VerifiedThrough(), int64(3))
	w.equal("events", w.events(s), []string{"CheckpointUpdated", "EntryQueued", "EntryObserved"})
}

func ownLeaves(w *world) {
	s := w.open()
	shard := w.keep(s, w.shard(s), treeHead(9, 1))
	sub := submission("a")
	own := func(index int64) []lodge.Own {
		return []lodge.Own{{Hash: lodge.Digest{5}, Index: index, Key: sub.Key, Signer: sub.Signer}}
	}
	w.ok(s.AddOwn(w.Context(), shard, -1, 3, append(own(2), own(-1)...), time.Now()))
	if err := s.AddOwn(w.Context(), shard, -1, 3, own(2), time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("the same events were looked at twice: %v", err)
	}
	w.ok(s.AddProgress(w.Context(), shard, lodge.Reading{From: 0, To: 5, Own: own(2)}, time.Now())) // as it should be
	w.equal("events", w.events(s), []string{"CheckpointUpdated"})
	w.ok(s.AddProgress(w.Context(), shard, lodge.Reading{From: 5, To: 9, Own: own(7)}, time.Now()))
	w.equal("events", w.events(s), []string{"CheckpointUpdated", "DuplicateObserved"})
	events, err := s.Events(w.Context(), 1, 10)
	w.ok(err)
	w.equal("duplicate", events[0].ID, lodge.DuplicateEvent(shard, own(7)[0], time.Now()).ID)
	w.equal("of", events[0].Subject, sub.Key.String())

	all, last, err := s.OwnAfter(w.Context(), shard.ID, 0, 2)
	w.ok(err)
	rest, end, err := s.OwnAfter(w.Context(), shard.ID, last, 10)
	w.ok(err)
	w.equal("in pages", []int{len(all), len(rest)}, []int{2, 1})
	_, same, err := s.OwnAfter(w.Context(), shard.ID, end, 10)
	w.ok(err)
	w.equal("the end", same, end)
	found, err := s.FindOwn(w.Context(), shard.ID, lodge.Digest{5})
	w.ok(err)
	w.equal("found", found, append(own(-1), append(own(2), own(7)...)...))
}

func pendingEntries(w *world) {
	s := w.open()
	w.accept(s, submission("a"), toLog...)
	w.accept(s, submission("b"), toLog...)
	jobs := w.claim(s, log1, time.Hour)
	intent := &lodge.Intent{LeafHash: lodge.Digest{7}, LogID: "ab", Request: []byte("x")}
	d := w.advance(s, jobs[0].Delivery, lodge.Sending, time.Hour, lodge.Change{Intent: intent})
	pending, err := s.Pending(w.Context(), log1.Address)
	w.ok(err)
	if len(pending) != 1 || pending[0].Hash != intent.LeafHash || pending[0].Key != submission("a").Key || pending[0].State != lodge.Sending {
		w.Fatalf("pending: %+v", pending)
	}
	w.ok(s.Expedite(w.Context(), pending[0]))
	if due := w.claim(s, log1, time.Hour); len(due) != 0 {
		w.Error("a delivery whose answer is waited for became due")
	}
	w.advance(s, d, lodge.Unknown, time.Hour, lodge.Change{})
	pending, err = s.Pending(w.Context(), log1.Address)
	w.ok(err)
	w.ok(s.Expedite(w.Context(), pending[0]))
	due := w.claim(s, log1, time.Hour)
	if len(due) != 1 || due[0].State != lodge.Placed { // so it is never sent again
		w.Errorf("due: %+v", due)
	}
}
