package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// page is how much is read of the store at once.
const page = 1000

// envelopePage is that for envelopes, each of which can be large.
const envelopePage = 16

// own is what is ours in a shard: shortened hashes in memory, the rest in the store.
type own struct {
	leaves  map[uint64]bool // of leaves, by their first eight bytes
	digests map[uint64]bool // of what we have accepted
	last    int64           // id in the store up to which they are here

	pending   map[lodge.Digest]lodge.Pending // what may be there without our knowing, by leaf hash
	expedited map[int64]bool                 // deliveries that were told already
}

func short(d lodge.Digest) uint64 {
	var n uint64
	for _, b := range d[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}

// receipts learns what became ours since the last look, and holds the checkpoints of new
// receipts against the newest one.
func (s *shard) receipts(ctx context.Context) error {
	// Before the events: what is not pending any more by then has an event.
	pending, err := s.store.Pending(ctx, s.config.Target.Address)
	if err != nil {
		return err
	}
	if s.own.leaves == nil {
		s.own = own{leaves: map[uint64]bool{}, digests: map[uint64]bool{}, expedited: map[int64]bool{}}
	}
	s.own.pending = map[lodge.Digest]lodge.Pending{}
	for _, p := range pending {
		s.own.pending[p.Hash] = p
	}
	if s.Cursor < 0 {
		if err := s.bootstrap(ctx); err != nil {
			return err
		}
	}
	for {
		events, err := s.store.Events(ctx, s.Cursor, page)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			break
		}
		if events[0].Sequence > s.Cursor+1 { // what comes between was pruned
			if err := s.bootstrap(ctx); err != nil {
				return err
			}
			continue
		}
		if err := s.learn(ctx, events); err != nil {
			return err
		}
	}
	if err := s.remember(ctx); err != nil {
		return err
	}
	if s.config.List.Ours && len(s.own.digests) == 0 { // the list was not so before
		if err := s.learnEnvelopes(ctx); err != nil {
			return err
		}
		if err := s.remember(ctx); err != nil {
			return err
		}
	}
	return s.overtaken(ctx)
}

