package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

// LogStatus is a log that is or was followed, with how it stands.
type LogStatus struct {
	lodge.Target
	Held      string        `json:"held,omitempty"`
	HeldWords string        `json:"heldWords,omitempty"`
	Shards    []ShardStatus `json:"shards"`
}

// ShardStatus is one of its shards. VerifiedThrough is the index up to which every entry from
// First on is proven to be in the tree, First-1 where that is none; Remaining is an estimate, in
// seconds.
type ShardStatus struct {
	lodge.Shard
	VerifiedThrough int64   `json:"verifiedThrough"`
	Lag             int64   `json:"lag"`
	Remaining       float64 `json:"remaining"`
}

// Logs returns every log that the store knows something of, with how it stands.
func (n *Node) Logs(ctx context.Context) ([]LogStatus, error) {
	targets, err := n.store.Targets(ctx)
	if err != nil {
		return nil, err
	}
	var logs []LogStatus
	for _, t := range targets {
		if t.Kind != lodge.KindLog {
			continue
		}
		shards, err := n.store.Shards(ctx, t.Address)
		if err != nil {
			return nil, err
		}
		status := LogStatus{Target: t.Target, Held: t.Held, HeldWords: t.HeldWords, Shards: []ShardStatus{}}
		for _, s := range shards {
			status.Shards = append(status.Shards, ShardStatus{s, s.VerifiedThrough(), s.Lag(), s.Remaining().Seconds()})
		}
		logs = append(logs, status)
	}
	return logs, nil
}

// Divergences returns the proofs against a log, named by its address.
func (n *Node) Divergences(ctx context.Context, address string) ([]lodge.Divergence, error) {
	return n.store.Divergences(ctx, address)
}

// Quarantine returns the entries of a shard that could not be read or told, behind an index.
func (n *Node) Quarantine(ctx context.Context, s lodge.Shard, after int64, limit int) ([]lodge.Quarantined, error) {
	return n.store.Quarantine(ctx, s.ID, after, limit)
}

// ResumeLog makes a log, named by name or address, take deliveries again, and tells whether it was
// held. Where it has diverged or rolled back, the tree that it serves next is taken for its own.
func (n *Node) ResumeLog(ctx context.Context, name string) (bool, error) {
	targets, err := n.store.Targets(ctx)
	if err != nil {
		return false, err
	}
	for _, t := range targets {
		if t.Kind == lodge.KindLog && (t.Name == name || t.Address == name) {
			return t.Held != "", n.store.ResumeLog(ctx, t.Target, time.Now())
		}
	}
	return false, fmt.Errorf("log %q: %w", name, lodge.ErrNotFound)
}

// FollowLogs follows the logs of these names, and delivers nothing, until ctx ends.
func (n *Node) FollowLogs(ctx context.Context, names []string) error {
	done := make(chan error)
	for _, name := range names {
		go func() { done <- n.follow(ctx, n.targets[name]) }()
	}
	var errs []error
	for range names {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// CheckLog looks at the log of that name once: its checkpoint, and all entries that are
// new. What is wrong with it is in the store then. The error wraps lodge.ErrStale where another
// process follows it right now.
func (n *Node) CheckLog(ctx context.Context, name string) error {
	f, err := n.follower(ctx, n.targets[name])
	if err != nil {
		return err
	}
	return f.Check(ctx)
}

// retryFollow is how long a log that could not be met is left alone.
const retryFollow = 10 * time.Second

// follow follows a log until ctx ends. Which version it speaks is asked until it answers.
func (n *Node) follow(ctx context.Context, t *target) error {
	for {
		f, err := n.follower(ctx, t)
		if err == nil {
			return f.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		slog.Warn("a log is not followed yet", "log", t.Name, "error", err)
		select {
		case <-time.After(min(retryFollow, max(time.Duration(n.config.Watch.Every), time.Second))):
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) follower(ctx context.Context, t *target) (*watch.Follower, error) {
	if _, err := t.log.open(ctx); err != nil {
		return nil, err
	}
	t.log.mu.Lock()
	version := t.log.version
	t.log.mu.Unlock()
	sources, err := n.sources(t.log.shards, version)
	if err != nil {
		return nil, err
	}
	list, err := n.config.list()
	if err != nil {
		return nil, err
	}
	w := n.config.Watch
	return watch.New(watch.Config{
		Target: t.Target.Target, Sources: sources, List: list, Leases: n.store,
		Under: func(name string, term int64) watch.Store { return n.store.Under(name, term) },
		Every: time.Duration(w.Every), Recheck: time.Duration(w.Recheck), Patience: time.Duration(w.Patience),
		FromNow: w.From == FromNow,
	})
}

// sources returns where the log is read. A trusted root names the shards that a v2 log had
// before and has now, unless the configuration does.
func (n *Node) sources(shards []shard, version rekor.Version) ([]watch.Source, error) {
	if version == rekor.Version2 && len(shards) == 1 && shards[0].root != nil {
		if named := rootShards(shards[0]); len(named) > 0 {
			shards = named
		}
	}
	var sources []watch.Source
	for _, s := range shards {
		o, err := n.options(s, version)
		if err != nil {
			return nil, err
		}
		source, err := newSource(o, version, s.Mirrors)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// rootShards returns the v2 logs that the root of a shard names, oldest first.
func rootShards(one shard) (shards []shard) {
	for _, l := range one.root.Logs() {
		if l.Version != int(rekor.Version2) {
			continue
		}
		s := shard{Log: Log{URL: l.URL}, named: []tlog.Key{l.Key}}
		if u, err := url.Parse(l.URL); err != nil || u.Host == one.url.Host {
			s.Log = one.Log // it may be read elsewhere
		}
		shards = append(shards, s)
	}
	slices.Reverse(shards) // the root has the newest first
	return shards
}

func newSource(o rekor.Options, version rekor.Version, mirrors []string) (s watch.Source, err error) {
	read := func(o rekor.Options) (watch.Log, error) { return rekor.NewV1Reader(o) }
	if version == rekor.Version2 {
		o.Keys = o.Keys[:1]
		read = func(o rekor.Options) (watch.Log, error) { return rekor.NewV2Reader(o) }
	}
	if s.Log, err = read(o); err != nil {
		return s, err
	}
	for _, m := range mirrors {
		o.URL, o.ReadURL = m, m
		view, err := read(o)
		if err != nil {
			return s, fmt.Errorf("mirror: %w", err)
		}
		s.Mirrors = append(s.Mirrors, view)
	}
	return s, nil
}

// list returns what is told of.
func (c *Config) list() (watch.List, error) {
	list := watch.List{Digests: c.Watch.Subjects, Ours: c.Watch.Ours}
	for _, id := range c.Watch.Identities {
		list.Identities = append(list.Identities, watch.Identity(id))
	}
	for _, path := range c.Watch.Keys {
		raw, err := c.read(path)
		if err != nil {
			return list, fmt.Errorf("watch.keys: %w", err)
		}
		key, err := dsse.ParsePublicKey(raw)
		if err != nil {
			return list, fmt.Errorf("watch.keys: %s: %w", path, err)
		}
		list.Keys = append(list.Keys, key.SPKI)
	}
	return list, nil
}

// Followed returns the names of the logs that the configuration follows, all its logs where
// it names none.
func (c *Config) Followed() []string {
	if len(c.Follow) > 0 {
		return c.Follow
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if c.Targets[name].Log != nil {
			names = append(names, name)
		}
	}
	return names
}
