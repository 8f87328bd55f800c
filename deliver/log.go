package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/rekor"
)

// toLog brings the envelope into the log, or finds it there. The order of the searches is
// promise 3's: the incoming bundle, the key tags, then the log itself.
func (a *attempt) toLog(ctx context.Context) error {
	att, err := bundle.Reopen(a.job.Submission)
	if err != nil {
		return aside{err}
	}
	if a.job.State == lodge.Queued {
		found, err := a.known(ctx, att)
		if err != nil {
			return err
		}
		if found.Entry != nil {
			return a.arrived(found, att)
		}
	}
	if err := a.replan(); err != nil {
		return err
	}
	intent, err := a.planEntry(ctx, att)
	if err != nil {
		return err
	}
	found, err := a.Log.Find(ctx, att, intent)
	if err != nil {
		return searchFailed(err)
	}
	if found.Entry != nil {
		a.answered()
		return a.arrived(found, att)
	}
	if a.job.State == lodge.Placed {
		return lodge.Errorf(lodge.ClassUnknown, "not-integrated", "the log has promised the entry and has not integrated it yet")
	}
	if err := a.absent(); err != nil {
		return err
	}
	return a.sendEntry(ctx, att, intent, found)
}

// replan drops what was planned for a log that is not configured any more, if that is proven not to
// have the entry. One that may have it has to be asked, and nobody else can answer for it.
func (a *attempt) replan() error {
	sent := a.job.Intent
	if sent == nil || a.Log.Has(sent.LogID) {
		return nil
	}
	if a.job.State == lodge.Queued {
		a.job.Intent = nil
		return nil
	}
	return aside{lodge.Errorf(lodge.ClassUnknown, "shard-unknown",
		"it was sent to the log with the id %s, read at %s, which may have it and is not configured any more: configure that one again; a v2 log that follows it belongs under its `shards`", sent.LogID, sent.ReadURL)}
}

// planEntry returns the intent of an earlier attempt, whose bytes are sent again as they
// are, or a new one.
func (a *attempt) planEntry(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	if a.job.Intent != nil {
		return *a.job.Intent, nil
	}
	return a.Log.Plan(ctx, att)
}

// sendEntry submits what is absent.
func (a *attempt) sendEntry(ctx context.Context, att *bundle.Attestation, intent lodge.Intent, absent rekor.Found) error {
	if err := a.Log.Admit(ctx, att); err != nil {
		return err
	}
	if a.job.Intent != nil {
		// The same bytes as before, to the shard that takes entries now.
		now, err := a.Log.Plan(ctx, att)
		if err != nil {
			return err
		}
		intent.LogID, intent.ReadURL = now.LogID, now.ReadURL
	}
	if absent.LogID != "" && absent.LogID != intent.LogID {
		return lodge.Errorf(lodge.ClassReroute, "shard-changed", "the log went on to another shard meanwhile")
	}
	intent.TreeSize = absent.TreeSize
	ctx, cancel, err := a.write(intent)
	if err != nil {
		return err
	}
	defer cancel()
	sent := time.Now()
	entry, err := a.Log.Send(ctx, att, intent)
	if err != nil {
		return err
	}
	a.took(time.Since(sent))
	a.answered()
	return a.arrived(rekor.Found{Entry: entry}, att)
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
	return a.recall(ctx)
}

// tagsAtOnce is how many key tags an attempt asks at a time: a statement may be about a thousand
// images, and all are asked within one lease.
const tagsAtOnce = 16

// recall asks the key tags, the first one alone: mostly it has the entry, or can't be asked, and so
// do and can't the others.
func (a *attempt) recall(ctx context.Context) (rekor.Found, error) {
	if len(a.job.Siblings) == 0 {
		return rekor.Found{}, nil
	}
	if found, err := a.remembered(ctx, a.job.Siblings[0]); err != nil || found.Entry != nil {
		return found, err
	}
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(tagsAtOnce)
	answers := make(chan rekor.Found, len(a.job.Siblings))
	for _, d := range a.job.Siblings[1:] {
		asking.Go(func() error {
			found, err := a.remembered(ctx, d)
			if err == nil && found.Entry != nil {
				answers <- found
				err = context.Canceled // the others need not be asked
			}
			return err
		})
	}
	err := asking.Wait()
	select {
	case found := <-answers:
		return found, nil
	default:
		return rekor.Found{}, err
	}
}

const codeTagHeld = "memory-held"

// remembered asks the repository of a delivery for a bundle of this envelope with this
// log's entry. That it can't be asked is no proof that there is none.
func (a *attempt) remembered(ctx context.Context, d lodge.Delivery) (rekor.Found, error) {
	memory, lane, err := a.engine.repository(d.Target.Address)
	if err != nil {
		return rekor.Found{}, a.notAsked(d, lane, err)
	}
	for c, err := range memory.Candidates(ctx, d.Key, d.Signer, d.Subject) {
		if err != nil {
			return rekor.Found{}, a.notAsked(d, lane, err)
		}
		att, err := a.judge(c.Bundle)
		if err != nil {
			return rekor.Found{}, aside{searchFailed(err)}
		}
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

// notAsked says that a repository could not be asked, and holds it where it is to be held.
func (a *attempt) notAsked(d lodge.Delivery, l *lane, err error) error {
	code := "memory"
	if failure := lodge.Classify(err); failure.Class == lodge.ClassHeld && l != nil {
		l.hold(failure, time.Now())
		code = codeTagHeld
	}
	return aside{lodge.Errorf(lodge.ClassUnknown, code, "%s may have it already and can't be asked: %w", d.Target.Name, err)}
}

// judge returns a bundle that was found as an attestation, or nil where it is not of this
// job's payload and signer or does not verify: anybody may have put it there. An error
// says that it could not be judged.
func (a *attempt) judge(raw []byte) (*bundle.Attestation, error) {
	b, err := bundle.Parse(raw)
	if err != nil || b.MediaType != bundle.MediaType || len(b.Envelope.Signatures) != 1 {
		return nil, nil //nolint:nilerr // what lodge would not have published is nobody's
	}
	key, err := publicKey(a.job.Submission)
	if err != nil {
		return nil, err
	}
	att, err := a.engine.config.Attest(b, key)
	if errors.Is(err, lodge.ErrSignature) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("a bundle that was found: %w", err)
	}
	if att.Key != a.job.Key || att.Signer != a.job.Signer {
		return nil, nil
	}
	return att, nil
}

// publicKey returns the bare key that verified a submission, nil where a certificate did.
func publicKey(sub lodge.Submission) (*dsse.PublicKey, error) {
	if sub.SPKI == nil {
		return nil, nil
	}
	return dsse.ParsePublicKey(sub.SPKI)
}

// arrived records that the log has the entry: proven, or promised so far. own is what was
// accepted, which the entry may hold under another signature.
func (a *attempt) arrived(found rekor.Found, own *bundle.Attestation) (err error) {
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
	if other := found.Attestation; other != nil && !sameSignature(other, own) {
		if change.Bundle, err = other.Encode(); err != nil {
			return err
		}
	}
	if err := a.advance(change); err != nil {
		return err
	}
	a.probed()
	return nil
}

// sameSignature tells whether both carry the same signature under the same certificate.
func sameSignature(x, y *bundle.Attestation) bool {
	leaf := func(a *bundle.Attestation) []byte {
		if len(a.Certificates) == 0 {
			return nil
		}
		return a.Certificates[0]
	}
	return bytes.Equal(x.Signature, y.Signature) && bytes.Equal(leaf(x), leaf(y))
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
