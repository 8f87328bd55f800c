package servers_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// counter is a server that answers 201 with "applied" and counts.
func counter(applied *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		applied.Add(1)
		w.Header().Set("X-Log-Index", "7")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "applied")
	})
}

func TestProxyBreaks(t *testing.T) {
	const lost = 0
	for _, c := range []struct {
		name    string
		act     servers.Action
		status  int
		body    string
		applied int64
	}{
		{"answer", servers.Answer(503, "later"), 503, "later\n", 0},
		{"applied, answer", servers.Applied(servers.Answer(503, "later")), 503, "later\n", 1},
		{"cut", servers.Cut(), lost, "", 0},
		{"applied, cut", servers.Applied(servers.Cut()), lost, "", 1},
		{"delay", servers.Delay(time.Millisecond), 201, "applied", 1},
		{"applied, delay", servers.Applied(servers.Delay(time.Millisecond)), 201, "applied", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var applied atomic.Int64
			server := httptest.NewServer(counter(&applied))
			defer server.Close()
			p := servers.StartProxy(t, servers.Forward(server.URL))
			rule := p.On(servers.Requests("POST", "/entries"), 1, c.act)

			if status, body := post(t, p.URL+"/other", nil); status != 201 || applied.Swap(0) != 1 {
				t.Fatalf("a request that no rule is for: %d %s", status, body)
			}
			status, body := post(t, p.URL+"/log/entries", nil)
			if status != c.status || status != lost && body != c.body || applied.Swap(0) != c.applied {
				t.Errorf("got %d %q", status, body)
			}
			if status, body := post(t, p.URL+"/log/entries", nil); status != 201 || applied.Load() != 1 {
				t.Errorf("the request after the last fault: %d %s", status, body)
			}
			if rule.Hits() != 1 || p.Count(servers.Requests("POST", "/log/entries")) != 2 || p.Count(servers.Requests("", "")) != 3 {
				t.Errorf("%d hits, exchanges %+v", rule.Hits(), p.Exchanges(servers.Requests("", "")))
			}
		})
	}
}

func TestProxyApplyOutlivesClient(t *testing.T) {
	entered, applied := make(chan bool), make(chan error, 1)
	p := servers.StartProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- true
		<-entered
		applied <- r.Context().Err()
	}))
	p.On(servers.Requests("", ""), -1, servers.Applied(servers.Answer(504, "late")))
	ctx, giveUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp := make(chan error, 1)
	go func() {
		r, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = r.Body.Close()
		}
		resp <- err
	}()
	<-entered
	giveUp()
	if err := <-resp; err == nil {
		t.Error("a client that gave up has an answer")
	}
	entered <- true
	if err := <-applied; err != nil {
		t.Errorf("the server lost the request with its client: %v", err)
	}
}

func TestForwardToNobodyCuts(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	p := servers.StartProxy(t, servers.Forward(gone.URL))
	if status, body := post(t, p.URL, nil); status != 0 {
		t.Errorf("a server that is gone answers %d %s", status, body)
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := errors.New("not yet")
		start := time.Now()
		calls := 0
		err := servers.Await(t.Context(), time.Second, func(context.Context) error {
			if calls++; calls < 5 {
				return late
			}
			return nil
		})
		if err != nil || calls != 5 || time.Since(start) > time.Second {
			t.Errorf("%v after %d calls and %s", err, calls, time.Since(start))
		}
		if err := servers.Await(t.Context(), time.Second, func(context.Context) error { return late }); !errors.Is(err, late) {
			t.Errorf("after the limit: %v", err)
		}
	})
}
