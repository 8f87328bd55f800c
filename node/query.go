package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// Deliveries returns the deliveries of the envelope with that key, or of those about the
// subject with that digest, or all where digest is zero: oldest first, beginning behind
// the id after, limit at most.
func (n *Node) Deliveries(ctx context.Context, digest lodge.Digest, after int64, limit int) ([]lodge.Delivery, error) {
	return n.store.Deliveries(ctx, digest, after, limit)
}

// Delivery returns a delivery as it stands, or lodge.ErrNotFound.
func (n *Node) Delivery(ctx context.Context, id int64) (lodge.Delivery, error) {
	return n.store.Delivery(ctx, id)
}

// History returns the transitions of a delivery, oldest first.
func (n *Node) History(ctx context.Context, id int64) ([]lodge.Transition, error) {
	return n.store.History(ctx, id)
}

// Targets returns every target that the store knows, with how it stands: also those that
// this node is not configured with.
func (n *Node) Targets(ctx context.Context) ([]lodge.TargetStatus, error) {
	return n.store.Targets(ctx)
}

// Held says why the target with that address takes nothing for now; nil where it takes.
func (n *Node) Held(ctx context.Context, address string) (*lodge.Error, error) {
	code, words, err := n.store.Held(ctx, address)
	if err != nil || code == "" {
		return nil, err
	}
	return &lodge.Error{Class: lodge.ClassHeld, Code: code, Message: words}, nil
}

// Retry queues failed deliveries again: those of key where it is set, those to the target
// where one is named by name or address. It says how many. Resume comes first where the
// target is held.
func (n *Node) Retry(ctx context.Context, key lodge.Key, target string) (int, error) {
	return n.store.Retry(ctx, key, target, time.Now())
}

// Resume makes a target, named by name or address, take deliveries again, and tells
// whether it was held. The error wraps lodge.ErrNotFound where there is no such target.
func (n *Node) Resume(ctx context.Context, target string) (bool, error) {
	targets, err := n.store.Targets(ctx)
	if err != nil {
		return false, err
	}
	for _, t := range targets {
		if t.Name == target || t.Address == target {
			return t.Held != "", n.store.Resume(ctx, t.Target, time.Now())
		}
	}
	return false, fmt.Errorf("target %q: %w", target, lodge.ErrNotFound)
}

// maxLogs bounds how many deliveries of one envelope Bundle looks at.
const maxLogs = 1000

// Bundle returns the Sigstore bundle v0.3 of the envelope with that key: with the entry
// of the log target, which is named by name or address, or with those of all logs that
// have it where target is "". With signer "" it has to be signed by one signer only.
//
// The error wraps lodge.ErrNotFound where there is no such envelope, or where it is on its
// way to a log and no log has it yet; lodge.ErrPruned where the envelope is not kept any more.
func (n *Node) Bundle(ctx context.Context, key lodge.Key, signer lodge.Signer, target string) ([]byte, error) {
	found, err := n.store.Deliveries(ctx, key, 0, maxLogs)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(d lodge.Delivery) bool {
		return d.Key != key || signer != "" && d.Signer != signer ||
			target != "" && d.Target.Name != target && d.Target.Address != target
	})
	if len(found) == 0 {
		return nil, fmt.Errorf("delivery of %s: %w", key, lodge.ErrNotFound)
	}
	for _, d := range found {
		if d.Signer != found[0].Signer {
			return nil, fmt.Errorf("%s was signed by %s and by %s: name one of them (--signer)", key, found[0].Signer, d.Signer)
		}
	}
	sub, err := n.store.Submission(ctx, found[0].ID)
	if err != nil {
		return nil, err
	}
	if len(sub.Raw) == 0 {
		return nil, fmt.Errorf("envelope of %s: %w; its receipt is still in lodge status %s", key, lodge.ErrPruned, key)
	}
	proofs, err := n.proofs(ctx, found)
	if err != nil {
		return nil, err
	}
	att, entries, err := bundle.Assemble(sub, proofs)
	if err != nil {
		return nil, err
	}
	return att.Encode(entries...)
}

// proofs returns those of the deliveries to logs. Without any such delivery there are
// none; with some it is an error that none is verified.
func (n *Node) proofs(ctx context.Context, deliveries []lodge.Delivery) ([]lodge.Proof, error) {
	var proofs []lodge.Proof
	var pending *lodge.Delivery
	for _, d := range deliveries {
		if d.Target.Kind != lodge.KindLog {
			continue
		}
		proof, err := n.store.Proof(ctx, d.ID)
		if errors.Is(err, lodge.ErrNotFound) {
			pending = &d
			continue
		}
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, proof)
	}
	if pending != nil && len(proofs) == 0 {
		return nil, fmt.Errorf("entry of %s in %s: %w: it is %s", pending.Key, pending.Target.Name, lodge.ErrNotFound, pending.State)
	}
	return proofs, nil
}
