package node

import (
	"context"
	"net/url"
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
	t.Settle, t.Deadline, t.Relist = time.Duration(c.Settle), time.Duration(c.Deadline), time.Duration(c.Relist)
	var err error
	if c.Log != nil {
		if t.log, err = n.newLog(ctx, *c.Log); err != nil {
			return nil, err
		}
		t.Kind, t.Address, t.Log = lodge.KindLog, logAddress(c.Log.URL), t.log
		return t, nil
	}
	if t.repository, err = oci.New(c.OCI.Repository, oci.Options{Leases: n.store}); err != nil {
		return nil, err
	}
	t.Kind, t.Address, t.Repository = lodge.KindRepository, t.repository.Address(), t.repository
	return t, nil
}

// logAddress spells the URL of a log in one way, so that a log is one target however it is
// written: scheme and host in lower case, no default port, no slash at the end.
func logAddress(raw string) string {
	u, err := url.Parse(strings.TrimRight(raw, "/"))
	if err != nil {
		return raw // refused when it is opened
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.String()
}
