package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

func isFork(err error) bool {
	var fork *tlog.ForkError
	return errors.As(err, &fork)
}

// extends proves by what view serves that newer extends older, both signed. Where it does not,
// that is proven and kept; where neither can be proven the alarm says so. view is where newer
// was seen. A nil error means that all is well.
func (s *shard) extends(ctx context.Context, view View, older, newer tlog.Checkpoint, seen string) error {
	if older.Size == newer.Size {
		if older.Root == newer.Root {
			return nil
		}
		return s.prove(ctx, view, older, newer, seen)
	}
	err := view.Extends(ctx, older, newer)
	if err == nil {
		return nil
	}
	if isFork(err) {
		return s.prove(ctx, view, older, newer, seen)
	}
	return s.unproven(ctx, newer, err)
}

// prove keeps the proof that older and newer can't both be true. The error is never nil.
func (s *shard) prove(ctx context.Context, view View, older, newer tlog.Checkpoint, seen string) error {
	why, err := s.contradict(ctx, view, older, newer, seen)
	if err != nil {
		return err
	}
	return s.unproven(ctx, newer, why)
}

// contradict keeps the proof that older and newer can't both be true, where view serves one: the
// error is that alarm then. Else why says what is missing.
func (s *shard) contradict(ctx context.Context, view View, older, newer tlog.Checkpoint, seen string) (why, err error) {
	var d tlog.Divergence
	if older.Size == newer.Size {
		d, why = tlog.Diverge(older, newer, lodge.Digest{}, lodge.InclusionProof{})
	} else {
		in, failed := view.Include(ctx, newer, older.Size-1)
		if failed != nil {
			return failed, nil
		}
		newer = in.Under
		d, why = tlog.Diverge(older, newer, in.Leaf, in.Proof)
	}
	if why != nil {
		return why, nil
	}
	proof, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	words := fmt.Sprintf("the log has signed two trees that can't both be its own: of %d entries with root %s, and of %d with root %s (seen at %s)",
		older.Size, older.Root, newer.Size, newer.Root, seen)
	slog.Error("a log has diverged", "log", s.config.Target.Name, "origin", s.Origin, "reason", words)
	err = s.store.Diverged(ctx, s.Shard, s.config.Target, lodge.Divergence{
		Origin: s.Origin, LogID: s.LogID, Older: treeHead(older), Newer: treeHead(newer), View: seen, Proof: proof,
	}, words, time.Now())
	if err != nil {
		return nil, err
	}
	return nil, alarm{lodge.CodeDiverged, words}
}

// unproven raises the alarm that a checkpoint can't be relied on. One that can't be proven
// because nothing answers is not rejected for that.
func (s *shard) unproven(ctx context.Context, newer tlog.Checkpoint, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if silent(err) {
		return s.unreachable(ctx, err)
	}
	words := fmt.Sprintf("the tree of %d is not proven to extend the last one, of %d: %v", newer.Size, s.head.Size, err)
	if storeErr := s.raise(ctx, codeUnproven, words, &newer); storeErr != nil {
		return storeErr
	}
	return alarm{codeUnproven, words}
}

// silent tells whether err is that the log does not answer, and so says nothing of its trees.
func silent(err error) bool {
	failure := lodge.Classify(err)
	return failure != nil && slices.Contains([]string{"unreachable", "no-answer", "server-error", "timed-out", "rate-limited"}, failure.Code)
}

// mirrors compares what the other places show with what the log itself does.
func (s *shard) mirrors(ctx context.Context) error {
	for _, m := range s.source.Mirrors {
		heads, err := m.Heads(ctx, false)
		if err != nil {
			slog.Warn("a mirror can't be compared", "log", s.config.Target.Name, "mirror", m.URL(), "error", err)
			continue
		}
		for _, h := range heads {
			if h.Origin != s.Origin || h.LogID != s.LogID {
				continue
			}
			if err := s.compare(ctx, m, h, m.URL()); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare holds another checkpoint of this shard against the newest that is relied on. A view
// that is behind, or serves no proof, is no reason to doubt the log.
func (s *shard) compare(ctx context.Context, view View, other tlog.Checkpoint, seen string) error {
	if s.agreed[other] || other.Size == 0 || s.head.Size <= 0 {
		return nil
	}
	older, newer, by := other, s.head, View(s.source)
	if other.Size > s.head.Size {
		older, newer, by = s.head, other, view
	}
	err := error(nil)
	switch {
	case older.Size == newer.Size && older.Root != newer.Root:
		return s.prove(ctx, by, older, newer, seen)
	case older.Size < newer.Size:
		err = by.Extends(ctx, older, newer)
	}
	if isFork(err) {
		return s.prove(ctx, by, older, newer, seen)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		slog.Warn("a checkpoint can't be compared", "log", s.config.Target.Name, "seen", seen, "error", err)
		return nil
	}
	if other.Size > s.head.Size {
		return nil // so far: the log can still go on in another way
	}
	if len(s.agreed) >= maxAgreed {
		clear(s.agreed)
	}
	s.agreed[other] = true
	return nil
}

// maxAgreed bounds what is remembered of checkpoints that were compared.
const maxAgreed = 1 << 12
