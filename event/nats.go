package event

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lodgehq/lodge"
)

// NATS is a sink that publishes to a JetStream stream, each event under the subject of its
// type (lodge.events.EntryLogged), with its id as Nats-Msg-Id: within the stream's window a
// repeat is dropped by the server, later it is told by its id.
type NATS struct {
	Address     string // nats://…, several with commas between them
	Stream      string // made where it is missing, for all subjects lodge.events.>
	Credentials string // path of a .creds file; may be ""

	timeout time.Duration // of one acknowledgement; default natsTime
	conn    *nats.Conn    // nil while it is closed
	js      jetstream.JetStream
}

const (
	natsSubjects = "lodge.events."
	natsTime     = 10 * time.Second
	natsWindow   = 10 * time.Minute // in which a stream made here knows a repeat
	natsHeaders  = 512              // bytes that the headers take at most
)

// Open implements Sink.
func (n *NATS) Open(ctx context.Context, _ int64) (err error) {
	options := []nats.Option{nats.Name("lodge"), nats.Timeout(natsTime), nats.NoReconnect()} // the relay opens it again
	if n.Credentials != "" {
		options = append(options, nats.UserCredentials(n.Credentials))
	}
	if n.conn, err = nats.Connect(n.Address, options...); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	if n.js, err = jetstream.New(n.conn); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTime)
	defer cancel()
	if _, err = n.js.Stream(ctx, n.Stream); errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = n.js.CreateStream(ctx, jetstream.StreamConfig{Name: n.Stream, Subjects: []string{natsSubjects + ">"}, Duplicates: natsWindow})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			err = nil // somebody else was faster
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", n.Stream, err)
	}
	return nil
}

// Close implements Sink.
func (n *NATS) Close() error {
	if n.conn != nil {
		n.conn.Close()
	}
	n.conn = nil
	return nil
}

// Deliver implements Sink. No event is published before those of its subject are in the
// stream; others go along with it. A server that is far away may take long for all, but not
// for one.
func (n *NATS) Deliver(ctx context.Context, events []lodge.Event) error {
	messages := make([]*nats.Msg, len(events))
	for i, e := range events {
		body, err := e.MarshalJSON()
		if err != nil {
			return lodge.Errorf(lodge.ClassPermanent, "event", "%w", err)
		}
		if limit := n.conn.MaxPayload(); int64(len(body)+natsHeaders) > limit {
			return lodge.Errorf(lodge.ClassPermanent, "too-large", "an event of %d bytes: the server takes %d (max_payload): %w", len(body), limit, lodge.ErrLimit)
		}
		messages[i] = &nats.Msg{Subject: natsSubjects + e.Type.Name(), Data: body,
			Header: nats.Header{"Content-Type": {"application/cloudevents+json"}, jetstream.MsgIDHeader: {e.ID.Hex()}}}
	}
	var wave []jetstream.PubAckFuture
	inWave := map[string]bool{}
	for i, m := range messages {
		if inWave[events[i].Subject] {
			if err := n.acked(ctx, wave); err != nil {
				return err
			}
			wave = nil
			clear(inWave)
		}
		ack, err := n.js.PublishMsgAsync(m)
		if err != nil {
			return err
		}
		wave = append(wave, ack)
		inWave[events[i].Subject] = true
	}
	return n.acked(ctx, wave)
}

// acked waits until the stream has all of them.
func (n *NATS) acked(ctx context.Context, wave []jetstream.PubAckFuture) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(n.timeout, natsTime))
	defer cancel()
	for _, ack := range wave {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("stream %s: %w", n.Stream, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// CheckNATS says what is wrong with an address and the name of a stream.
func CheckNATS(address, stream string) error {
	if address == "" || stream == "" || strings.ContainsAny(stream, " \t.*>/\\") {
		return errors.New("want a url and the name of a stream, without white space and any of . * > / \\")
	}
	return nil
}
