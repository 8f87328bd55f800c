package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/oci"
)

// target is a configured target with its client: log or repository is set.
type target struct {
	deliver.Target
	log        *logClient
	repository *oci.Repository
	requires   []string
}

func (n *Node) newTarget(ctx context.Context, name string, c Target) (*target, error) {
	t := &target{requires: c.Requires}
	t.Name, t.Concurrency, t.Rate = name, c.Concurrency, c.Rate
	t.Settle, t.Deadline = time.Duration(c.Settle), time.Duration(c.Deadline)
	var err error
	if c.Log != nil {
		if t.log, err = n.newLog(ctx, *c.Log); err != nil {
			return nil, err
		}
		t.Kind, t.Address, t.Log = lodge.KindLog, strings.TrimRight(c.Log.URL, "/"), t.log
		return t, nil
	}
	if t.repository, err = oci.New(c.OCI.Repository, oci.Options{Lock: n.lock}); err != nil {
		return nil, err
	}
	t.Kind, t.Address, t.Repository = lodge.KindRepository, t.repository.Address(), t.repository
	return t, nil
}

const (
	lockTime = 30 * time.Second // a delivery's own lease is not longer
	lockPoll = 50 * time.Millisecond
)

// lock waits until this process is the one on the store that has the lease of that name.
func (n *Node) lock(ctx context.Context, name string) (release func(), err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		term, err := n.store.Acquire(ctx, name, fmt.Sprintf("%s, process %d", host, os.Getpid()), lockTime)
		if err != nil {
			return nil, err
		}
		if term > 0 {
			// What is lost by then is somebody else's already.
			return func() { _ = n.store.Release(context.Background(), name, term) }, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
