package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
	"github.com/lodgehq/lodge/store"
)

// sinkPrefix is in front of a sink's name in that of its cursor and lease.
const sinkPrefix = "sink "

// checkEvents says what is wrong with the sinks without reading a file.
func (c *Config) checkEvents() error {
	known := map[string]bool{}
	for i, w := range c.Events.Webhooks {
		name, err := webhookName(w.URL)
		switch {
		case err != nil:
			return fmt.Errorf("events.webhooks[%d]: %w", i, err)
		case w.SecretFile == "":
			return fmt.Errorf("events.webhooks[%d]: secretFile is missing", i)
		case known[name]:
			return fmt.Errorf("events.webhooks[%d]: there is another one to %s", i, name)
		}
		known[name] = true
		if _, err := w.wants(); err != nil {
			return fmt.Errorf("events.webhooks[%d]: %w", i, err)
		}
	}
	if n := c.Events.NATS; n != nil {
		if err := event.CheckNATS(n.URL, n.Stream); err != nil {
			return fmt.Errorf("events.nats: %w", err)
		}
	}
	return nil
}

// webhookName is the URL without what may be secret in it.
func webhookName(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", errors.New("url: want https://HOST/… or http://…")
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String(), nil
}

// wants returns which events a webhook gets; nil is all.
func (w Webhook) wants() (func(lodge.Event) bool, error) {
	var types []lodge.EventType
	for _, name := range w.Types {
		t, err := lodge.ParseEventType(name)
		if err != nil {
			return nil, fmt.Errorf("types: %w", err)
		}
		types = append(types, t)
	}
	scopes, err := Scopes(w.Scopes)
	if err != nil {
		return nil, fmt.Errorf("scopes: %w", err)
	}
	if len(w.Types) == 0 && len(w.Scopes) == 0 {
		return nil, nil
	}
	return func(e lodge.Event) bool {
		return (len(types) == 0 || slices.Contains(types, e.Type)) && (len(scopes) == 0 || inScope(e, scopes))
	}, nil
}

