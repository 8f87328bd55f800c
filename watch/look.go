package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// Why a checkpoint is rejected, and what else is wrong with a log: codes of alarms. What is
// proven is lodge.CodeDiverged.
const (
	codeUnreachable = "unreachable" // no answer
	codeUnsigned    = "unsigned"
	codeWrongKey    = "wrong-key"
	codeWrongOrigin = "wrong-origin"
	codeMalformed   = "malformed"
	codeUnproven    = "unproven"   // no proof that it extends the last one, nor that it does not
	codeStale       = "stale"      // it does not grow, and has signed more
	codeUnreadable  = "unreadable" // entries, or the tiles above them, can't be read now
)

// closedLooks is how many looks at a shard that takes entries are made to one at a closed one.
const closedLooks = 60

// shard is a shard of a log while it is followed.
type shard struct {
	*Follower
	store  Store
	source *Source
	lodge.Shard
	head tlog.Checkpoint // the newest that is relied on

	own   own
	ahead tlog.Checkpoint // signed, as a receipt shows, and larger than what the log serves
	since time.Time       // when ahead was met

	agreed map[tlog.Checkpoint]bool // of receipts: those that are of this tree
	mended int64                    // index in quarantine up to which all were asked for again
}

// alarm is something wrong that was raised: the look is over.
type alarm struct{ code, words string }

func (a alarm) Error() string { return a.words }

// look looks at every source once. The error is of the store or the context.
func (f *Follower) look(ctx context.Context, store Store) error {
	if err := f.firstLook(ctx, store); err != nil {
		return err
	}
	for i := range f.config.Sources {
		source := &f.config.Sources[i]
		if err := f.lookAt(ctx, store, source, f.succeeded(i)); err != nil {
			return err
		}
	}
	return nil
}

// firstLook finds out whether none of the log's shards was met before, where that decides
// which entries are read. A shard that comes later is read from its first entry on.
func (f *Follower) firstLook(ctx context.Context, store Store) error {
	f.skips = false
	if !f.config.FromNow {
		return nil
	}
	known, err := store.Shards(ctx, f.config.Target.Address)
	f.skips = !slices.ContainsFunc(known, func(k lodge.Shard) bool { return k.Head.Size >= 0 })
	return err
}

// succeeded tells whether entries go to a later source by now.
func (f *Follower) succeeded(i int) bool {
	for _, s := range f.shards {
		for j := i + 1; j < len(f.config.Sources); j++ {
			if s.source == &f.config.Sources[j] && s.Head.Size > 0 {
				return true
			}
		}
	}
	return false
}

func (f *Follower) lookAt(ctx context.Context, store Store, source *Source, succeeded bool) error {
	if f.closed(source) && f.skipped[source] < closedLooks {
		f.skipped[source]++
		return nil
	}
	f.skipped[source] = 0
	heads, err := source.Heads(ctx, false)
	var bad *rekor.HeadError
	if errors.As(err, &bad) {
		heads, err = source.Heads(ctx, true)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return f.noHead(ctx, store, source, err)
	}
	for i, head := range heads {
		s, err := f.shard(ctx, store, source, head)
		if err != nil {
			return err
		}
		if err := s.look(ctx, head, succeeded || i > 0); err != nil {
			return err
		}
	}
	return f.vanished(ctx, store, source, heads)
}

