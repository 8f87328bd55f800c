package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

// Submission is an envelope as a program or user hands it in.
type Submission struct {
	Envelope []byte          // a DSSE envelope, or a Sigstore bundle v0.1 to v0.3
	Key      *dsse.PublicKey // that verifies it, where it carries no certificate and is of no configured signer
	Scopes   []string        // of its events, instead of those derived
	Targets  []string        // names; default: those of Config.Deliver
	Subject  lodge.Digest    // for repositories; default: every subject of the statement that is there
}

// Push accepts an envelope and waits until it is delivered, has failed, waits for an
// operator, or ctx ends. What it returns is how each delivery stands then; in every case
// what was accepted goes on in the background of this node or the next one that runs on
// the same store. An error says that nothing was accepted.
func (n *Node) Push(ctx context.Context, sub Submission) ([]lodge.Accepted, error) {
	accepted, err := n.Accept(ctx, sub)
	if err != nil {
		return nil, err
	}
	for i := range accepted {
		if accepted[i].Delivery, err = n.engine.Await(ctx, accepted[i].Delivery); err != nil {
			return accepted, err
		}
	}
	return accepted, nil
}

// Accept verifies an envelope and makes its deliveries. When it returns they are durable.
// Errors wrap lodge.ErrMalformed, lodge.ErrLimit, lodge.ErrSignature or lodge.ErrNoTarget
// where the submission is at fault.
func (n *Node) Accept(ctx context.Context, sub Submission) ([]lodge.Accepted, error) {
	att, orders, err := n.prepare(ctx, &sub)
	if err != nil {
		return nil, err
	}
	s := n.submission(sub, att)
	if len(n.config.TSA) > 0 && !n.engine.Knows(s, orders) {
		if s.Timestamps, err = n.timestamps(ctx, att, orders); err != nil {
			return nil, err
		}
	}
	return n.engine.Accept(ctx, s, orders)
}

// Await waits for a delivery as Push does.
func (n *Node) Await(ctx context.Context, d lodge.Delivery) (lodge.Delivery, error) {
	return n.engine.Await(ctx, d)
}

// Follow hands every event behind the sequence after to fn, in order and durable, then
// each new one, until ctx ends or fn returns an error, which it returns.
func (n *Node) Follow(ctx context.Context, after int64, fn func(lodge.Event) error) error {
	return n.engine.Follow(ctx, after, fn)
}

// Planned is what would be sent for one delivery.
type Planned struct {
	Key     lodge.Key
	Signer  lodge.Signer
	Target  lodge.Target
	Subject lodge.Digest
	Intent  lodge.Intent
	Hints   lodge.Hints
	Scope   []string     // in effect, of the hints' and the given ones
	Err     *lodge.Error // why the target can't take it
}

// Plan says what Accept would lead to. Nothing is stored, and nothing is sent but what is
// needed to find out a log's version or a subject.
func (n *Node) Plan(ctx context.Context, sub Submission) ([]Planned, error) {
	att, orders, err := n.prepare(ctx, &sub)
	if err != nil {
		return nil, err
	}
	hints := hintsOf(att.PayloadType, att.Payload)
	scope := hints.Scope(sub.Scopes, len(sub.Scopes) > 0)
	var plans []Planned
	for _, order := range orders {
		p := Planned{Key: att.Key, Signer: att.Signer, Target: order.Target, Subject: order.Subject, Hints: hints, Scope: scope}
		t := n.targets[order.Target.Name]
		if t.log != nil {
			p.Intent, err = t.log.Plan(ctx, att)
		} else {
			p.Intent, err = t.repository.Plan(ctx, att, order.Subject)
		}
		p.Err = lodge.Classify(err)
		plans = append(plans, p)
	}
	return plans, nil
}