// inScope tells whether an event about an envelope has one of the scopes. One that says
// nothing of its scopes may have, and all:* is each of them, on either side (promise 8).
func inScope(e lodge.Event, scopes []string) bool {
	if _, err := lodge.ParseDigest(e.Subject); err != nil {
		return false
	}
	if slices.Contains(scopes, lodge.ScopeAll) {
		return true
	}
	var data struct {
		Hints *struct {
			Scope []string `json:"scope"`
		} `json:"hints"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil || data.Hints == nil {
		return true
	}
	return slices.ContainsFunc(data.Hints.Scope, func(s string) bool { return s == lodge.ScopeAll || slices.Contains(scopes, s) })
}

// outbox is the store as sinks see it.
type outbox struct{ *store.Store }

func (o outbox) Under(name string, term int64) event.Ledger { return o.Store.Under(name, term) }

// openSinks makes the sinks of the configuration. It starts nothing.
func (n *Node) openSinks() error {
	c := n.config.Events
	switch {
	case c.File == "-":
		n.addRelay("file", event.Stream{W: os.Stdout})
	case c.File != "":
		n.addRelay("file", event.NewFile(n.config.path(c.File), n.store))
	}
	if c.NATS != nil {
		sink := &event.NATS{Address: c.NATS.URL, Stream: c.NATS.Stream}
		if c.NATS.Credentials != "" {
			sink.Credentials = n.config.path(c.NATS.Credentials)
		}
		n.addRelay("nats", sink)
	}
	for i, w := range c.Webhooks {
		if err := n.addWebhook(w); err != nil {
			return fmt.Errorf("events.webhooks[%d]: %w", i, err)
		}
	}
	return nil
}

func (n *Node) addWebhook(w Webhook) error {
	name, err := webhookName(w.URL)
	if err != nil {
		return err
	}
	secrets, err := n.config.read(w.SecretFile)
	if err != nil {
		return fmt.Errorf("secretFile: %w", err)
	}
	poster, err := event.NewWebhook(w.URL, secrets)
	if err != nil {
		return err
	}
	wants, err := w.wants()
	n.addSink(name, func(ctx context.Context, s event.Source) error {
		s.Wants = wants
		return (&event.Courier{Source: s, Poster: poster}).Run(ctx)
	})
	return err
}

func (n *Node) addRelay(name string, sink event.Sink) {
	n.addSink(name, func(ctx context.Context, s event.Source) error {
		return (&event.Relay{Source: s, Sink: sink}).Run(ctx)
	})
}

func (n *Node) addSink(name string, run func(context.Context, event.Source) error) {
	n.sinks = append(n.sinks, worker{"sink " + name, func(ctx context.Context) error {
		news, remove := n.engine.News()
		defer remove()
		return run(ctx, event.Source{Name: sinkPrefix + name, Store: outbox{n.store}, News: news})
	}})
}

// SinkStatus is how a sink stands that runs, or ran, on the store.
type SinkStatus struct {
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"` // of the last event that it is through with
	Behind   int64  `json:"behind"`   // events that happened since
	Waiting  int    `json:"waiting"`  // events before that which it has not taken and gets again
	GivenUp  int    `json:"givenUp"`  // events that it has not taken and does not get again
	Disabled string `json:"disabled,omitempty"`
}

// Sinks returns every sink that the store knows.
func (n *Node) Sinks(ctx context.Context) ([]SinkStatus, error) {
	cursors, err := n.store.Cursors(ctx)
	if err != nil {
		return nil, err
	}
	last, err := n.store.LastSequence(ctx)
	var sinks []SinkStatus
	for _, c := range cursors {
		if name, ok := strings.CutPrefix(c.Name, sinkPrefix); ok {
			sinks = append(sinks, SinkStatus{Name: name, Sequence: c.Sequence, Behind: max(0, last-c.Sequence),
				Waiting: c.Waiting, GivenUp: c.GivenUp, Disabled: c.Disabled})
		}
	}
	return sinks, err
}

// Undelivered returns the events that a sink has not taken: those that it gets again, or
// those that were given up. They are in order, behind the sequence after, limit at most.
func (n *Node) Undelivered(ctx context.Context, sink string, givenUp bool, after int64, limit int) ([]lodge.Undelivered, error) {
	if err := n.knows(ctx, sink); err != nil {
		return nil, err
	}
	return n.store.Undelivered(ctx, sinkPrefix+sink, givenUp, after, limit)
}

// ReplaySink lets a sink go on behind the event with that sequence: what it had of those
// after it comes again, or they are left out.
func (n *Node) ReplaySink(ctx context.Context, sink string, after int64) error {
	if err := n.knows(ctx, sink); err != nil {
		return err
	}
	return n.store.ResetCursor(ctx, sinkPrefix+sink, after)
}

// RetrySink has a sink get again what was given up, and says how many events that are.
func (n *Node) RetrySink(ctx context.Context, sink string) (int64, error) {
	if err := n.knows(ctx, sink); err != nil {
		return 0, err
	}
	return n.store.Redeliver(ctx, sinkPrefix+sink, time.Now())
}

// EnableSink lets a disabled sink get events again, and tells whether it was disabled.
func (n *Node) EnableSink(ctx context.Context, sink string) (bool, error) {
	if err := n.knows(ctx, sink); err != nil {
		return false, err
	}
	return n.store.EnableCursor(ctx, sinkPrefix+sink, time.Now())
}

func (n *Node) knows(ctx context.Context, sink string) error {
	sinks, err := n.Sinks(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(sinks, func(s SinkStatus) bool { return s.Name == sink }) {
		return nil
	}
	return fmt.Errorf("sink %q: %w", sink, lodge.ErrNotFound)
}
