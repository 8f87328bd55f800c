package node

import (
	"context"
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
	if t.repository, err = oci.New(c.OCI.Repository, oci.Options{}); err != nil {
		return nil, err
	}
	t.Kind, t.Address, t.Repository = lodge.KindRepository, t.repository.Address(), t.repository
	return t, nil
}
