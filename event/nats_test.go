package event_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
)

// onNATS runs a test on a server in this process, and on the one at LODGE_TEST_NATS or on
// this machine, without which that part is skipped, or fails where CI is set.
func onNATS(t *testing.T, test func(t *testing.T, address string, js jetstream.JetStream)) {
	t.Run("embedded", func(t *testing.T) {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("the NATS server does not get ready")
		}
		js, err := natsAt(t, s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		test(t, s.ClientURL(), js)
	})
	t.Run("server", func(t *testing.T) {
		address := cmp.Or(os.Getenv("LODGE_TEST_NATS"), "nats://127.0.0.1:4222")
		js, err := natsAt(t, address)
		if err != nil && os.Getenv("CI") != "" {
			t.Fatalf("no NATS: %v", err)
		}
		if err != nil {
			t.Skipf("no NATS (LODGE_TEST_NATS names one): %v", err)
		}
		test(t, address, js)
	})
}

func natsAt(t *testing.T, address string) (jetstream.JetStream, error) {
	conn, err := nats.Connect(address, nats.Timeout(2*time.Second))
	if err != nil {
		return nil, err
	}
	t.Cleanup(conn.Close)
	return jetstream.New(conn)
}

// streamName names a stream that is gone when the test ends. A server has one stream for
// lodge's subjects, so tests with streams must not run beside each other.
func streamName(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	name := fmt.Sprintf("LODGE_TEST_%d", time.Now().UnixNano())
	t.Cleanup(func() {
		if err := js.DeleteStream(context.Background(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Error(err)
		}
	})
	return name
}

// inStream reads all that is in a stream.
func inStream(t *testing.T, js jetstream.JetStream, name string, c *checker) (messages []jetstream.RawStreamMsg) {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		c.take(m.Data)
		messages = append(messages, *m)
	}
	return messages
}

// TestNATS: a stream that is made when it is first needed gets 10,000 events that happened
// before, in order per subject, and knows a repeat by its id.
func TestNATS(t *testing.T) { onNATS(t, testNATS) }

func testNATS(t *testing.T, address string, js jetstream.JetStream) {
	o, stream := newOutbox(t), streamName(t, js)
	o.many(t, 10_000)
	sink := &event.NATS{Address: address, Stream: stream}
	stop := start(t, (&event.Relay{Source: event.Source{Name: "nats", Store: o}, Sink: sink}).Run)
	o.through(t, "nats")
	stop()
	if err := o.ResetCursor(t.Context(), "nats", 9_000); err != nil { // as if the cursor had not moved before a kill
		t.Fatal(err)
	}
	start(t, (&event.Relay{Source: event.Source{Name: "nats", Store: o}, Sink: sink}).Run)
	o.through(t, "nats")
	var c checker
	messages := inStream(t, js, stream, &c)
	last, err := o.LastSequence(t.Context())
	if err != nil || len(c.seen) != int(last) || c.repeats > 0 || c.err != nil {
		t.Errorf("%d events of %d, %d repeats; %v, %v", len(c.seen), last, c.repeats, c.err, err)
	}
	for _, m := range messages {
		e, _, err := parse(m.Data)
		name := strings.TrimSuffix(strings.TrimPrefix(e.Type, "dev.lodge."), ".v1")
		if err != nil || m.Subject != "lodge.events."+name || m.Header.Get("Nats-Msg-Id") != e.ID || m.Header.Get("Content-Type") != "application/cloudevents+json" {
			t.Fatalf("%s %v: %v, %v", m.Subject, m.Header, e, err)
		}
	}
}

// TestNATSTooLarge: an event that the server never takes is given up, the others arrive.
func TestNATSTooLarge(t *testing.T) { onNATS(t, testNATSTooLarge) }

func testNATSTooLarge(t *testing.T, address string, js jetstream.JetStream) {
	o, stream := newOutbox(t), streamName(t, js)
	o.happen(t, 3, "a")
	if err := o.Hold(t.Context(), target, strings.Repeat("x", 2<<20), "", time.Now()); err != nil {
		t.Fatal(err)
	}
	o.happen(t, 1, "b")
	start(t, (&event.Relay{Source: event.Source{Name: "hook", Store: o}, Sink: &event.NATS{Address: address, Stream: stream}}).Run)
	o.through(t, "hook")
	var c checker
	inStream(t, js, stream, &c)
	dead := o.undelivered(t, true)
	if len(c.seen) != 4 || len(dead) != 1 || dead[0].Sequence != 4 || !strings.Contains(dead[0].Error, "max_payload") {
		t.Errorf("%d events, given up %+v", len(c.seen), dead)
	}
}

// delayed is an address from which everything goes on to a server late, both ways.
func delayed(t *testing.T, address string, by time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	forward := func(to, from net.Conn) {
		defer func() { _ = to.Close() }()
		for buffer := make([]byte, 64<<10); ; {
			n, err := from.Read(buffer)
			<-time.After(by)
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(address, "nats://"))
			if err != nil {
				_ = near.Close()
				return
			}
			go forward(far, near)
			go forward(near, far)
		}
	}()
	return "nats://" + l.Addr().String()
}

// TestNATSFarAway: one after the other the events of a subject take longer than the answer
// to one may.
func TestNATSFarAway(t *testing.T) {
	onNATS(t, func(t *testing.T, address string, js jetstream.JetStream) {
		const n, timeout = 40, 500 * time.Millisecond
		var events []lodge.Event
		for i := range n {
			events = append(events, lodge.Event{ID: lodge.DigestOf(fmt.Append(nil, t.Name(), i)), Type: lodge.TargetHeld,
				Source: "https://log.example", Subject: "https://log.example", Sequence: int64(i + 1), Data: []byte("{}")})
		}
		sink := (&event.NATS{Address: delayed(t, address, timeout/50), Stream: streamName(t, js)}).WithTimeout(timeout)
		if err := errors.Join(sink.Open(t.Context(), 0), sink.Deliver(t.Context(), events), sink.Close()); err != nil {
			t.Fatal(err)
		}
		var c checker
		if got := len(inStream(t, js, sink.Stream, &c)); got != n || c.err != nil {
			t.Errorf("%d events, %v", got, c.err)
		}
	})
}