// vanished deals with trees that a log has signed and shows no more, as a v1 log can that goes
// on under another tree's name: what was lodged in them is gone.
func (f *Follower) vanished(ctx context.Context, store Store, source *Source, heads []tlog.Checkpoint) error {
	known, err := store.Shards(ctx, f.config.Target.Address)
	if err != nil {
		return err
	}
	for _, k := range known {
		shown := slices.ContainsFunc(heads, func(h tlog.Checkpoint) bool { return h.LogID == k.LogID && h.Origin == k.Origin })
		if shown || k.URL != source.URL() || k.Head.Size <= 0 || k.Trust {
			continue
		}
		s, err := f.shard(ctx, store, source, tlog.Checkpoint{LogID: k.LogID, Origin: k.Origin})
		if err != nil {
			return err
		}
		if _, err := source.Open(s.Head.Note); err != nil {
			continue // its key is not among those of the log any more
		}
		if s.Alarm != nil && s.Alarm.Code == lodge.CodeDiverged {
			err = s.stayHeld(ctx)
		} else {
			err = s.shrunk(ctx, tlog.Checkpoint{}, fmt.Sprintf("the log shows nothing of the tree %q any more, of which it has signed %d entries", s.Origin, s.head.Size))
		}
		if a := (alarm{}); !errors.As(err, &a) {
			return err
		}
	}
	return nil
}

// closed tells whether all shards of a source are.
func (f *Follower) closed(source *Source) bool {
	met := false
	for _, s := range f.shards {
		if s.source == source {
			if met = true; !s.Closed {
				return false
			}
		}
	}
	return met
}

// first returns a shard of a source that was looked at, one that takes entries if there is one.
func (f *Follower) first(source *Source) (found *shard) {
	for _, s := range f.shards {
		if s.source == source && (found == nil || !s.Closed) {
			found = s
		}
	}
	return found
}

// shard returns what is known of the shard that head is of.
func (f *Follower) shard(ctx context.Context, store Store, source *Source, head tlog.Checkpoint) (*shard, error) {
	known, err := store.OpenShard(ctx, lodge.Shard{Target: f.config.Target.Address, LogID: head.LogID, Origin: head.Origin, URL: source.URL()})
	if err != nil {
		return nil, err
	}
	name := head.LogID + " " + head.Origin
	s := f.shards[name]
	if s == nil {
		s = &shard{Follower: f, store: store, source: source, agreed: map[tlog.Checkpoint]bool{}, mended: -1}
		f.shards[name] = s
	}
	s.Shard = known
	s.head = s.checkpoint(known.Head)
	return s, nil
}

func (s *shard) checkpoint(h lodge.TreeHead) tlog.Checkpoint {
	return tlog.Checkpoint{Origin: s.Origin, Size: h.Size, Root: h.Root, Note: h.Note, LogID: s.LogID}
}

func treeHead(cp tlog.Checkpoint) lodge.TreeHead {
	return lodge.TreeHead{Size: cp.Size, Root: cp.Root, Note: cp.Note}
}

// noHead raises the alarm that a source has no checkpoint of the log.
func (f *Follower) noHead(ctx context.Context, store Store, source *Source, err error) error {
	s := f.first(source)
	if s == nil {
		opened, peekErr := f.unmet(ctx, store, source)
		if peekErr != nil || opened == nil {
			slog.Warn("a log can't be followed", "log", f.config.Target.Name, "url", source.URL(), "error", err)
			return peekErr
		}
		s = opened
	}
	var bad *rekor.HeadError
	if !errors.As(err, &bad) {
		return s.raise(ctx, codeUnreachable, err.Error(), nil)
	}
	claimed, _ := tlog.Peek(bad.Note) // zero where it can't even be read
	return s.raise(ctx, s.whyBad(bad, claimed), err.Error(), &claimed)
}

// unmet returns the shard that a bad checkpoint claims to be of, where that is known from before.
func (f *Follower) unmet(ctx context.Context, store Store, source *Source) (*shard, error) {
	known, storeErr := store.Shards(ctx, f.config.Target.Address)
	if storeErr != nil {
		return nil, storeErr
	}
	for _, k := range known {
		if k.URL == source.URL() {
			return f.shard(ctx, store, source, tlog.Checkpoint{LogID: k.LogID, Origin: k.Origin})
		}
	}
	return nil, nil
}

// whyBad says what is wrong with a note that is no checkpoint of this shard.
func (s *shard) whyBad(bad *rekor.HeadError, claimed tlog.Checkpoint) string {
	switch {
	case !errors.Is(bad, lodge.ErrSignature) && !strings.Contains(string(bad.Note), "\n— "):
		return codeUnsigned
	case !errors.Is(bad, lodge.ErrSignature):
		return codeMalformed
	case claimed.Origin != s.Origin:
		return codeWrongOrigin
	}
	return codeWrongKey
}

