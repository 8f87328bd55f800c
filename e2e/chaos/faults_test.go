package chaos_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// TestFaultsOnRealServers breaks what is around lodge while it delivers. When the fault is
// gone everything is delivered, once.
func TestFaultsOnRealServers(t *testing.T) {
	t.Run("PostgreSQL", brokenPostgres)
	t.Run("disk", brokenDisk)
	if testing.Short() {
		return // the others wait for time limits
	}
	t.Run("answers of the log", answersOfLog)
	t.Run("answers of the registry", answersOfRegistry)
	t.Run("time limits of the log", timeLimits)
	t.Run("servers", brokenServers)
}

// A fault is what comes instead of an answer.
type fault struct {
	name string
	act  servers.Action
}

// faults are those that our proxy makes, each before the server has seen the request and
// after it has applied it.
func faults() []fault {
	later := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	}
	kinds := []fault{
		{"cut", servers.Cut()},
		{"delayed", servers.Delay(3 * time.Second)},
		{"truncated", truncated},
		{"429", later},
		{"499", servers.Answer(499, "client closed request")},
	}
	for _, status := range []int{500, 502, 503, 504} {
		kinds = append(kinds, fault{http.StatusText(status), servers.Answer(status, "oops")})
	}
	var all []fault
	for _, kind := range kinds {
		all = append(all, fault{kind.name + " before", kind.act}, fault{kind.name + " after", servers.Applied(kind.act)})
	}
	return all
}

// truncated answers with a success that ends in the middle.
func truncated(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(`{"logIndex":"`)) // the client may have gone
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// submissions are the requests that add to a log.
var submissions = servers.Requests("POST", "/log/entries")

// answersOfLog breaks some submissions in the middle of a batch, and some reads.
func answersOfLog(t *testing.T) {
	const broken = 8 // with each one that fails alone lodge waits twice as long for the next
	log := servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true})
	t.Run("group", func(t *testing.T) {
		for _, f := range faults() {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, log, nil)
				front := log.Front(t)
				p.logURL = front.URL
				rule := front.On(submissions, broken, f.act)
				if strings.HasSuffix(f.name, "before") {
					front.On(servers.Requests("GET", "/checkpoint"), 1, f.act)
					front.On(servers.Requests("GET", "/tile/"), 1, f.act)
				}
				push := p.push(p.batch(30), "--wait", "3m")
				p.wantCode(push, 0, 3*time.Minute)
				if rule.Hits() != broken {
					t.Errorf("%d submissions were broken, want %d", rule.Hits(), broken)
				}
				p.wantOnce()
			})
		}
	})
}

// answersOfRegistry breaks one request of each kind.
func answersOfRegistry(t *testing.T) {
	registry := servers.StartRegistry(t, servers.Login{})
	t.Run("group", func(t *testing.T) {
		for _, f := range faults() {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, nil, registry)
				p.repository = strings.ToLower(strings.ReplaceAll(f.name, " ", "-"))
				p.pushImages(2)
				door := servers.StartProxy(t, servers.Forward("http://"+registry.Host))
				p.host = door.Host
				var rules []*servers.Rule
				for _, match := range []servers.Match{
					servers.Requests("POST", "/blobs/uploads/"), servers.Requests("PUT", "/blobs/uploads/"),
					servers.Requests("PUT", "/manifests/sha256:"), servers.Requests("PUT", "/manifests/lodge-"), indexWrites,
				} {
					rules = append(rules, door.On(match, 1, f.act))
				}
				push := p.push(p.batch(20), "--wait", "3m")
				p.wantCode(push, 0, 3*time.Minute)
				for i, rule := range rules {
					if rule.Hits() != 1 {
						t.Errorf("no request of kind %d was broken", i)
					}
				}
				p.wantOnce()
			})
		}
	})
}

// timeLimits has the log give up requests that it goes on to apply.
func timeLimits(t *testing.T) {
	const n, hasty = 200, 100
	t.Run("Grpc-Timeout", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true, CheckpointInterval: time.Second}), nil)
		front := p.log.Front(t)
		p.logURL, p.logSettle, p.logConcurrency = front.URL, "4s", 2*hasty
		rule := front.On(submissions, hasty, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Set("Grpc-Timeout", "300m") // milliseconds
			next.ServeHTTP(w, r)
		})
		p.wantCode(p.push(p.batch(n), "--wait", "4m"), 0, 4*time.Minute)
		given := 0
		for _, e := range front.Exchanges(submissions) {
			if e.Status >= 400 {
				given++
			}
		}
		t.Logf("%d of %d submissions were sent in haste, %d failed", rule.Hits(), front.Count(submissions), given)
		if given == 0 {
			t.Error("the log gave up no request")
		}
		p.wantOnce()
		p.wantSize(n)
	})
	t.Run("server-timeout", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{
			Forgetful: true, CheckpointInterval: 3 * time.Second, Flags: []string{"--server-timeout=1s"},
		}), nil)
		p.logSettle = "8s"
		p.wantCode(p.push(p.batch(n), "--wait", "4m"), 0, 4*time.Minute)
		p.wantOnce()
		p.wantSize(n)
	})
}