// bootstrap learns from the deliveries themselves what events may not tell any more.
func (s *shard) bootstrap(ctx context.Context) error {
	last, err := s.store.LastSequence(ctx)
	if err != nil {
		return err
	}
	var own []lodge.Own
	flush := func() error {
		err := s.store.AddOwn(ctx, s.Shard, s.Cursor, s.Cursor, own, time.Now())
		own = nil
		return err
	}
	err = s.published(ctx, func(d lodge.Delivery, r lodge.LogReceipt) error {
		if leaf, ours := s.leafOf(d, r); ours {
			own = append(own, leaf)
		}
		if len(own) < page {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil && s.config.List.Ours {
		err = s.learnEnvelopes(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.store.AddOwn(ctx, s.Shard, s.Cursor, last, nil, time.Now()); err != nil {
		return err
	}
	s.Cursor = last
	return nil
}

// learnEnvelopes learns the digests of all that was accepted.
func (s *shard) learnEnvelopes(ctx context.Context) error {
	for after := int64(0); ; {
		subs, last, err := s.store.EnvelopesAfter(ctx, after, envelopePage)
		if err != nil || len(subs) == 0 {
			return err
		}
		var own []lodge.Own
		for _, sub := range subs {
			own = append(own, digestsOf(sub)...)
		}
		if err := s.store.AddOwn(ctx, s.Shard, s.Cursor, s.Cursor, own, time.Now()); err != nil {
			return err
		}
		after = last
	}
}

// published calls each for every receipt of this log.
func (s *shard) published(ctx context.Context, each func(lodge.Delivery, lodge.LogReceipt) error) error {
	for after := int64(0); ; {
		found, err := s.store.Published(ctx, s.config.Target.Address, after, page)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, d := range found {
			after = d.ID
			if d.Receipt == nil || d.Receipt.Log == nil {
				continue
			}
			if err := each(d, *d.Receipt.Log); err != nil {
				return err
			}
		}
	}
}

// leafOf returns where the entry of a receipt is, if it is in this shard.
func (s *shard) leafOf(d lodge.Delivery, r lodge.LogReceipt) (lodge.Own, bool) {
	if r.LogID != s.LogID || r.InclusionProof == nil || r.Origin != s.Origin {
		return lodge.Own{}, false
	}
	return lodge.Own{Hash: r.LeafHash, Index: r.InclusionProof.LogIndex, Key: d.Key, Signer: d.Signer}, true
}

// digestsOf returns what entries about a submission are of; nothing where its payload is gone.
func digestsOf(sub lodge.Submission) (own []lodge.Own) {
	b, err := bundle.Parse(sub.Raw)
	if err != nil {
		return nil
	}
	pae := dsse.PAE(b.Envelope.PayloadType, b.Envelope.Payload)
	for _, digest := range rekor.DigestsOf(b.Envelope.Payload, pae) {
		own = append(own, lodge.Own{Hash: digest, Index: -1, Key: sub.Key, Signer: sub.Signer})
	}
	return own
}

// learn takes from events what has become ours.
func (s *shard) learn(ctx context.Context, events []lodge.Event) error {
	var own []lodge.Own
	var seen []lodge.LogReceipt
	for _, e := range events {
		var about struct {
			Key     lodge.Key
			Signer  lodge.Signer
			Target  lodge.Target
			Receipt *lodge.Receipt
		}
		if e.Type != lodge.EntryQueued && e.Type != lodge.InclusionVerified {
			continue
		}
		if err := json.Unmarshal(e.Data, &about); err != nil {
			return fmt.Errorf("event %d: %w", e.Sequence, err)
		}
		switch {
		case e.Type == lodge.EntryQueued && s.config.List.Ours:
			sub, err := s.store.Envelope(ctx, about.Key, about.Signer)
			if err != nil {
				return err
			}
			own = append(own, digestsOf(sub)...)
		case about.Receipt != nil && about.Receipt.Log != nil && about.Target.Address == s.config.Target.Address:
			d := lodge.Delivery{Key: about.Key, Signer: about.Signer}
			if leaf, ours := s.leafOf(d, *about.Receipt.Log); ours {
				own, seen = append(own, leaf), append(seen, *about.Receipt.Log)
			}
		}
	}
	last := events[len(events)-1].Sequence
	if err := s.store.AddOwn(ctx, s.Shard, s.Cursor, last, own, time.Now()); err != nil {
		return err
	}
	s.Cursor = last
	for _, r := range seen {
		if err := s.met(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// remember brings what is in memory up to the store.
func (s *shard) remember(ctx context.Context) error {
	for {
		found, last, err := s.store.OwnAfter(ctx, s.ID, s.own.last, page)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, o := range found {
			if o.Index < 0 {
				s.own.digests[short(o.Hash)] = true
			} else {
				s.own.leaves[short(o.Hash)] = true
			}
		}
		s.own.last = last
	}
}

// met holds the checkpoint of a receipt against the newest one: another view of the log.
func (s *shard) met(ctx context.Context, r lodge.LogReceipt) error {
	cp, err := s.source.Open(r.InclusionProof.Checkpoint)
	if err != nil {
		slog.Error("a receipt's checkpoint does not verify", "log", s.config.Target.Name, "index", r.LogIndex, "error", err)
		return nil
	}
	if cp.Size > s.head.Size {
		if cp.Size > s.ahead.Size {
			if s.ahead.Size <= s.head.Size {
				s.since = time.Now()
			}
			s.ahead = cp
		}
		return nil // the log itself will serve it in a moment
	}
	return s.compare(ctx, s.source, cp, "a receipt")
}

// overtaken compares the largest checkpoint of a receipt once the log serves as large a
// tree; a log that does not is stale after a while.
func (s *shard) overtaken(ctx context.Context) error {
	switch {
	case s.ahead.Size == 0:
		return nil
	case s.ahead.Size <= s.head.Size:
		ahead := s.ahead
		s.ahead = tlog.Checkpoint{}
		return s.compare(ctx, s.source, ahead, "a receipt")
	case time.Since(s.since) < s.config.Patience:
		return nil
	}
	words := fmt.Sprintf("the log serves the checkpoint of a tree of %d, and has signed one of %d for a receipt %s ago",
		s.head.Size, s.ahead.Size, time.Since(s.since).Round(time.Second))
	if err := s.raise(ctx, codeStale, words, &s.head); err != nil {
		return err
	}
	return alarm{codeStale, words}
}

// recheck verifies all receipts against the newest checkpoint, and asks once more for what
// is in quarantine.
func (s *shard) recheck(ctx context.Context) error {
	err := s.published(ctx, func(d lodge.Delivery, r lodge.LogReceipt) error {
		if _, ours := s.leafOf(d, r); !ours || d.Since.Before(s.Anchor) {
			return nil
		}
		cp, err := s.source.Open(r.InclusionProof.Checkpoint)
		if err == nil {
			p := *r.InclusionProof
			p.TreeSize, p.RootHash = cp.Size, cp.Root
			err = tlog.VerifyInclusion(r.LeafHash, p)
		}
		if err != nil {
			slog.Error("a stored receipt does not verify any more", "log", s.config.Target.Name, "delivery", d.ID, "error", err)
			return nil
		}
		return s.met(ctx, r)
	})
	if err != nil {
		return err
	}
	return s.mend(ctx)
}
