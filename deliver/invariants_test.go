package deliver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// ledger is what one store says of a site.
type ledger struct {
	*shelf
	first      int64 // sequence before its events of the site
	deliveries []lodge.Delivery
}

// check returns what does not hold once all is delivered.
func (s *site) check(t testing.TB, ledgers ...ledger) (broken []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	broken = append(broken, s.breaches...)
	fail := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	listed := s.listed(t)
	copies := s.copies(listed, fail)
	wanted := map[id]bool{}
	for _, l := range ledgers {
		for _, d := range l.deliveries {
			wanted[id{d.Key, d.Signer, d.Target.Kind}] = true
			if err := s.verifyReceipt(d, listed); err != nil {
				fail("%s: receipt of %.14s from %s: %v", l.name, d.Key, d.Target.Name, err)
			}
			history, err := l.History(context.Background(), d.ID)
			must(t, err)
			checkHistory(d, history, fail)
		}
		events, err := l.Events(context.Background(), l.first, 10_000)
		must(t, err)
		s.checkEvents(l.deliveries, events, fail)
	}
	for whose := range wanted {
		n, excuses := copies[whose], s.excuses[whose]
		if n == 0 || n > 1+len(excuses) {
			fail("%.14s: %d times at the %s, want once; limits that were hit: %q", whose.key, n, whose.kind, excuses)
		}
		delete(copies, whose)
	}
	for whose := range copies {
		fail("%.14s is at the %s, and nobody wants it there", whose.key, whose.kind)
	}
	return broken
}

// copies counts the leaves and the listed artifacts of everything.
func (s *site) copies(listed []string, fail func(string, ...any)) map[id]int {
	copies := map[id]int{}
	skip := s.prior
	for i, shard := range s.shards {
		for _, body := range shard.Bodies()[skip:] {
			whose, known := s.leaf[tlog.LeafHash(body)]
			if !known {
				fail("shard %d has a leaf that nobody planned", i)
			}
			copies[whose]++
		}
		skip = 0
	}
	for _, digest := range listed {
		whose, known := s.sent[digest]
		if !known {
			fail("an artifact is listed that nobody planned: %s", digest)
		}
		copies[whose]++
	}
	return copies
}

// verifyReceipt verifies a receipt against the site itself.
func (s *site) verifyReceipt(d lodge.Delivery, listed []string) error {
	if d.State != lodge.Verified || d.Receipt == nil {
		return fmt.Errorf("it is %s", d.State)
	}
	if r := d.Receipt.OCI; r != nil {
		if d.Target.Kind != lodge.KindRepository || !slices.Contains(listed, r.Digest.String()) {
			return fmt.Errorf("%s is not listed", r.Digest)
		}
		if s.sent[r.Digest.String()] != (id{d.Key, d.Signer, lodge.KindRepository}) {
			return fmt.Errorf("%s is somebody else's", r.Digest)
		}
		return nil
	}
	r := d.Receipt.Log
	if r == nil || r.InclusionProof == nil {
		return fmt.Errorf("it proves nothing")
	}
	for i, shard := range s.shards {
		if shard.Key().LogID() != r.LogID {
			continue
		}
		if _, err := shard.Key().Prove(r.LeafHash, *r.InclusionProof); err != nil {
			return err
		}
		bodies := shard.Bodies()
		at := r.InclusionProof.LogIndex
		if at >= int64(len(bodies)) || tlog.LeafHash(bodies[at]) != r.LeafHash {
			return fmt.Errorf("shard %d has another leaf at %d", i, at)
		}
		if s.leaf[r.LeafHash] != (id{d.Key, d.Signer, lodge.KindLog}) {
			return fmt.Errorf("leaf %d is somebody else's", at)
		}
		return nil
	}
	return fmt.Errorf("it is of an unknown log")
}

// steps that a delivery may make (docs/architecture.md); from Sending to Unknown also by whoever
// claims what a worker left.
var transitions = map[lodge.State][]lodge.State{
	"":            {lodge.Queued},
	lodge.Queued:  {lodge.Queued, lodge.Sending, lodge.Placed, lodge.Verified, lodge.Failed},
	lodge.Sending: {lodge.Queued, lodge.Unknown, lodge.Placed, lodge.Verified, lodge.Failed},
	lodge.Unknown: {lodge.Unknown, lodge.Queued, lodge.Placed, lodge.Verified},
	lodge.Placed:  {lodge.Placed, lodge.Verified},
	lodge.Failed:  {lodge.Queued},
}

// checkHistory holds that the rows of a delivery's history follow from one another, and
// that none is of a worker that had lost its lease.
func checkHistory(d lodge.Delivery, history []lodge.Transition, fail func(string, ...any)) {
	state, attempt, sends := lodge.State(""), 0, 0
	for _, h := range history {
		if h.From != state || !slices.Contains(transitions[h.From], h.To) || h.Attempt < attempt {
			fail("delivery to %s: %s -> %s of attempt %d after %s of attempt %d", d.Target.Name, h.From, h.To, h.Attempt, state, attempt)
		}
		if h.To == lodge.Sending {
			sends++
			if h.Intent == nil {
				fail("delivery to %s: sending without an intent", d.Target.Name)
			}
		}
		state, attempt = h.To, h.Attempt
	}
	if state != d.State || sends != d.Sends {
		fail("delivery to %s is %s after %d sends; its history says %s after %d", d.Target.Name, d.State, d.Sends, state, sends)
	}
}

// checkEvents holds that each delivery's events are there, once, in order.
func (s *site) checkEvents(deliveries []lodge.Delivery, events []lodge.Event, fail func(string, ...any)) {
	last := int64(0)
	for _, e := range events {
		if e.Sequence <= last {
			fail("event %d after %d", e.Sequence, last)
		}
		last = e.Sequence
	}
	for _, d := range deliveries {
		var all, facts []string
		for _, e := range events {
			if e.Subject != d.Key.String() || !isAbout(e, d) {
				continue
			}
			all = append(all, strings.TrimSuffix(strings.TrimPrefix(string(e.Type), "dev.lodge."), ".v1"))
			if e.Type != lodge.AttemptFailed && e.Type != lodge.EntryFailed {
				facts = append(facts, all[len(all)-1])
			}
		}
		want := []string{"EntryQueued", "EntryLogged", "InclusionVerified"}
		if d.Target.Kind == lodge.KindRepository {
			want = []string{"EntryQueued", "ArtifactPublished"}
		}
		if !slices.Equal(facts, want) || all[0] != want[0] || all[len(all)-1] != want[len(want)-1] {
			fail("events of the delivery to %s: %v", d.Target.Name, all)
		}
	}
}

// isAbout tells whether an event of d's key is of d.
func isAbout(e lodge.Event, d lodge.Delivery) bool {
	data := string(e.Data)
	return strings.Contains(data, fmt.Sprintf("%q", string(d.Signer))) && strings.Contains(data, fmt.Sprintf("%q", d.Target.Name))
}
