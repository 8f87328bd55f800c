package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

const (
	commitLeaves = 1 << 14         // read between two notes of progress, at most
	commitEvery  = 2 * time.Second // or so long
	maxWords     = 300             // of why a leaf is in quarantine, bytes
	mendMost     = 1000            // leaves in quarantine that are asked for at a recheck
)

// findings are what the spans hold that are being read, by their first leaf.
type findings struct {
	mu    sync.Mutex
	spans map[int64]finding
}

// finding is what a span holds: what could not be searched, and what was found.
type finding struct {
	unsearched int64
	bad        []lodge.Quarantined
	hits       []hit
}

// hit is a leaf that may be ours or on the watch list.
type hit struct {
	tlog.Leaf
	claim   rekor.Claim
	own     bool   // its hash may be one of ours
	digest  bool   // what it is about may be ours
	because []fact // what of the watch list it matches
}

// readOn reads all leaves that are signed and not read yet.
func (s *shard) readOn(ctx context.Context) error {
	if err := s.read(ctx); err != nil {
		return err
	}
	return s.expedite(ctx)
}

func (s *shard) read(ctx context.Context) error {
	if s.Next >= s.head.Size {
		return nil
	}
	found := &findings{spans: map[int64]finding{}}
	p := lodge.Reading{From: s.Next, To: s.Next, Speed: s.Speed}
	begun := time.Now()
	commit := func() error {
		took := time.Since(begun)
		if p.To == p.From {
			return nil
		}
		p.Speed = float64(p.To-p.From) / max(took.Seconds(), 1e-6)
		if err := s.store.AddProgress(ctx, s.Shard, p, time.Now()); err != nil {
			return err
		}
		s.Next, s.Speed = p.To, p.Speed
		p, begun = lodge.Reading{From: p.To, To: p.To, Speed: p.Speed}, time.Now()
		return nil
	}
	for leaves, err := range s.source.Read(ctx, s.head, s.Next, s.head.Size, func(leaves []tlog.Leaf) { s.search(found, leaves) }) {
		if err != nil {
			return errors.Join(commit(), s.unreadable(ctx, err))
		}
		if err := s.take(ctx, &p, found, leaves); err != nil {
			return err
		}
		if p.To-p.From >= commitLeaves || time.Since(begun) >= commitEvery {
			if err := commit(); err != nil {
				return err
			}
		}
	}
	return commit()
}

// unreadable raises the alarm that the log's entries can't be read on.
func (s *shard) unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var fork *tlog.ForkError
	if errors.As(err, &fork) {
		return s.prove(ctx, s.source, fork.Older, fork.Newer, s.source.URL())
	}
	words := fmt.Sprintf("entries from %d on can't be read: %v", s.Next, err)
	if storeErr := s.raise(ctx, codeUnreadable, words, nil); storeErr != nil {
		return storeErr
	}
	return alarm{codeUnreadable, words}
}

