package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/web"
)

var target = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}

// history is a node with events.
type history struct {
	past int // how many have happened
	size int // bytes of data of each
}

func (h history) event(seq int64) lodge.Event {
	e := lodge.HoldEvent(lodge.TargetHeld, target, strings.Repeat("x", h.size), seq, time.Unix(0, 0))
	e.Sequence = seq
	return e
}

func (h history) Events(_ context.Context, _ node.EventQuery, after int64, fn func(lodge.Event) error) (int64, error) {
	for seq := after + 1; seq <= int64(h.past); seq++ {
		if err := fn(h.event(seq)); err != nil {
			return after, err
		}
	}
	return int64(h.past), nil
}

func (h history) Follow(ctx context.Context, after int64, fn func(lodge.Event) error) error {
	if _, err := h.Events(ctx, node.EventQuery{}, after, fn); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// serve starts a server and returns its address.
func serve(t *testing.T, events web.Events) (address string) {
	t.Helper()
	l, err := web.Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- web.Serve(ctx, l, events) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// answer is a response whose body is closed when the test ends.
type answer struct {
	StatusCode int
	Header     http.Header
	Body       io.Reader
}

func get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return answer{res.StatusCode, res.Header, res.Body}
}

func TestBatch(t *testing.T) {
	url := serve(t, history{past: 250})
	total := 0
	for after := ""; ; {
		res := get(t, url+"/v1/events?limit=100&after="+after)
		var batch []struct{ Specversion, Sequence string }
		if err := json.NewDecoder(res.Body).Decode(&batch); err != nil || res.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
			t.Fatal(err, res.Header)
		}
		if len(batch) == 0 {
			break
		}
		total += len(batch)
		if after = batch[len(batch)-1].Sequence; after != fmt.Sprint(total) || batch[0].Specversion != "1.0" {
			t.Fatalf("after %d events: %+v", total, batch[len(batch)-1])
		}
	}
	if total != 250 {
		t.Errorf("%d events", total)
	}
}

func TestStream(t *testing.T) {
	url := serve(t, history{past: 5})
	for header, want := range map[string]string{"": "1 2 3 4 5", "3": "4 5"} {
		res := get(t, url+"/v1/events", "Accept", "text/event-stream", "Last-Event-ID", header)
		if res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(res.Header)
		}
		var ids []string
		for lines := bufio.NewScanner(res.Body); len(ids) < len(strings.Fields(want)) && lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && !json.Valid([]byte(data)) {
				t.Errorf("data %q", data)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("Last-Event-ID %q: %q, want %q", header, got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	url := serve(t, history{})
	for _, c := range []struct {
		path   string
		status int
		header []string
	}{
		{"/v1/events?after=x", 400, nil},
		{"/v1/events?after=-1", 400, nil},
		{"/v1/events?limit=0", 400, nil},
		{"/v1/events?limit=1001", 400, nil},
		{"/v1/events", 400, []string{"Accept", "text/event-stream", "Last-Event-ID", "x"}},
		{"/v1/nothing", 404, nil},
		{"/v1/events", 421, []string{"Host", "evil.example"}},
	} {
		res := get(t, url+c.path, c.header...)
		var p struct {
			Type   string
			Status int
			Detail string
		}
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil || res.StatusCode != c.status || p.Status != c.status || p.Detail == "" ||
			res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %+v, %v", c.path, res.StatusCode, p, err)
		}
	}
	if res := get(t, url+"/healthz"); res.StatusCode != http.StatusOK {
		t.Error(res.StatusCode)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	url := serve(t, history{})
	for i := range 65 {
		res := get(t, url+"/v1/events", "Accept", "text/event-stream")
		if want := map[bool]int{true: 200, false: 503}[i < 64]; res.StatusCode != want {
			t.Fatalf("stream %d: %d", i, res.StatusCode)
		}
	}
}

// pipe is a listener of connections within the test, whose time can pass by itself.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipe) Close() error   { close(p.done); return nil }
func (p pipe) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// TestSlowClient: a client that does not read is dropped, one that does gets heartbeats.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pipe{make(chan net.Conn), make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- web.Serve(ctx, l, history{past: 3, size: 100}) }()
		connect := func() (net.Conn, *bufio.Reader) {
			client, server := net.Pipe()
			l.conns <- server
			if _, err := io.WriteString(client, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			return client, bufio.NewReader(client)
		}
		slow, unread := connect()
		reader, read := connect()
		beats := 0
		begin := time.Now()
		for beats < 3 {
			line, err := read.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, ": alive") {
				beats++
			}
		}
		if d := time.Since(begin); d < 30*time.Second || d > time.Minute {
			t.Errorf("three heartbeats took %s", d)
		}
		if _, err := unread.ReadString(0); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the slow client is still served: %v", err)
		}
		_ = slow.Close()
		_ = reader.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestListenRefuses(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "7300", ""} {
		if l, err := web.Listen(t.Context(), address); err == nil {
			t.Errorf("%q: listens on %s", address, l.Addr())
		}
	}
}
