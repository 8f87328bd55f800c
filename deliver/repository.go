package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/oci"
)

// toRepository attaches the bundle to its subject, or finds it attached.
func (a *attempt) toRepository(ctx context.Context) error {
	candidates, err := a.Repository.Candidates(ctx, a.job.Key, a.job.Signer, a.job.Subject)
	if err != nil {
		return err // subject-missing is final, for nothing was sent
	}
	for _, c := range candidates {
		if there, err := a.complete(ctx, c); err != nil {
			return err
		} else if there {
			receipt, err := a.Repository.Adopt(ctx, a.job.Subject, c.Manifest)
			if err != nil {
				return err
			}
			return a.published(receipt)
		}
	}
	// The proofs are kept with those deliveries, so every attempt plans the same bytes.
	att, entries, err := bundle.Assemble(a.job.Submission, a.job.Required)
	if err != nil {
		return err
	}
	intent, err := a.Repository.Plan(ctx, att, a.job.Subject, entries...)
	if err != nil {
		return err
	}
	if err := a.write(intent); err != nil {
		return err
	}
	receipt, err := a.Repository.Send(ctx, a.job.Key, a.job.Signer, a.job.Subject, intent)
	if err != nil {
		return err
	}
	return a.published(receipt)
}

// complete tells whether a candidate is what would be published: it verifies, is of this
// envelope and signer, and has the entry of each log that is required.
func (a *attempt) complete(ctx context.Context, c oci.Candidate) (bool, error) {
	att := a.judge(ctx, c.Bundle)
	if att == nil {
		return false, nil
	}
	for _, required := range a.job.Required {
		l := a.engine.lanes[required.Target.Address]
		if l == nil || l.Log == nil {
			return false, fmt.Errorf("%s requires the log %s, which is not configured here", a.Name, required.Target.Name)
		}
		switch _, err := l.Log.Adopt(ctx, att); {
		case errors.Is(err, lodge.ErrNotFound):
			return false, nil
		case err != nil:
			return false, searchFailed(err)
		}
	}
	return true, nil
}

func (a *attempt) published(receipt lodge.OCIReceipt) error {
	a.answered()
	a.resume()
	d := a.next(lodge.Verified, time.Time{})
	d.Receipt = &lodge.Receipt{OCI: &receipt}
	d.Adopted = d.Adopted || d.Sends == 0
	return a.advance(lodge.Change{Delivery: d, Events: []lodge.Event{lodge.PublishedEvent(d, time.Now())}})
}

// publicKey returns the bare key that verified a submission, nil where a certificate did.
func publicKey(sub lodge.Submission) *dsse.PublicKey {
	if sub.SPKI == nil {
		return nil
	}
	key, err := dsse.ParsePublicKey(sub.SPKI)
	if err != nil {
		return nil // it verified once, so this can't be
	}
	return key
}