// search looks through a span, beside others.
func (s *shard) search(found *findings, leaves []tlog.Leaf) {
	if len(leaves) == 0 {
		return
	}
	var f finding
	for _, leaf := range leaves {
		if leaf.Err != nil {
			f.bad = append(f.bad, quarantined(leaf.Index, leaf.Err, false))
			continue
		}
		h := hit{Leaf: leaf, own: s.own.leaves[short(leaf.Hash)]}
		if _, pending := s.own.pending[leaf.Hash]; pending {
			h.own = true
		}
		var err error
		if h.claim, err = rekor.ReadBody(leaf.Body); err != nil {
			if errors.Is(err, rekor.ErrKind) {
				f.unsearched++
			} else {
				f.bad = append(f.bad, quarantined(leaf.Index, err, true))
			}
		} else {
			h.digest = s.own.digests[short(h.claim.About())]
			h.because = s.config.List.match(h.claim)
		}
		if h.own || h.digest || len(h.because) > 0 {
			f.hits = append(f.hits, h)
		}
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	found.spans[leaves[0].Index] = f
}

func quarantined(index int64, err error, proven bool) lodge.Quarantined {
	words := strings.TrimPrefix(err.Error(), fmt.Sprintf("entry %d: ", index))
	return lodge.Quarantined{Index: index, Proven: proven, Words: words[:min(len(words), maxWords)]}
}

// take adds a span to what was read.
func (s *shard) take(ctx context.Context, p *lodge.Reading, found *findings, leaves []tlog.Leaf) error {
	if len(leaves) == 0 {
		return nil
	}
	found.mu.Lock()
	f := found.spans[leaves[0].Index]
	delete(found.spans, leaves[0].Index)
	found.mu.Unlock()
	p.To = leaves[len(leaves)-1].Index + 1
	p.Unsearched += f.unsearched
	p.Bad = append(p.Bad, f.bad...)
	for _, q := range f.bad {
		slog.Warn("an entry can't be verified", "log", s.config.Target.Name, "origin", s.Origin, "index", q.Index, "inTree", q.Proven, "reason", q.Words)
	}
	for _, h := range f.hits {
		if err := s.hit(ctx, p, h); err != nil {
			return err
		}
	}
	return nil
}

// hit says whose entry it is.
func (s *shard) hit(ctx context.Context, p *lodge.Reading, h hit) error {
	if h.own {
		if pending, ok := s.own.pending[h.Hash]; ok {
			p.Own = append(p.Own, lodge.Own{Hash: h.Hash, Index: h.Index, Key: pending.Key, Signer: pending.Signer})
			return nil
		}
		ours, err := s.store.FindOwn(ctx, s.ID, h.Hash)
		if err != nil {
			return err
		}
		for _, o := range ours {
			if o.Index >= 0 {
				o.Index = h.Index
				p.Own = append(p.Own, o)
				return nil
			}
		}
	}
	leaf := lodge.Own{Hash: h.Hash, Index: h.Index}
	because := h.because
	if h.digest {
		ours, err := s.store.FindOwn(ctx, s.ID, h.claim.About())
		if err != nil {
			return err
		}
		for _, o := range ours {
			leaf.Key, leaf.Signer = o.Key, o.Signer
			if !slices.Contains(signersOf(h.claim), o.Signer) {
				continue
			}
			p.Events = append(p.Events, lodge.DuplicateEvent(s.Shard, leaf, time.Now()))
			if !certified(h.claim) {
				return nil
			}
			break // whoever it was has written our name into a certificate that nobody judged
		}
		if len(ours) > 0 {
			because = append(because, fact{"ours", leaf.Key.String()})
		}
	}
	if len(because) > 0 {
		facts := map[string]any{"because": because, "signers": signersOf(h.claim)}
		p.Events = append(p.Events, lodge.ObservedEvent(s.Shard, leaf, time.Now(), facts))
	}
	return nil
}

// expedite tells deliveries that wait to ask after a lost reply: their entries are there.
func (s *shard) expedite(ctx context.Context) error {
	for hash, p := range s.own.pending {
		if p.State == lodge.Sending || s.own.expedited[p.ID] {
			continue
		}
		ours, err := s.store.FindOwn(ctx, s.ID, hash)
		if err != nil {
			return err
		}
		for _, o := range ours {
			if o.Index < 0 {
				continue
			}
			slog.Info("a lost entry was found", "log", s.config.Target.Name, "index", o.Index, "delivery", p.ID)
			if err := s.store.Expedite(ctx, p); err != nil {
				return err
			}
			s.own.expedited[p.ID] = true
			break
		}
	}
	return nil
}

// mend asks once more for leaves in quarantine that were not what the tree has: mendMost at
// a time, and next time for those behind them.
func (s *shard) mend(ctx context.Context) error {
	var bad []lodge.Quarantined
	for len(bad) < mendMost {
		found, err := s.store.Quarantine(ctx, s.ID, s.mended, mendMost-len(bad))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			s.mended = -1
			break
		}
		s.mended = found[len(found)-1].Index
		bad = append(bad, slices.DeleteFunc(found, func(q lodge.Quarantined) bool { return q.Proven })...)
	}
	for len(bad) > 0 {
		n := 1
		for n < len(bad) && bad[n].Index == bad[n-1].Index+1 {
			n++
		}
		if err := s.mendRange(ctx, bad[0].Index, bad[n-1].Index+1); err != nil {
			return err
		}
		bad = bad[n:]
	}
	return nil
}

func (s *shard) mendRange(ctx context.Context, from, to int64) error {
	found := &findings{spans: map[int64]finding{}}
	for leaves, err := range s.source.Read(ctx, s.head, from, to, func(leaves []tlog.Leaf) { s.search(found, leaves) }) {
		if err != nil {
			return s.unreadable(ctx, err)
		}
		f := found.spans[leaves[0].Index]
		var p lodge.Reading
		for _, h := range f.hits {
			if err := s.hit(ctx, &p, h); err != nil {
				return err
			}
		}
		for i, leaf := range leaves {
			if leaf.Err != nil {
				continue
			}
			if i > 0 && leaves[i-1].Err == nil {
				continue // it went with those before
			}
			p.From = leaf.Index
			for p.To = leaf.Index; i < len(leaves) && leaves[i].Err == nil; i++ {
				p.To++
			}
			for _, q := range f.bad {
				if q.Proven && q.Index >= p.From && q.Index < p.To {
					p.Bad = append(p.Bad, q)
				}
			}
			slog.Info("entries in quarantine are verified after all", "log", s.config.Target.Name, "from", p.From, "to", p.To-1)
			if err := s.store.Mend(ctx, s.Shard, p, time.Now()); err != nil {
				return err
			}
			p = lodge.Reading{}
		}
	}
	return nil
}
