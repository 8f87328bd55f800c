package deliver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
)

// hardships are the columns of the matrix.
var hardships = []struct {
	name    string
	request bool // they are of requests only
	mishap  mishap
}{
	{"not applied", false, mishap{Lost: true}},
	{"applied, reply lost", false, mishap{Lose: true}},
	{"applied late, after the client gave up", true, mishap{Stall: true, Late: settle - 2*staleness}},
	{"killed before", false, mishap{Die: true}},
	{"killed after", false, mishap{Die: true, After: true}},
	{"suspended before", false, mishap{Suspend: suspension}},
	{"suspended after", false, mishap{Suspend: suspension, After: true}},
}

// suspension is longer than lease and settle time together: another replica has taken over.
const suspension = 30*time.Second + settle + time.Minute

// TestFaultMatrix has every step outside of lodge, on the way of one envelope to a log and
// a registry, go wrong in every way. The steps are those that a delivery without any fault
// makes, so none is left out.
func TestFaultMatrix(t *testing.T) {
	quietly(t)
	for _, servers := range []struct {
		name          string
		log, registry bool // whose steps go wrong
		plain
	}{
		{"v1", true, false, plain{version: 1}},
		{"v2 and referrers", true, true, plain{version: 2}},
		{"fallback index", false, true, plain{version: 2, fallback: true}},
	} {
		t.Run(servers.name, func(t *testing.T) {
			steps := stepsOf(t, servers.plain)
			for i, step := range steps {
				behind := i > slices.Index(steps, "log verified")
				if behind && !servers.registry || !behind && !servers.log {
					continue // another row of this table has them
				}
				for _, h := range hardships {
					if _, isRequest := request(step); h.request && !isRequest {
						continue
					}
					occurrence := count(steps[:i], step)
					t.Run(fmt.Sprintf("%s %d/%s", step, occurrence+1, h.name), func(t *testing.T) {
						t.Parallel()
						r := row{servers.plain, step, occurrence, h.mishap, behind}
						inBubble(t, r.run)
					})
				}
			}
		})
	}
}

// request returns the method and the object of a step that is a request.
func request(step string) (method string, ok bool) {
	method, _, _ = strings.Cut(step, " ")
	return method, method == strings.ToUpper(method)
}

func count(steps []string, step string) (n int) {
	for _, s := range steps {
		if s == step {
			n++
		}
	}
	return n
}

// stepsOf returns the steps of a delivery to log and registry without any fault.
func stepsOf(t *testing.T, o plain) (steps []string) {
	t.Helper()
	inBubble(t, func(t *testing.T, all *shelves) {
		r := row{plain: o, step: "none"}
		s := r.play(t, all)
		for _, n := range s.notes {
			steps = append(steps, n.did)
		}
	})
	for _, must := range []string{"accept", "claim", "load", "log sending", "POST entry", "log verified", "PUT manifest", "PUT tag", "repository verified"} {
		if !slices.Contains(steps, must) {
			t.Fatalf("no %q among %q", must, steps)
		}
	}
	return steps
}

// row is one row of the matrix.
type row struct {
	plain
	step       string
	occurrence int // of the step, from 0
	mishap     mishap
	registry   bool // the step is behind the log's
}

// run plays the row and checks what must hold.
func (r row) run(t *testing.T, all *shelves) {
	s := r.play(t, all)
	if t.Failed() {
		t.Log(s.story())
	}
}

