package deliver_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

var (
	simTime = flag.Duration("sim.time", 3*time.Second, "how long TestSimulation runs")
	simN    = flag.Uint64("sim.n", 0, "how many schedules it runs instead")
	simSeed = flag.Uint64("sim.seed", 0, "the one schedule that it runs instead")
	simFrom = flag.Uint64("sim.from", 1, "the seed of its first schedule; 0: a random one")
	simStep = flag.Uint64("sim.step", 0, "from one seed to the next; set in the processes that do the work")
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

// TestSimulation runs random schedules of faults: see schedule. A seed that fails is run
// alone with -sim.seed.
func TestSimulation(t *testing.T) {
	switch {
	case *simSeed != 0:
		for n := 0; n < 20 && !t.Failed(); n++ { // what happens at the same instant may have two ends
			inBubble(t, func(t *testing.T, all *shelves) { simulate(t, *simSeed, all) })
		}
	case *simStep != 0:
		simulateMany(t)
	default:
		simulateOnAllCores(t)
	}
}

// simulateOnAllCores runs a process for each core, which is a fifth faster than one for
// all: a bubble has one thing to do at a time, and has it at hand where it was.
func simulateOnAllCores(t *testing.T) {
	from, cores, begin := *simFrom, runtime.GOMAXPROCS(0), time.Now()
	if from == 0 {
		from = rand.Uint64N(1 << 40)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	counts := make(chan uint64)
	var parts sync.WaitGroup
	for i := range uint64(cores) {
		n := uint64(0)
		if *simN > 0 {
			if n = (*simN + uint64(cores) - 1 - i) / uint64(cores); n == 0 {
				continue
			}
		}
		parts.Go(func() {
			if failure := simulateApart(ctx, from+i, uint64(cores), n, counts); failure != "" && ctx.Err() == nil {
				t.Error(failure)
				cancel()
			}
		})
	}
	go func() {
		parts.Wait()
		close(counts)
	}()
	total, told := uint64(0), begin
	sum := func() string {
		took := time.Since(begin)
		return fmt.Sprintf("simulation: %d schedules from seed %d on in %s, %.0f a second", total, from, took.Round(time.Second/10), float64(total)/took.Seconds())
	}
	for n := range counts {
		if total += n; time.Since(told) > tellEvery {
			told = time.Now()
			fmt.Println(sum())
		}
	}
	simulated = sum()
}

const (
	tellEvery = time.Minute  // on what a long simulation has done so far
	counted   = "simulated " // begins the lines in which a process says how many more it has done
)

// simulateApart runs n schedules, or for the time set, in a process of its own, and returns
// what failed.
func simulateApart(ctx context.Context, from, step, n uint64, counts chan<- uint64) (failure string) {
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSimulation$", "-test.timeout=0", fmt.Sprint("-sim.from=", from),
		fmt.Sprint("-sim.step=", step), fmt.Sprint("-sim.n=", n), fmt.Sprint("-sim.time=", *simTime))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err.Error()
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if count, ok := strings.CutPrefix(lines.Text(), counted); ok {
			n, _ := strconv.ParseUint(count, 10, 64)
			counts <- n
			continue
		}
		fmt.Fprintln(&said, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Sprintf("%v\n%s", err, said.String())
	}
	return ""
}

// simulateMany runs schedules until one fails, and says how many it has done.
func simulateMany(t *testing.T) {
	quietly(t)
	debug.SetGCPercent(400) // little lives long here
	var over atomic.Bool    // a bubble has a clock of its own
	if *simN == 0 {
		timer := time.AfterFunc(*simTime, func() { over.Store(true) })
		defer timer.Stop()
	}
	seed, n := *simFrom, uint64(0)
	for !over.Load() && !t.Failed() {
		done := 0
		inBubble(t, func(t *testing.T, all *shelves) {
			for range schedulesPerStore {
				if over.Load() || !simulate(t, seed, all) {
					break
				}
				done++
				seed += *simStep
				if n++; n == *simN {
					over.Store(true)
				}
			}
		})
		fmt.Printf("%s%d\n", counted, done)
	}
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
	defer os.RemoveAll(dir) // there may be thousands of bubbles in one test
	synctest.Test(t, func(t *testing.T) {
		all := &shelves{}
		ours := newMemo()
		for range 2 {
			all.main = append(all.main, openShelf(t, filepath.Join(dir, "lodge.db"), ours))
		}
		all.other = openShelf(t, filepath.Join(dir, "job.db"), newMemo())
		do(t, all)
	})
}

// openShelf opens a store until the test ends.
func openShelf(t *testing.T, address string, memo *memo) *shelf {
	t.Helper()
	s, err := store.Open(t.Context(), address)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return &shelf{s, address, memo}
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
	t.Errorf("seed %d: %s\n%s\n%s\nagain: go test ./deliver -run '%s$' -sim.seed=%d",
		seed, strings.Join(broken, "\n\t"), c, c.site.story(), t.Name(), seed)
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
			for _, target := range []lodge.Target{c.site.log, c.site.images} {
				code, _, err := shelf.Held(ctx, target.Address)
				must(c.t, err)
				if code != "" {
					must(c.t, shelf.Resume(ctx, target, time.Now()))
				}
			}
		}
	}
}
