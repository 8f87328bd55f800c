package servers

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Proxy stands between lodge and a server, counts what passes, and breaks what it is
// told to. It is safe for use by several goroutines.
type Proxy struct {
	URL  string // without a slash at the end
	Host string // host:port, for registries

	next    http.Handler
	closing chan struct{}

	mu     sync.Mutex
	rules  []*Rule
	passed []*Exchange
}

// An Exchange is one request that a Proxy saw, and the status that it was answered with; 0
// is none yet, or a connection that was cut.
type Exchange struct {
	Method, Path, Query string
	Status              int
}

// A Match picks requests.
type Match func(method, path string) bool

// Requests matches a method ("" is any) and a part of the path ("" is any).
func Requests(method, part string) Match {
	return func(m, p string) bool { return (method == "" || m == method) && strings.Contains(p, part) }
}

// An Action does something to a request instead of passing it to next.
type Action func(w http.ResponseWriter, r *http.Request, next http.Handler)

// A Rule is an Action that waits for its requests.
type Rule struct {
	match Match
	act   Action
	left  int // how often still, under the proxy's lock; negative: always
	hits  atomic.Int64
}

// Hits tells how often the rule was applied.
func (r *Rule) Hits() int { return int(r.hits.Load()) }

// Forward passes requests to the server at target, with the Host header as it came, so
// that a registry's answers lead back to the proxy.
func Forward(target string) http.Handler {
	to, err := url.Parse(target)
	if err != nil {
		panic(err) // an address of this package's making
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1 << 10, DisableCompression: true}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		// A server that is gone looks like that through the proxy, too.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

// StartProxy serves next on a free loopback port until the end of the test.
func StartProxy(t TB, next http.Handler) *Proxy {
	t.Helper()
	l := listenFree(t)
	p := &Proxy{
		URL: "http://" + l.Addr().String(), Host: l.Addr().String(),
		next: next, closing: make(chan struct{}),
	}
	server := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // ends by Close
	t.Cleanup(func() {
		close(p.closing)
		_ = server.Close()
	})
	return p
}

// On applies act to the next n requests that match; with n < 0 to all of them. Rules are
// asked in the order in which they were set, and the first that matches is applied alone.
func (p *Proxy) On(match Match, n int, act Action) *Rule {
	r := &Rule{match: match, act: act, left: n}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// Clear removes all rules.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Exchanges returns the requests so far that match, oldest first.
func (p *Proxy) Exchanges(match Match) []Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Exchange
	for _, e := range p.passed {
		if match(e.Method, e.Path) {
			found = append(found, *e)
		}
	}
	return found
}

// Count is the number of Exchanges.
func (p *Proxy) Count(match Match) int { return len(p.Exchanges(match)) }

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &Exchange{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery}
	p.mu.Lock()
	p.passed = append(p.passed, e)
	p.mu.Unlock()
	rec := &statusWriter{ResponseWriter: w}
	defer func() {
		p.mu.Lock()
		e.Status = rec.status
		p.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // so that no waiting action outlives the proxy
		select {
		case <-p.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	if rule := p.rule(r); rule != nil {
		rule.act(rec, r.WithContext(ctx), p.next)
		return
	}
	p.next.ServeHTTP(rec, r.WithContext(ctx))
}

// rule takes the first rule that is for r.
func (p *Proxy) rule(r *http.Request) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rule := range p.rules {
		if rule.left == 0 || !rule.match(r.Method, r.URL.Path) {
			continue
		}
		if rule.left > 0 {
			rule.left--
		}
		rule.hits.Add(1)
		return rule
	}
	return nil
}

// Answer answers with a status and a text; the server never sees the request.
func Answer(status int, text string) Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, text, status)
	}
}

// Cut closes the connection; the server never sees the request.
func Cut() Action {
	return func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
}

// Delay passes the request on after d, unless the client has given up by then.
func Delay(d time.Duration) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if wait(r.Context(), d) {
			next.ServeHTTP(w, r)
		}
	}
}

// Applied lets the server apply the request and throws its answer away; then does act,
// which gets the answer as its next.
func Applied(act Action) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		// A client that gives up must not take the request back.
		next.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
		act(w, r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes()) // the client may have gone
		}))
	}
}

// wait waits for d and tells whether ctx lasted as long.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