func (r row) play(t *testing.T, all *shelves) *site {
	t.Helper()
	ctx := t.Context()
	s := newSite(t, r.plain)
	s.fill(3)                    // so that there are tiles to read
	s.forgetful = r.version == 2 // v1 knows an entry again by its content
	shelf := all.main[0]
	must(t, shelf.Register(ctx, s.log))
	must(t, shelf.Register(ctx, s.images))

	struck, plan := r.strike()
	processes := []*process{s.start(t, "victim", shelf, fixed(), plan)}
	raw := s.envelope(t, 1, 0, signers()[0].PrivateKey)
	var pushes sync.WaitGroup
	push := func(p *process) {
		pushes.Go(func() {
			for !p.isDead() {
				if _, err := s.push(p, raw, signers()[0].Public(), toBoth); err == nil {
					return
				}
				pass(time.Second)
			}
		})
	}
	push(processes[0])
	if r.step != "none" {
		select {
		case <-struck:
		case <-time.After(time.Hour):
			t.Fatalf("%s %d was never made", r.step, r.occurrence)
		}
		if r.mishap.Die || r.mishap.Suspend > 0 {
			heir := s.start(t, "heir", all.main[1], fixed(), nil)
			processes = append(processes, heir)
			push(heir)
		}
	}
	deliveries := r.settled(t, s, shelf, processes)
	pushes.Wait()
	for _, p := range processes {
		p.stop()
		<-p.done
	}
	for _, broken := range s.check(t, ledger{shelf, 0, deliveries}) {
		t.Error(broken)
	}
	r.checkSends(t, s, deliveries)
	return s
}

// fixed is a source of jitter that is always the same.
func fixed() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// strike returns a plan that has the row's step go wrong, and says when.
func (r row) strike() (struck chan struct{}, plan func(step, about string) mishap) {
	var mu sync.Mutex
	seen := 0
	struck = make(chan struct{})
	return struck, func(step, _ string) mishap {
		mu.Lock()
		defer mu.Unlock()
		if step != r.step {
			return mishap{}
		}
		if seen++; seen != r.occurrence+1 {
			return mishap{}
		}
		close(struck)
		return r.mishap
	}
}

// settled returns the deliveries once they are verified and nothing is under way any more.
func (r row) settled(t *testing.T, s *site, shelf *shelf, processes []*process) []lodge.Delivery {
	t.Helper()
	for deadline := time.Now().Add(24 * time.Hour); time.Now().Before(deadline); pass(5 * time.Second) {
		found, err := shelf.Deliveries(context.Background(), s.key(s.envelope(t, 1, 0, signers()[0].PrivateKey)), 0, 10)
		must(t, err)
		live := slices.ContainsFunc(found, func(d lodge.Delivery) bool { return d.State != lodge.Verified })
		asleep := slices.ContainsFunc(processes, func(p *process) bool { return p.sleptSince(time.Now().Add(-time.Minute)) })
		if len(found) == 2 && !live && !asleep && s.pending.Load() == 0 {
			return found
		}
	}
	t.Fatalf("not delivered after a day:\n%s", s.story())
	return nil
}

// checkSends holds that a step that went wrong costs no more submissions than it must.
func (r row) checkSends(t *testing.T, s *site, deliveries []lodge.Delivery) {
	t.Helper()
	most := map[lodge.TargetKind]int{lodge.KindLog: 2, lodge.KindRepository: 2}
	if r.registry || r.step == "none" {
		most[lodge.KindLog] = 1
	}
	if !r.registry {
		most[lodge.KindRepository] = 1
	}
	for _, d := range deliveries {
		if d.Sends < 1 || d.Sends > most[d.Target.Kind] {
			t.Errorf("sent to the %s %d times, want 1 to %d", d.Target.Kind, d.Sends, most[d.Target.Kind])
		}
		if r.step != "POST entry" || d.Target.Kind != lodge.KindLog {
			continue
		}
		want := 1
		if r.mishap.Lost || r.mishap.Die && !r.mishap.After || r.mishap.Suspend > 0 && !r.mishap.After {
			want = 2
		}
		if d.Sends != want {
			t.Errorf("sent to the log %d times, want %d", d.Sends, want)
		}
		// A worker that is suspended between its last look at the lease and its write: limit (b)
		// of the design. It must have been seen here, and nowhere else.
		leaves, limit := s.shards[0].Size()-s.prior, r.mishap.Suspend > 0 && !r.mishap.After
		switch whose := (id{d.Key, d.Signer, lodge.KindLog}); {
		case limit && len(s.excuses[whose]) != 1:
			t.Errorf("limit (b) was to be seen: %q", s.excuses[whose])
		case limit && r.version == 2 && leaves != 2:
			t.Errorf("%d leaves, want the second one of limit (b)", leaves)
		case (!limit || r.version == 1) && leaves != 1:
			t.Errorf("%d leaves, want one", leaves)
		}
	}
}
