package deliver_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge/store"
)

var (
	simTime = flag.Duration("sim.time", 3*time.Second, "how long TestSimulation runs")
	simN    = flag.Int64("sim.n", 0, "how many schedules it runs instead")
	simSeed = flag.Uint64("sim.seed", 0, "the one schedule that it runs instead")
	simFrom = flag.Uint64("sim.from", 1, "the seed of its first schedule; 0: a random one")
)

// simulated says what TestSimulation did, for TestMain to print: the log of a test that
// passes is not shown.
var simulated string

func TestMain(m *testing.M) {
	code := m.Run()
	if simulated != "" {
		fmt.Println(simulated)
	}
	os.Exit(code)
}

// TestSimulation runs random schedules of faults, a hundred a second: see schedule. A
// seed that fails is run alone with -sim.seed.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		for n := 0; n < 20 && !t.Failed(); n++ { // what happens at the same instant may have two ends
			inBubble(t, func(t *testing.T, all *shelves) { simulate(t, *simSeed, all) })
		}
		return
	}
	quietly(t)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // little lives long here
	from := *simFrom
	if from == 0 {
		from = rand.Uint64N(1 << 40)
	}
	var over atomic.Bool // a bubble has a clock of its own
	if *simN == 0 {
		timer := time.AfterFunc(*simTime, func() { over.Store(true) })
		defer timer.Stop()
	}
	var next atomic.Int64
	begin := time.Now()
	t.Run("run", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				more := func() (seed uint64, ok bool) {
					if over.Load() || t.Failed() {
						return 0, false
					}
					n := next.Add(1)
					if *simN > 0 && n > *simN {
						return 0, false
					}
					return from + uint64(n) - 1, true
				}
				for work := true; work; {
					inBubble(t, func(t *testing.T, all *shelves) {
						for range schedulesPerStore {
							seed, ok := more()
							if work = ok && simulate(t, seed, all); !work {
								over.Store(true)
								return
							}
						}
					})
				}
			})
		}
	})
	n := next.Load()
	if *simN > 0 {
		n = min(n, *simN)
	}
	took := time.Since(begin)
	simulated = fmt.Sprintf("simulation: %d schedules (seeds %d to %d) in %s, %.0f a second",
		n, from, from+uint64(max(n, 1))-1, took.Round(time.Millisecond), float64(n)/took.Seconds())
}

// schedulesPerStore bounds how many schedules share a store, which grows with each.
const schedulesPerStore = 200

// shelves are the stores that schedules use one after the other.
type shelves struct {
	main  []*shelf // handles of one file, as several processes have them
	other *shelf   // a file of its own, as a CI job has it
}

// inBubble runs do with new stores where time costs nothing.
func inBubble(t *testing.T, do func(t *testing.T, all *shelves)) {
	t.Helper()
	dir := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		all := &shelves{}
		ours := newMemo()
		open := func(name string, memo *memo) *shelf {
			s, err := store.Open(t.Context(), filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return &shelf{s, name, memo}
		}
		for range 2 {
			all.main = append(all.main, open("lodge.db", ours))
		}
		all.other = open("job.db", newMemo())
		do(t, all)
	})
}

// quietly has nothing logged while t runs: what happened is told where it is of interest.
func quietly(t *testing.T) {
	t.Helper()
	said := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(said) })
}

// inMemory returns a folder that needs no disk where there is such a thing.
func inMemory(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "lodge-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// simulate runs one schedule and tells whether all held.
func simulate(t *testing.T, seed uint64, all *shelves) bool {
	t.Helper()
	c := newSchedule(t, seed, all)
	broken := c.run()
	if len(broken) == 0 {
		return true
	}
	t.Errorf("seed %d: %s\n%s\n%s\nagain: go test ./deliver -run TestSimulation -sim.seed=%d",
		seed, strings.Join(broken, "\n\t"), c, c.site.story(), seed)
	return false
}

// replica is one place where a process runs, again after it died.
type replica struct {
	name  string
	store *shelf

	mu    sync.Mutex
	lives int
	now   *process
}

func (r *replica) process() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// run plays the schedule and returns what did not hold.
func (c *schedule) run() (broken []string) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	first := map[*shelf]int64{} // sequence before those of this schedule
	for _, shelf := range c.stores() {
		must(c.t, shelf.Register(ctx, c.site.log))
		must(c.t, shelf.Register(ctx, c.site.images))
		last, err := shelf.LastSequence(ctx)
		must(c.t, err)
		first[shelf] = last
	}

	var world sync.WaitGroup
	for _, r := range c.replicas {
		c.live(r)
		world.Go(func() { c.supervise(ctx, r) })
	}
	for i := range c.freezes {
		world.Go(func() {
			if pause(ctx, c.freezes[i]) {
				c.site.frozen.Store(int32(i + 1))
			}
		})
	}
	if c.operator {
		world.Go(func() { c.operate(ctx) })
	}
	stuck := c.play(false)
	if c.job != nil && len(stuck) == 0 {
		c.healIn(15 * time.Second)
		stuck = c.play(true)
	}
	end()
	world.Wait()
	for _, r := range c.replicas {
		r.process().stop()
		<-r.process().done
	}
	var ledgers []ledger
	for _, shelf := range c.stores() {
		ledgers = append(ledgers, ledger{shelf, first[shelf], c.deliveries(shelf.name)})
	}
	return append(stuck, c.site.check(c.t, ledgers...)...)
}

// play hands in what is handed in at first, or afterwards, and returns what was not delivered.
func (c *schedule) play(after bool) (stuck []string) {
	var now []submission
	var submitters sync.WaitGroup
	for _, s := range c.submissions {
		if s.after == after {
			now = append(now, s)
			submitters.Go(func() {
				pass(s.at)
				c.submit(s)
			})
		}
	}
	submitters.Wait()
	return c.finish(now)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pause waits, or tells that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// live begins the next life of a replica.
func (c *schedule) live(r *replica) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives++
	name := fmt.Sprintf("%s.%d", r.name, r.lives)
	r.now = c.site.start(c.t, name, r.store, c.random("jitter", name, 0), c.fate(name))
	return r.now
}

// supervise starts a replica again when it has died, or has been told to stop.
func (c *schedule) supervise(ctx context.Context, r *replica) {
	for n := 0; ; n++ {
		p := r.process()
		random := c.random("life", p.name, 0)
		stops := time.NewTimer(time.Hour)
		if c.restarts && c.untilHealed() > 0 {
			stops.Reset(time.Duration(random.Int64N(int64(30 * time.Second))))
		}
		select {
		case <-ctx.Done():
			stops.Stop()
			return
		case <-p.gone:
		case <-stops.C:
			p.stop()
		}
		stops.Stop()
		<-p.done
		if !pause(ctx, time.Duration(random.Int64N(int64(10*time.Second)))) {
			return
		}
		c.live(r)
	}
}

// operate mends what is held.
func (c *schedule) operate(ctx context.Context) {
	for pause(ctx, 5*time.Second) {
		for _, shelf := range c.stores() {
			must(c.t, shelf.Resume(ctx, c.site.log, time.Now()))
			must(c.t, shelf.Resume(ctx, c.site.images, time.Now()))
		}
	}
}
