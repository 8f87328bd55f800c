// Command log measures what following a log costs: it writes a Rekor v2 log of a million
// entries to the disk, as tiles, and follows it from its first entry on with a new store. It
// prints a report.
//
// It is for developers alone, and may import every package but those of the command.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

func main() {
	dir := flag.String("dir", "", "a folder for the log; default a temporary one")
	entries := flag.Int64("entries", 1_000_000, "of the log")
	rounds := flag.Int("rounds", 3, "how often each measure is taken; the median counts")
	child := flag.Bool("child", false, "follow the log in -dir once (for this program itself)")
	flag.Parse()
	measure := func() error { return run(*dir, *entries, *rounds) }
	if *child {
		measure = func() error { return followOnce(*dir, os.Stdout) }
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/log:", err)
		os.Exit(1)
	}
}

func run(dir string, entries int64, rounds int) error {
	if dir == "" {
		made, err := os.MkdirTemp("", "lodge-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		dir = made
	}
	if err := write(dir, entries); err != nil {
		return err
	}
	rates := map[string][]float64{}
	for range rounds {
		for _, m := range []struct {
			name    string
			measure func(string) (float64, error)
		}{{"hashing", hashing}, {"leaves", leaves}} {
			rate, err := m.measure(dir)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			rates[m.name] = append(rates[m.name], rate)
		}
		f, err := followInChild(dir)
		if err != nil {
			return err
		}
		rates["followed"] = append(rates["followed"], f.Rate)
		rates["memory"] = append(rates["memory"], (f.Peak-f.Base)/(1<<20))
		fmt.Fprintln(os.Stderr, rates)
	}
	report(entries, rounds, rates)
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func report(entries int64, rounds int, rates map[string][]float64) {
	verdict := func(holds bool) string {
		if holds {
			return "holds"
		}
		return "falls short"
	}
	hashing, leaves, followed, memory := median(rates["hashing"]), median(rates["leaves"]), median(rates["followed"]), median(rates["memory"])
	fmt.Printf("# What following a log costs\n\nMeasured by `make bench-log` on %d cores, %s, %s: a log of %d entries, all under certificates, as tiles on\n"+
		"the disk; medians of %d rounds in which the measures take turns. *hashing* computes the roots of tiles that are in memory,\n"+
		"on all cores. *leaves* reads the tiles and proves each under the checkpoint. *followed* is all that a follower does,\n"+
		"from zero, with a new store: entries read, checked against the tree, and searched for three identities.\n\n"+
		"| | per second |\n|---|---|\n| hashing | %.0f |\n| leaves | %.0f |\n| followed | %.0f |\n\n", runtime.NumCPU(), runtime.GOOS, runtime.Version(), entries, rounds, hashing, leaves, followed)
	fmt.Printf("| aim | wanted | measured | |\n|---|---|---|---|\n")
	fmt.Printf("| leaves | 500,000/s or 0.5 of hashing | %.0f/s, %.2f | %s |\n", leaves, leaves/hashing, verdict(leaves >= 500_000 || leaves/hashing >= 0.5))
	fmt.Printf("| followed | 100,000/s | %.0f/s | %s |\n", followed, verdict(followed >= 100_000))
	fmt.Printf("| memory above the base while it is followed | 64 MiB | %.0f MiB | %s |\n", memory, verdict(memory <= 64))
}

// hashing computes the roots of tiles on all cores.
func hashing(string) (float64, error) {
	const span = 2 * time.Second
	var all sync.WaitGroup
	var total float64
	var mu sync.Mutex
	begin := time.Now()
	for range runtime.NumCPU() {
		all.Go(func() {
			tile := make([]byte, 256*sha256.Size)
			n := 0
			for ; time.Since(begin) < span; n += 256 {
				tileRoot(tile)
			}
			mu.Lock()
			defer mu.Unlock()
			total += float64(n)
		})
	}
	all.Wait()
	return total / time.Since(begin).Seconds(), nil
}

// leaves proves all leaves under the checkpoint.
func leaves(dir string) (float64, error) {
	l, err := openLog(dir)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	n := int64(0)
	for span, err := range l.tiles.Stream(context.Background(), l.head, 0, l.head.Size, false, nil) {
		if err != nil {
			return 0, err
		}
		n += int64(len(span))
	}
	if n != l.head.Size {
		return 0, fmt.Errorf("%d of %d leaves", n, l.head.Size)
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// followed is what a child process prints: leaves a second, and bytes.
type followed struct{ Rate, Base, Peak float64 }

func followInChild(dir string) (f followed, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(context.Background(), self, "-child", "-dir", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(out, &f)
}

// followOnce follows the log from its first entry to its last, with a new store.
func followOnce(dir string, out io.Writer) error {
	ctx := context.Background()
	l, err := openLog(dir)
	if err != nil {
		return err
	}
	at, err := os.MkdirTemp(dir, "store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(at)
	s, err := store.Open(ctx, "sqlite:"+filepath.Join(at, "lodge.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	target := lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}
	if err := s.Register(ctx, target); err != nil {
		return err
	}
	follower, err := watch.New(watch.Config{
		Target: target, Sources: []watch.Source{{Log: l}}, Leases: s,
		Under: func(name string, term int64) watch.Store { return s.Under(name, term) },
		List: watch.List{Ours: true, Identities: []watch.Identity{
			{Identity: identity(0), Issuer: issuer}, {Identity: "https://ci.example/other@*", Issuer: issuer}, {Identity: "somebody@example.com"}}},
	})
	if err != nil {
		return err
	}
	f := followed{Base: resident("VmRSS:")}
	begin := time.Now()
	if err := follower.Check(ctx); err != nil {
		return err
	}
	f.Rate, f.Peak = float64(l.head.Size)/time.Since(begin).Seconds(), resident("VmHWM:")
	shards, err := s.Shards(ctx, target.Address)
	if err != nil {
		return err
	}
	if got := shards[0]; got.VerifiedThrough() != l.head.Size-1 || got.Quarantined+got.Unsearched > 0 {
		return fmt.Errorf("not all were read: %+v", got)
	}
	seq, err := s.LastSequence(ctx)
	if err != nil || seq != 1+(l.head.Size-1)/every+1 {
		return errors.Join(err, fmt.Errorf("%d events", seq))
	}
	return json.NewEncoder(out).Encode(f)
}

// resident returns a number of /proc/self/status in bytes.
func resident(name string) float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err == nil {
				return n * 1024
			}
		}
	}
	return 0
}

var _ tlog.Fetcher = folder("")
