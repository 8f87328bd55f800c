// Command bench measures the store against two limits taken in the same run: the disk's
// own (append and fsync), and the floor (the statements that the store runs, in one
// goroutine, with batches of the same size built in advance); hints against encoding/json;
// and matching many policies against matching a few. It prints a report.
//
// It is for developers alone, and may import the root package and packages store, hint, policy
// and event.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// payload is the size of an envelope in bytes.
const payload = 4096

func main() {
	dir := flag.String("dir", "", "a folder on the disk to measure; default a temporary one")
	postgres := flag.String("postgres", "", "address of an empty PostgreSQL database, whose tables are dropped; default none")
	rounds := flag.Int("rounds", 5, "how often each measure is taken; the median counts")
	span := flag.Duration("span", time.Second, "how long one measure takes")
	rows := flag.Int("rows", 1_000_000, "queued deliveries of the large store")
	child := flag.String("child", "", "measure the store at this address alone (for bench itself)")
	flag.Parse()
	if err := run(*dir, *postgres, *child, *rounds, *rows, *span); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dir, postgres, child string, rounds, rows int, span time.Duration) error {
	if child != "" {
		return measureChild(child, span, os.Stdout)
	}
	if dir == "" {
		made, err := os.MkdirTemp("", "lodge-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		dir = made
	}
	b := &bench{dir: dir, span: span, rates: map[string][]float64{}}
	if err := b.hints(rounds); err != nil {
		return err
	}
	if err := b.matching(rounds); err != nil {
		return err
	}
	if err := b.sqlite(rounds); err != nil {
		return err
	}
	if err := b.large(rounds, rows); err != nil {
		return err
	}
	if postgres != "" {
		if err := b.postgres(rounds, postgres); err != nil {
			return err
		}
	}
	b.report(os.Stdout, rounds, rows)
	return nil
}

// bench collects measures by name.
type bench struct {
	dir     string
	span    time.Duration
	rates   map[string][]float64 // by name, one per round
	written float64              // bytes that duplicates wrote, at worst
	record  record               // on SQLite
}

// take records one measure.
func (b *bench) take(name string, measure func() (float64, error)) error {
	rate, err := measure()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.rates[name] = append(b.rates[name], rate)
	fmt.Fprintf(os.Stderr, "%-28s %10.0f\n", name, rate)
	return nil
}

func (b *bench) median(name string) float64 {
	rates := slices.Sorted(slices.Values(b.rates[name]))
	if len(rates) == 0 {
		return 0
	}
	return rates[len(rates)/2]
}

// ratio returns the median of the ratios of two measures that were taken round by round.
func (b *bench) ratio(name, to string) float64 {
	var ratios []float64
	for i := range min(len(b.rates[name]), len(b.rates[to])) {
		ratios = append(ratios, b.rates[name][i]/b.rates[to][i])
	}
	if len(ratios) == 0 {
		return 0
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// machine describes where this runs.
func machine() string {
	cpu := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s, %s", cpu, runtime.NumCPU(), runtime.GOOS, runtime.Version())
}
