// Package node wires the parts of lodge together and runs them. It is what an embedding
// program imports: open a node, run it, push attestations through it and follow what
// becomes of them (see the example of Node.Push).
//
// It may import the root package and floors 1 to 3.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/verify"
)

// Node is an open lodge. Its methods are safe for concurrent use.
type Node struct {
	config  Config
	store   *store.Store
	engine  *deliver.Engine
	signers verify.Signers
	targets map[string]*target // by name
	sinks   []worker
}

// Open opens the store, which it creates where it is missing, and prepares the targets.
// Nothing is sent and nothing runs until Run. Close it when Run has returned.
func Open(ctx context.Context, c Config) (*Node, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Store == "" {
		return nil, errors.New("no store is named: want " + store.Forms)
	}
	s, err := store.Open(ctx, c.Store)
	if err != nil {
		return nil, err
	}
	n := &Node{config: c, store: s, targets: map[string]*target{}}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	var err error
	if n.signers, err = n.config.signers(); err != nil {
		return err
	}
	config := deliver.Config{
		Store:  n.store,
		Attest: n.attest,
		Open: func(address string) (deliver.Repository, error) {
			return oci.New(address, oci.Options{Leases: n.store})
		},
		Cache: deliver.Cache{TTL: time.Duration(n.config.Cache.TTL), Entries: n.config.Cache.Entries},
	}
	for name, t := range n.config.Targets {
		if n.targets[name], err = n.newTarget(ctx, name, t); err != nil {
			return fmt.Errorf("target %s: %w", name, err)
		}
		config.Targets = append(config.Targets, n.targets[name].Target)
	}
	if err := distinct(config.Targets); err != nil {
		return err
	}
	for _, t := range n.targets {
		if err := n.store.Register(ctx, t.Target.Target); err != nil {
			return err
		}
		if err := n.tryAgain(ctx, t.Target.Target); err != nil {
			return err
		}
		if t.log != nil {
			n.signers.Logs = append(n.signers.Logs, t.log)
		}
	}
	if err := n.applyPolicies(ctx); err != nil {
		return err
	}
	if n.engine, err = deliver.New(config); err != nil {
		return err
	}
	return n.openSinks()
}

// distinct makes sure that nothing is delivered to one place under two names.
func distinct(targets []deliver.Target) error {
	targets = slices.Clone(targets)
	slices.SortFunc(targets, func(a, b deliver.Target) int { return strings.Compare(a.Name, b.Name) })
	names := map[string]string{}
	for _, t := range targets {
		if other, taken := names[t.Address]; taken {
			return fmt.Errorf("targets %s and %s are both %s: leave one out", other, t.Name, t.Address)
		}
		names[t.Address] = t.Name
	}
	return nil
}

// tryAgain takes a target up again that was held for something that an operator mends
// outside of lodge. What only an operator can decide stays held.
func (n *Node) tryAgain(ctx context.Context, t lodge.Target) error {
	return n.store.ResumeMended(ctx, t, time.Now())
}

// Run delivers until ctx ends, and returns when nothing is under way any more. What else
// runs beside that is told in the log when it fails, and never ends the node nor stays away.
func (n *Node) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // before the wait
	for _, w := range n.workers() {
		beside.Go(func() { w.keepRunning(ctx) })
	}
	return n.engine.Run(ctx)
}

// worker is what runs beside the deliveries until ctx ends.
type worker struct {
	name string
	run  func(context.Context) error
}

// beginAgain is how long after a failure a worker begins again.
const beginAgain = 30 * time.Second

// keepRunning runs w until it is done or ctx ends. What it failed with may pass, such as a
// database that is started anew.
func (w worker) keepRunning(ctx context.Context) {
	for {
		err := w.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		slog.Error(w.name+" has failed; it begins again in a while", "err", err)
		select {
		case <-time.After(beginAgain):
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) workers() []worker {
	workers := []worker{{"bringing hints up to date", n.rehint}, {"triggering policies", n.trigger}}
	if n.config.Retention != (Retention{}) {
		workers = append(workers, worker{"retention", n.prune})
	}
	for _, name := range n.config.Follow {
		t := n.targets[name]
		workers = append(workers, worker{"following " + name, func(ctx context.Context) error { return n.follow(ctx, t) }})
	}
	if n.config.Evidence.Directory != "" {
		workers = append(workers, worker{"writing evidence", n.archiver().Run})
	}
	return append(workers, n.sinks...)
}

// Close closes the store.
func (n *Node) Close() error { return n.store.Close() }

// attest verifies a bundle that was found in a log or repository.
func (n *Node) attest(b *bundle.Bundle, key *dsse.PublicKey) (*bundle.Attestation, error) {
	signers := n.signers
	signers.Keys = nil
	if key != nil {
		signers.Keys = []*dsse.PublicKey{key}
	}
	return signers.Attest(b)
}

// signers returns whose envelopes are accepted.
func (c *Config) signers() (verify.Signers, error) {
	var s verify.Signers
	if len(c.Signers) > 0 {
		s.Identities = []verify.Identity{} // nobody's certificate but of those that are named
	}
	for _, signer := range c.Signers {
		if signer.Key == "" {
			s.Identities = append(s.Identities, verify.Identity{Identity: signer.Identity, Issuer: signer.Issuer})
			continue
		}
		raw, err := c.read(signer.Key)
		if err != nil {
			return s, fmt.Errorf("signer's key: %w", err)
		}
		key, err := dsse.ParsePublicKey(raw)
		if err != nil {
			return s, fmt.Errorf("signer's key %s: %w", signer.Key, err)
		}
		s.Keys = append(s.Keys, key)
	}
	if c.TrustedRoot == "" {
		return s, nil
	}
	var err error
	s.Root, err = c.root(c.TrustedRoot)
	return s, err
}

func (c *Config) root(path string) (*verify.Root, error) {
	raw, err := c.read(path)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	root, err := verify.ParseRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("trusted root %s: %w", path, err)
	}
	return root, nil
}
