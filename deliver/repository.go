package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/oci"
)

// toRepository attaches the bundle to its subject, or finds it attached.
func (a *attempt) toRepository(ctx context.Context) error {
	for c, err := range a.Repository.Candidates(ctx, a.job.Key, a.job.Signer, a.job.Subject) {
		if err != nil {
			return searchFailed(err)
		}
		there, err := a.complete(ctx, c)
		if err != nil {
			return err
		}
		if there {
			return a.adoptArtifact(ctx, c.Manifest)
		}
	}
	if err := a.absent(); err != nil {
		return err
	}
	return a.sendArtifact(ctx)
}

// adoptArtifact has what is in the repository listed.
func (a *attempt) adoptArtifact(ctx context.Context, manifest lodge.Digest) error {
	receipt, err := a.Repository.Adopt(ctx, a.job.Key, a.job.Signer, a.job.Subject, manifest)
	if oci.Unlisted(err) { // nor will it be: that is the end of it, as it was when it was sent
		if failed := a.absent(); failed != nil {
			return failed
		}
		return err
	}
	if err != nil {
		return searchFailed(err)
	}
	return a.published(receipt)
}

// complete tells whether a candidate is what would be published: it verifies, is of this
// envelope and signer, and is what was sent, or has the entry of each log that is required.
func (a *attempt) complete(ctx context.Context, c oci.Candidate) (bool, error) {
	att, err := a.judge(c.Bundle)
	if err != nil {
		return false, aside{searchFailed(err)}
	}
	if att == nil {
		return false, nil
	}
	if sent := a.job.Intent; sent != nil && sent.Manifest == c.Manifest {
		return true, nil // the log that is required may have come later
	}
	for _, required := range a.job.Required {
		l := a.engine.lanes[required.Target.Address]
		if l == nil || l.Log == nil {
			return false, aside{fmt.Errorf("%s requires the log %s, which is not known to this process", a.Name, required.Target.Name)}
		}
		switch _, err := l.Log.Adopt(ctx, att); {
		case errors.Is(err, lodge.ErrNotFound):
			return false, nil
		case err != nil:
			return false, aside{searchFailed(err)}
		}
	}
	return true, nil
}

// sendArtifact publishes the bundle with the proofs of the logs. Those are kept with their
// deliveries, so attempts plan the same bytes, unless a submission has required another log in
// between (ADR 0017).
func (a *attempt) sendArtifact(ctx context.Context) error {
	att, entries, err := bundle.Assemble(a.job.Submission, a.job.Required)
	if err != nil {
		return aside{err}
	}
	intent, err := a.Repository.Plan(ctx, att, a.job.Subject, entries...)
	if err != nil {
		return err
	}
	ctx, cancel, err := a.write(intent)
	if err != nil {
		return err
	}
	defer cancel()
	receipt, err := a.Repository.Send(ctx, a.job.Key, a.job.Signer, a.job.Subject, intent)
	if err != nil {
		return err
	}
	return a.published(receipt)
}

func (a *attempt) published(receipt lodge.OCIReceipt) error {
	a.answered()
	d := a.next(lodge.Verified, time.Time{})
	d.Receipt = &lodge.Receipt{OCI: &receipt}
	d.Adopted = d.Adopted || d.Sends == 0
	if err := a.advance(lodge.Change{Delivery: d, Events: []lodge.Event{lodge.PublishedEvent(d, time.Now())}}); err != nil {
		return err
	}
	a.probed()
	return nil
}

// repository returns the client of the repository with that address, and its lane where it
// is delivered to here.
func (e *Engine) repository(address string) (Repository, *lane, error) {
	if l := e.lanes[address]; l != nil {
		return l.Repository, l, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.opened[address]; known != nil {
		return known, nil, nil
	}
	opened, err := e.config.Open(address)
	if err == nil {
		e.opened[address] = opened
	}
	return opened, nil, err
}