// raise keeps an alarm, with the event that a checkpoint was rejected where one was.
func (s *shard) raise(ctx context.Context, code, words string, rejected *tlog.Checkpoint) error {
	_, err := s.raised(ctx, code, words, rejected)
	return err
}

func (s *shard) raised(ctx context.Context, code, words string, rejected *tlog.Checkpoint) (since time.Time, err error) {
	var event *lodge.Event
	if rejected != nil {
		e := lodge.RejectedEvent(s.Shard, code, words, treeHead(*rejected), time.Now())
		event = &e
	}
	if s.Alarm == nil || s.Alarm.Code != code {
		slog.Warn("a log is not in order", "log", s.config.Target.Name, "origin", s.Origin, "code", code, "reason", words)
	}
	if since, err = s.store.Raise(ctx, s.ID, code, words, event); err == nil {
		s.Alarm = &lodge.Alarm{Code: code, Message: words, Since: since}
	}
	return since, err
}

// look takes the newest checkpoint and does all that can be done under it. What is wrong with
// the log ends the look and is in the store; the error is of the store or the context.
func (s *shard) look(ctx context.Context, head tlog.Checkpoint, succeeded bool) error {
	err := s.steps(ctx, head, succeeded)
	var a alarm
	if errors.As(err, &a) {
		return nil
	}
	return err
}

func (s *shard) steps(ctx context.Context, head tlog.Checkpoint, succeeded bool) error {
	due := s.whole || time.Since(s.Checked) >= s.config.Recheck
	if s.Closed && s.Alarm == nil && head.Size == s.head.Size && head.Root == s.head.Root && !due {
		return nil
	}
	if err := s.judge(ctx, head); err != nil {
		return err
	}
	if err := s.mirrors(ctx); err != nil {
		return err
	}
	if err := s.receipts(ctx); err != nil {
		return err
	}
	if due {
		if err := s.recheck(ctx); err != nil {
			return err
		}
		if err := s.store.Rechecked(ctx, s.ID); err != nil {
			return err
		}
	}
	started := s.Next > 0 || !succeeded || s.source.entriesOf(s)
	if started {
		if err := s.readOn(ctx); err != nil {
			return err
		}
	}
	closed := succeeded && (!started || s.Next >= s.head.Size)
	if closed && !s.Closed {
		slog.Info("a shard is closed", "log", s.config.Target.Name, "origin", s.Origin, "size", s.head.Size)
	}
	return s.store.Looked(ctx, s.ID, closed)
}

// entriesOf tells whether a shard that others have taken over from is read all the same: a
// v2 log's shards are sources of their own. Those that a v1 log had before are read only
// where that began while they took entries.
func (s *Source) entriesOf(of *shard) bool {
	_, v1 := of.head.TreeID()
	return !v1
}

// judge takes head for the newest checkpoint, or raises the alarm.
func (s *shard) judge(ctx context.Context, head tlog.Checkpoint) error {
	if s.Alarm != nil && s.Alarm.Code == lodge.CodeDiverged {
		return s.stayHeld(ctx)
	}
	if s.Trust {
		return s.trust(ctx, head)
	}
	if head.Size < s.head.Size {
		var err error
		if head, err = s.again(ctx, head); err != nil {
			return err
		}
	}
	switch {
	case s.head.Size < 0:
		return s.keep(ctx, head, false)
	case head.Size < s.head.Size:
		return s.rolledBack(ctx, head)
	case head.Size == s.head.Size && head.Root == s.head.Root:
		return nil
	case s.head.Size > 0:
		if err := s.extends(ctx, s.source, s.head, head, s.source.URL()); err != nil {
			return err
		}
	}
	return s.keep(ctx, head, false)
}

