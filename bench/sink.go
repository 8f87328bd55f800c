package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
	"github.com/lodgehq/lodge/store"
)

// outbox is a store as package node hands it to sinks.
type outbox struct{ *store.Store }

func (o outbox) Under(name string, term int64) event.Ledger { return o.Store.Under(name, term) }

// sinkRate has events made while a sink writes them to a file, each with its fsync and its
// cursor, and returns events per second until the file has the last one.
func sinkRate(s *store.Store, dir string, work func() error) (float64, error) {
	path := filepath.Join(dir, "events.jsonl")
	defer os.Remove(path)
	ctx, stop := context.WithCancel(context.Background())
	relay := event.Relay{Source: event.Source{Name: "file", Store: outbox{s}}, Sink: event.NewFile(path, s)}
	var sink sync.WaitGroup
	sink.Go(func() { _ = relay.Run(ctx) }) // it ends with ctx alone
	begin := time.Now()
	err := work()
	var last int64
	for err == nil {
		if last, err = s.LastSequence(ctx); err != nil {
			break
		}
		cursor, failed := s.Cursor(ctx, "file")
		if err = failed; cursor.Sequence >= last {
			break
		}
		<-time.After(time.Millisecond)
	}
	spent := time.Since(begin)
	stop()
	sink.Wait()
	info, missing := os.Stat(path)
	if err = errors.Join(err, missing); err == nil && info.Size() < last*100 {
		err = errors.New("the file has not all events")
	}
	return float64(last) / spent.Seconds(), err
}

const (
	answered = 64 // envelopes that policies are asked about in one transaction, as trigger has it
	asked    = 4  // policies, each time
)

// ask has policies asked to look again, as fast as one owner does: events whose cost is that
// of the outbox.
func ask(s *store.Store, span time.Duration) error {
	ctx := context.Background()
	sub := submission(payload)
	if _, err := s.Accept(ctx, sub, []lodge.Order{{Target: target}}, time.Now()); err != nil {
		return err
	}
	p := lodge.Progress{Name: "policies"}
	for begin := time.Now(); time.Since(begin) < span; p.From = p.To {
		reactions := make([]lodge.Reaction, answered)
		for i := range reactions {
			reactions[i] = lodge.Reaction{Key: sub.Key, Signer: sub.Signer}
			for range asked {
				reactions[i].Requests = append(reactions[i].Requests, lodge.RequestedEvent(lodge.Request{Key: sub.Key, Policy: "openssl",
					Revision: lodge.Digest(bytes(32)), Reason: "openssl is everywhere", Scopes: sub.Hints.Scopes, Count: len(sub.Hints.Scopes)}, time.Now()))
			}
		}
		p.To += answered
		if err := s.React(ctx, p, reactions); err != nil {
			return err
		}
	}
	return nil
}
