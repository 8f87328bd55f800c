// Package web is a node's HTTP interface: its events, as batches and as a stream, and
// whether it is alive (docs/events.md, "HTTP").
//
// Floor 5: it may import the root package and floors 1 to 4. There is no authentication yet,
// so it listens on loopback addresses alone, and answers only those who ask for one.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// Events is what is served of a node.
type Events interface {
	// Events hands the events behind a sequence to fn, in order, until that returns an error.
	Events(ctx context.Context, q node.EventQuery, after int64, fn func(lodge.Event) error) (next int64, err error)
	// Follow is Events that goes on with each new one.
	Follow(ctx context.Context, after int64, fn func(lodge.Event) error) error
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxStreams   = 64               // at a time
	heartbeat    = 15 * time.Second // of a stream in which nothing happens
	writeTime    = 10 * time.Second // a client that does not read for so long is dropped
	maxHeader    = 64 << 10         // bytes
	shutdownTime = 5 * time.Second
)

// Listen listens on HOST:PORT, which has to be a loopback address; without a host it is
// 127.0.0.1.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if err := CheckListen(address); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
}

// CheckListen says what is wrong with an address to listen on.
func CheckListen(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen %q: want HOST:PORT, such as 127.0.0.1:7300", address)
	}
	if host != "" && !loopback(host) {
		return fmt.Errorf("listen %q: there is no authentication yet, so only a loopback address such as 127.0.0.1:7300 is served", address)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Serve answers on l until ctx ends, and then lets what is under way end.
func Serve(ctx context.Context, l net.Listener, events Events) error {
	streams, stop := context.WithCancel(ctx)
	defer stop()
	s := &http.Server{
		Handler:           Handler(events),
		BaseContext:       func(net.Listener) context.Context { return streams }, // streams end with it
		ReadHeaderTimeout: writeTime,
		ReadTimeout:       writeTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := s.Shutdown(last); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Handler answers requests.
func Handler(events Events) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /v1/events", &eventHandler{events: events, room: make(chan struct{}, maxStreams)})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "not-found", "there is no "+r.Method+" "+r.URL.Path)
	})
	return local(mux)
}

// local refuses requests to a name that is not this machine's own: a web page whose
// name its owner lets lead here (DNS rebinding).
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !loopback(host) {
			problem(w, http.StatusMisdirectedRequest, "host", "ask for this machine by a loopback address or as localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // nobody is there to hear of an error
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"urn:lodge:problem:" + kind, http.StatusText(status), status, detail})
}

// number reads a sequence or count from min to max; absent where there is none.
func number(text string, absent, least, most int64) (int64, error) {
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%.40q: want a number from %d to %d", text, least, most)
	}
	return n, nil
}