// again fetches the checkpoint past every cache, where one is older than the last.
func (s *shard) again(ctx context.Context, older tlog.Checkpoint) (tlog.Checkpoint, error) {
	heads, err := s.source.Heads(ctx, true)
	if err != nil {
		return older, s.unreachable(ctx, err)
	}
	for _, h := range heads {
		if h.Origin == s.Origin && h.LogID == s.LogID {
			return h, nil
		}
	}
	return older, nil
}

func (s *shard) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if storeErr := s.raise(ctx, codeUnreachable, err.Error(), nil); storeErr != nil {
		return storeErr
	}
	return alarm{codeUnreachable, err.Error()}
}

func (s *shard) keep(ctx context.Context, head tlog.Checkpoint, anew bool) error {
	if s.head.Size < 0 && s.skips {
		s.First, s.Next = head.Size, head.Size
	}
	err := s.store.KeepHead(ctx, s.Shard, treeHead(head), anew, time.Now())
	if err != nil {
		return err
	}
	s.Head, s.head, s.Alarm = treeHead(head), head, nil
	if anew {
		s.First = min(s.First, head.Size)
		s.Next, s.agreed, s.own, s.ahead = s.First, map[tlog.Checkpoint]bool{}, own{}, tlog.Checkpoint{}
		s.Anchor = time.Now()
	}
	return nil
}

// stayHeld makes sure that the target of a log that has diverged takes nothing, until an
// operator resumes the log.
func (s *shard) stayHeld(ctx context.Context) error {
	if err := s.store.HoldFor(ctx, s.ID, s.config.Target, s.Alarm.Code, s.Alarm.Message, time.Now()); err != nil {
		return err
	}
	return alarm{s.Alarm.Code, s.Alarm.Message}
}

// trust goes on after an operator has resumed the log: from the last checkpoint where the one
// that is served extends it, else from that one alone.
func (s *shard) trust(ctx context.Context, head tlog.Checkpoint) error {
	err := error(nil)
	switch {
	case head.Size == s.head.Size && head.Root == s.head.Root:
		return nil
	case head.Size >= s.head.Size && s.head.Size > 0:
		err = s.source.Extends(ctx, s.head, head)
	case head.Size < s.head.Size:
		err = errors.New("it is smaller")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if silent(err) {
		return s.unreachable(ctx, err)
	}
	if err != nil {
		slog.Warn("a log is followed anew: its tree is not the one that was known", "log", s.config.Target.Name, "origin", s.Origin,
			"had", s.head.Size, "has", head.Size)
	}
	return s.keep(ctx, head, err != nil)
}

// rolledBack deals with a log that has fewer entries than it has signed.
func (s *shard) rolledBack(ctx context.Context, head tlog.Checkpoint) error {
	kept, err := s.store.KeptHead(ctx, s.ID, head.Size)
	if err != nil {
		return err
	}
	// Whatever became of the rest, this much it has signed before; and what it has signed last it
	// may still serve. Whether it serves any proof or none, it has fewer entries.
	for _, pair := range [][2]tlog.Checkpoint{{s.checkpoint(kept), head}, {head, s.head}} {
		if pair[0].Size <= 0 || !isFork(s.source.Extends(ctx, pair[0], pair[1])) {
			continue
		}
		if _, err := s.contradict(ctx, s.source, pair[0], pair[1], s.source.URL()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.shrunk(ctx, head, fmt.Sprintf("the log serves the checkpoint of a tree of %d and had %d entries before", head.Size, s.head.Size))
}

// shrunk raises the alarm that a log has fewer entries than it has signed, and holds its target
// once that persists.
func (s *shard) shrunk(ctx context.Context, head tlog.Checkpoint, words string) error {
	since, err := s.raised(ctx, lodge.CodeRolledBack, words, &head)
	if err != nil {
		return err
	}
	if time.Since(since) >= s.config.Patience {
		if err := s.store.HoldFor(ctx, s.ID, s.config.Target, lodge.CodeRolledBack, words, time.Now()); err != nil {
			return err
		}
	}
	return alarm{lodge.CodeRolledBack, words}
}