// prepare verifies an envelope, brings its scopes into their canonical form, and says which
// deliveries it is to have.
func (n *Node) prepare(ctx context.Context, sub *Submission) (*bundle.Attestation, []lodge.Order, error) {
	b, err := bundle.Parse(sub.Envelope)
	if err != nil {
		return nil, nil, err
	}
	if sub.Scopes, err = Scopes(sub.Scopes); err != nil {
		return nil, nil, err
	}
	signers := n.signers
	if sub.Key != nil {
		signers.Keys = append([]*dsse.PublicKey{sub.Key}, signers.Keys...)
	}
	att, err := signers.Attest(b)
	if err != nil && len(b.Certificates) > 0 && n.signers.Root != nil {
		att, err = n.attestAgain(ctx, signers, b, err)
	}
	if err != nil {
		return nil, nil, err
	}
	orders, err := n.orders(ctx, att, *sub)
	return att, orders, err
}

func (n *Node) submission(sub Submission, att *bundle.Attestation) lodge.Submission {
	s := lodge.Submission{Key: att.Key, Signer: att.Signer, Raw: sub.Envelope, Subjects: att.Statement.Subjects, Scopes: sub.Scopes,
		Hints: hintsOf(att.PayloadType, att.Payload)}
	if len(att.Certificates) == 0 {
		s.SPKI = att.PublicKey.SPKI
	}
	return s
}

// orders returns the deliveries: the logs first, then the repositories, each of which
// requires all the logs.
func (n *Node) orders(ctx context.Context, att *bundle.Attestation, sub Submission) ([]lodge.Order, error) {
	names := slices.Clone(sub.Targets)
	if len(names) == 0 {
		names = slices.Clone(n.config.Deliver)
	}
	if len(names) == 0 {
		return nil, lodge.ErrNoTarget
	}
	for _, name := range names {
		t := n.targets[name]
		if t == nil {
			return nil, fmt.Errorf("there is no target %q", name)
		}
		names = append(names, t.requires...)
	}
	slices.Sort(names)
	names = slices.Compact(names)

	var orders []lodge.Order
	var logs []int
	for _, name := range names {
		if t := n.targets[name]; t.log != nil {
			logs = append(logs, len(orders))
			orders = append(orders, lodge.Order{Target: t.Target.Target})
		}
	}
	for _, name := range names {
		t := n.targets[name]
		if t.log != nil {
			continue
		}
		subjects, err := n.subjects(ctx, t, att, sub.Subject)
		if err != nil {
			return nil, err
		}
		for _, subject := range subjects {
			orders = append(orders, lodge.Order{Target: t.Target.Target, Subject: subject, Requires: logs})
		}
	}
	return orders, nil
}

// maxSubjects bounds how many subjects of one statement are looked for in a repository.
const maxSubjects = 1000

// subjects says what an envelope is attached to in a repository: the subject that was
// named, the statement's one, or those of its several that are there.
func (n *Node) subjects(ctx context.Context, t *target, att *bundle.Attestation, named lodge.Digest) ([]lodge.Digest, error) {
	all := att.Statement.Subjects
	switch {
	case !named.IsZero():
		return []lodge.Digest{named}, nil
	case len(all) == 1:
		return all, nil
	case len(all) == 0:
		return nil, fmt.Errorf("%w: it names no sha256 subject to attach it to in %s: name one with --oci %s@sha256:…",
			lodge.ErrMalformed, t.repository, t.repository)
	case len(all) > maxSubjects:
		return nil, fmt.Errorf("%w: %d subjects (at most %d): name one with --oci %s@sha256:…", lodge.ErrLimit, len(all), maxSubjects, t.repository)
	}
	known, err := n.store.Subjects(ctx, att.Key, att.Signer, t.Address)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(d lodge.Digest) bool { return !slices.Contains(known, d) }) {
		return all, nil
	}
	there, err := t.repository.Subjects(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("which of its %d subjects are in %s: %w (name the image as %s@sha256:…, and it need not be asked)", len(all), t.repository, err, t.repository)
	}
	if len(there) == 0 {
		return nil, fmt.Errorf("%w: none of its %d subjects is in %s: push the image first, or name the repository that it is in",
			lodge.ErrNotFound, len(all), t.repository)
	}
	return there, nil
}
