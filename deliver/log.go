package deliver

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/rekor"
)

// toLog brings the envelope into the log, or finds it there. The order of the searches is
// promise 3's: the incoming bundle, the key tags, then the log itself.
func (a *attempt) toLog(ctx context.Context, att *bundle.Attestation) error {
	if a.job.State == lodge.Queued {
		found, err := a.known(ctx, att)
		if err != nil {
			return err
		}
		if found.Entry != nil {
			return a.arrived(found)
		}
	}
	intent, err := a.plan(ctx, att)
	if err != nil {
		return err
	}
	found, err := a.Log.Find(ctx, att, intent)
	if err != nil {
		return searchFailed(err)
	}
	if found.Entry != nil {
		return a.arrived(found)
	}
	if a.job.State == lodge.Placed {
		return lodge.Errorf(lodge.ClassUnknown, "not-integrated", "the log has promised the entry and has not integrated it yet")
	}
	if a.job.Intent != nil {
		// The same bytes as before, to the shard that takes entries now.
		now, err := a.Log.Plan(ctx, att)
		if err != nil {
			return err
		}
		intent.LogID, intent.ReadURL = now.LogID, now.ReadURL
	}
	intent.TreeSize = found.TreeSize
	if err := a.write(intent); err != nil {
		return err
	}
	sent := time.Now()
	entry, err := a.Log.Send(ctx, att, intent)
	if err != nil {
		return err
	}
	a.took(time.Since(sent))
	return a.arrived(rekor.Found{Entry: entry})
}

// plan returns the intent of an earlier attempt, whose bytes are sent again as they are,
// or a new one.
func (a *attempt) plan(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	if a.job.Intent != nil {
		return *a.job.Intent, nil
	}
	return a.Log.Plan(ctx, att)
}

// known looks for the log's entry where it costs the log nothing: in the bundle that came
// in, and behind the key tags of the repositories that the envelope also goes to.
func (a *attempt) known(ctx context.Context, att *bundle.Attestation) (rekor.Found, error) {
	entry, err := a.Log.Adopt(ctx, att)
	if err == nil {
		return rekor.Found{Entry: entry}, nil
	}
	if !errors.Is(err, lodge.ErrNotFound) {
		return rekor.Found{}, searchFailed(err)
	}
	for _, memory := range a.job.Memory {
		l := a.engine.lanes[memory.Target.Address]
		if l == nil {
			continue // not configured in this process
		}
		found, err := a.remembered(ctx, l, memory)
		if err != nil || found.Entry != nil {
			return found, err
		}
	}
	return rekor.Found{}, nil
}

const codeMemoryHeld = "memory-held"

// remembered asks one repository for a bundle of this envelope with this log's entry. A
// repository that can't be asked is no proof that there is none.
func (a *attempt) remembered(ctx context.Context, memory *lane, d lodge.Delivery) (rekor.Found, error) {
	candidates, err := memory.Repository.Candidates(ctx, d.Key, d.Signer, d.Subject)
	if failure := lodge.Classify(err); failure != nil {
		code := "memory"
		if failure.Class == lodge.ClassHeld {
			held := attempt{lane: memory, job: lodge.Job{Delivery: d}}
			held.hold(failure, time.Now())
			code = codeMemoryHeld
		}
		return rekor.Found{}, lodge.Errorf(lodge.ClassUnknown, code, "%s may have it already and can't be asked: %w", memory.Name, err)
	}
	for _, c := range candidates {
		att := a.judge(ctx, c.Bundle)
		if att == nil {
			continue
		}
		entry, err := a.Log.Adopt(ctx, att)
		if errors.Is(err, lodge.ErrNotFound) {
			continue
		}
		return rekor.Found{Entry: entry, Attestation: att}, searchFailed(err)
	}
	return rekor.Found{}, nil
}

// judge returns a bundle that was found as an attestation, or nil where it is not of this
// job's payload and signer or does not verify: anybody may have put it there.
func (a *attempt) judge(ctx context.Context, raw []byte) *bundle.Attestation {
	b, err := bundle.Parse(raw)
	if err != nil {
		return nil
	}
	att, err := a.engine.config.Attest(ctx, b, publicKey(a.job.Submission))
	if err != nil || att.Key != a.job.Key || att.Signer != a.job.Signer {
		return nil
	}
	return att
}

// arrived records that the log has the entry: proven, or promised so far.
func (a *attempt) arrived(found rekor.Found) error {
	a.answered()
	a.resume()
	now := time.Now()
	d := a.next(lodge.Verified, time.Time{})
	d.Receipt = &lodge.Receipt{Log: &found.Entry.Receipt}
	d.Adopted = d.Adopted || d.Sends == 0
	change := lodge.Change{Delivery: d, Entry: found.Entry}
	change.Events = []lodge.Event{lodge.LogEvent(lodge.EntryLogged, d, now)}
	if found.Entry.Receipt.InclusionProof == nil {
		change.State, change.Due = lodge.Placed, now.Add(a.backoff(a.job.Attempt))
	} else {
		change.Events = append(change.Events, lodge.LogEvent(lodge.InclusionVerified, d, now))
	}
	if found.Attestation != nil {
		own, err := bundle.Reopen(a.job.Submission)
		if err != nil {
			return err
		}
		if !bytes.Equal(found.Attestation.Signature, own.Signature) {
			if change.Bundle, err = found.Attestation.Encode(); err != nil {
				return err
			}
		}
	}
	return a.advance(change)
}

// searchFailed turns what a search failed with into something that is never final and
// never proves that a request was not applied.
func searchFailed(err error) error {
	if err == nil {
		return nil
	}
	failure := *lodge.Classify(err)
	if failure.Class.Final() {
		failure.Class = lodge.ClassUnknown
	}
	return &failure
}
