package logtest

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"time"
)

// URL is the address under which Client serves every log.
const URL = "http://log.test"

// maxRequest is rekor-tiles' default.
const maxRequest = 4 << 20

// Fault is how requests fail. With Apply a submission takes effect all the same.
type Fault struct {
	Path  string // part of "METHOD /path" of the requests that it strikes; default submissions
	Skip  int    // so many of them pass first
	Count int    // so many are struck; 0 means one, a negative number all

	Apply bool          // a submission is applied before it fails
	Late  time.Duration // with Apply: the entry is in the tree that much later

	Stall  time.Duration       // the answer takes so long, or until the client gives up
	Refuse bool                // the connection is refused (through RoundTrip; else it is closed)
	Lose   bool                // the connection breaks instead of an answer
	Status int                 // the answer; 0 where the log answers as always
	Header http.Header         // added to the answer
	Body   string              // of an answer with Status
	Tamper func([]byte) []byte // changes the body of the log's own answer
}

// Inject adds a fault. Of several that match a request, the oldest strikes.
func (l *Log) Inject(f Fault) {
	if f.Path == "" {
		f.Path = "POST /api/v2/log/entries"
		if l.version == 1 {
			f.Path = "POST /api/v1/log/entries"
		}
	}
	if f.Count == 0 {
		f.Count = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, &f)
}

// Heal removes all faults.
func (l *Log) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}

// Requests counts the requests so far whose "METHOD /path" contains part.
func (l *Log) Requests(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, r := range l.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// Client returns a client that reaches the log at URL, and no other host, without a socket.
func (l *Log) Client() *http.Client { return &http.Client{Transport: l} }

// RoundTrip implements http.RoundTripper.
func (l *Log) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.URL.Host != strings.TrimPrefix(URL, "http://") {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}}
	}
	w := httptest.NewRecorder()
	if err := l.serve(w, r); err != nil {
		return nil, err
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

// ServeHTTP implements http.Handler, for a log behind a socket.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := l.serve(w, r); err != nil {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
}

// serve answers, or returns how the connection broke.
func (l *Log) serve(w http.ResponseWriter, r *http.Request) error {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
		_ = r.Body.Close()
		if err != nil {
			return err
		}
	}
	f := l.strike(r.Method + " " + r.URL.Path)
	if f == nil {
		l.handle(w, r, body)
		return nil
	}
	if f.Refuse {
		return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if f.Apply {
		l.apply(body, f.Late)
	}
	if err := stall(r, f.Stall); err != nil {
		return err
	}
	switch {
	case f.Lose:
		return io.ErrUnexpectedEOF
	case f.Status != 0:
		maps.Copy(w.Header(), f.Header)
		w.WriteHeader(f.Status)
		_, err := io.WriteString(w, f.Body)
		return err
	}
	own := httptest.NewRecorder()
	l.handle(own, r, body)
	answer := own.Body.Bytes()
	if f.Tamper != nil {
		answer = f.Tamper(bytes.Clone(answer))
	}
	maps.Copy(w.Header(), own.Header())
	maps.Copy(w.Header(), f.Header)
	w.WriteHeader(own.Code)
	_, err := w.Write(answer)
	return err
}

// strike records a request and returns the fault that strikes it.
func (l *Log) strike(request string) *Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, request)
	l.faults = slices.DeleteFunc(l.faults, func(f *Fault) bool { return f.Count == 0 })
	for _, f := range l.faults {
		if !strings.Contains(request, f.Path) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		f.Count--
		struck := *f
		return &struck
	}
	return nil
}

// stall waits for d, or until the client gives up.
func stall(r *http.Request, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// apply takes a submission and throws its answer away.
func (l *Log) apply(request []byte, late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	body, err := l.admit(request)
	if err != nil {
		return
	}
	if _, known := l.known(body); !known {
		l.pending = append(l.pending, pending{body: body, due: time.Now().Add(late)})
	}
	l.integrate()
}

// admit returns the canonical body of the entry that a request asks for.
func (l *Log) admit(request []byte) ([]byte, error) {
	if len(request) > maxRequest {
		return nil, errors.New("request body too large")
	}
	if l.version == 1 {
		return admitV1(request)
	}
	return admitV2(request)
}

func (l *Log) handle(w http.ResponseWriter, r *http.Request, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.integrate()
	if l.version == 1 {
		l.handleV1(w, r, body)
		return
	}
	l.handleV2(w, r, body)
}
