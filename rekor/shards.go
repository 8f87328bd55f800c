package rekor

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// Shards is a Rekor v2 log with its shards, oldest first. A shard is frozen for good when
// the next one takes over, and says so to whoever sends to it. Entries are looked for in
// all of them and sent to the first that is not known to be frozen. It is safe for
// concurrent use.
type Shards struct {
	shards []*V2
	active atomic.Int32 // index of the shard that is sent to
}

// NewShards returns a client of the log; it connects to nothing.
func NewShards(shards ...*V2) (*Shards, error) {
	if len(shards) == 0 {
		return nil, errors.New("a log has one shard at least")
	}
	return &Shards{shards: shards}, nil
}

// Has tells whether one of the shards has that id.
func (s *Shards) Has(logID string) bool {
	return slices.ContainsFunc(s.shards, func(shard *V2) bool { return shard.Has(logID) })
}

// Plan prepares a submission to the shard that is sent to.
func (s *Shards) Plan(att *bundle.Attestation) (lodge.Intent, error) {
	return s.shards[s.active.Load()].Plan(att)
}

// Admit refuses what could not be verified if it were logged.
func (s *Shards) Admit(att *bundle.Attestation) error { return s.shards[0].Admit(att) }

// Vouch is Adopt, which needs no network here.
func (s *Shards) Vouch(att *bundle.Attestation) (*lodge.Entry, error) {
	return s.Adopt(context.Background(), att)
}

// Adopt returns the entry of att.Entries that is one of the shards', or lodge.ErrNotFound.
func (s *Shards) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	for _, shard := range s.shards {
		if e, err := shard.Adopt(ctx, att); !errors.Is(err, lodge.ErrNotFound) {
			return e, err
		}
	}
	return nil, lodge.ErrNotFound
}

// Find looks into every shard: an entry is absent only when it is absent from all. The tree
// that it names is that of the shard that is sent to.
func (s *Shards) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (Found, error) {
	active := s.active.Load()
	var absent Found
	for i, shard := range s.shards {
		asked := intent
		if intent.LogID != shard.LogID() {
			asked.TreeSize = 0 // that is another shard's
		}
		found, err := shard.Find(ctx, att, asked)
		if err != nil || found.Entry != nil {
			return found, err
		}
		if i == int(active) {
			absent = found
		}
	}
	return absent, nil
}

// Send submits to the shard that intent names. Where that one is frozen the error is of
// class reroute, and the next Plan is for the next shard; of class held where there is none.
func (s *Shards) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	for i, shard := range s.shards {
		if shard.LogID() != intent.LogID {
			continue
		}
		e, err := shard.Send(ctx, att, intent)
		failure := lodge.Classify(err)
		if failure == nil || failure.Class != lodge.ClassReroute {
			return e, err
		}
		if i+1 == len(s.shards) {
			return nil, lodge.Errorf(lodge.ClassHeld, failure.Code, "%w; name the shard that follows it under `shards` of the log", err)
		}
		s.active.CompareAndSwap(int32(i), int32(i+1))
		return nil, err
	}
	return nil, lodge.Errorf(lodge.ClassHeld, "shard-unknown", "no shard with the id %s is configured any more", intent.LogID)
}
