package main

import (
	"fmt"
	"io"
	"strings"
)

// aim is a ratio that the store is to hold.
type aim struct {
	what, name, to string
	atLeast        float64
}

var aims = []aim{
	{"accept, 16 callers / floor", "accept 16", "floor 16", 0.80},
	{"accept, 256 callers / floor", "accept 256", "floor 256", 0.80},
	{"accept, 1 caller / fsync", "accept 1", "append 1", 0.45},
	{"accept, 256 callers / append", "accept 256", "append 256", 0.15},
	{"duplicates / accept, 256 callers", "duplicates 256", "accept 256", 5},
	{"life cycle / floor of a life cycle, 256 callers", "life cycle 256", "life cycle floor 256", 0.45},
	{"life cycle / floor of an accept, 256 callers", "life cycle 256", "floor 256", 0},
	{"floor FULL / NORMAL, 256", "floor 256", "NORMAL floor 256", 0.75},
	{"accept, large / empty", "accept 256, large", "accept 256, empty", 0.55},
	{"PostgreSQL accept, 16 callers / floor", "PostgreSQL accept 16", "PostgreSQL floor 16", 0.80},
	{"PostgreSQL accept, 256 callers / floor", "PostgreSQL accept 256", "PostgreSQL floor 256", 0.80},
	{"PostgreSQL life cycle / floor of a life cycle, 256", "PostgreSQL life cycle 256", "PostgreSQL life cycle floor 256", 0.45},
	{"PostgreSQL duplicates / accept, 256", "PostgreSQL duplicates 256", "PostgreSQL accept 256", 5},
	{"hints / encoding/json into any, with a walk", "hints", "json any, walk", 5},
	{"hints / encoding/json into any, same lists", "hints", "json any, same lists", 5},
	{"77,000 scopes against 100,000 policies / 1,000", "matches, 100,000 policies", "matches, 1,000 policies", 0.5},
}

// memoryLimit is what a store with a million queued rows may take.
const memoryLimit = 128 << 20

func (b *bench) report(out io.Writer, rounds, rows int) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	p("# What the store does\n")
	p("Measured by `make bench` on %s. Medians of %d rounds in which the measures take turns; envelopes of %d bytes;", machine(), rounds, payload)
	p("operations per second. *append* writes as many payloads as there are callers with one fsync: the disk's own limit. *floor* runs the")
	p("statements of an accept (below) in one goroutine, with batches of that size built in advance; *life cycle floor* those of a whole life.\n")
	p("| | 1 caller | 16 | 256 |\n|---|---|---|---|")
	for _, name := range []string{"append", "floor", "accept", "PostgreSQL floor", "PostgreSQL accept"} {
		if len(b.rates[name+" 1"]) > 0 {
			p("| %s | %.0f | %.0f | %.0f |", name, b.median(name+" 1"), b.median(name+" 16"), b.median(name+" 256"))
		}
	}
	p("\n| 256 callers | per second |\n|---|---|")
	for _, name := range []string{"duplicates 256", "life cycle floor 256", "life cycle 256", "events of life cycles to a file 256", "events of policies to a file", "NORMAL floor 256", "accept 256, empty", "accept 256, large", "claim, empty", "claim, large",
		"PostgreSQL duplicates 256", "PostgreSQL life cycle floor 256", "PostgreSQL life cycle 256", "PostgreSQL events of life cycles to a file 256", "PostgreSQL events of policies to a file"} {
		if len(b.rates[name]) > 0 {
			p("| %s | %.0f |", strings.TrimSuffix(name, " 256"), b.median(name))
		}
	}
	p("\n| aim | at least | measured | |\n|---|---|---|---|")
	for _, a := range aims {
		if r := b.ratio(a.name, a.to); r > 0 {
			demand, judged := "", ""
			if a.atLeast > 0 {
				demand, judged = fmt.Sprintf("%.2f", a.atLeast), verdict(r >= a.atLeast)
			}
			p("| %s | %s | %.2f | %s |", a.what, demand, r, judged)
		}
	}
	events := b.median("events of policies to a file")
	p("| events per second through outbox and JSON Lines sink, without the deliveries that they are about | 10000 | %.0f | %s |", events, verdict(events >= 10_000))
	p("| bytes written for duplicates | 0 | %.0f | %s |", b.written, verdict(b.written == 0))
	memory := b.median("memory, large")
	p("| resident memory with %d rows queued, at most | 128 MiB | %.0f MiB | %s |", rows, memory/(1<<20), verdict(memory <= memoryLimit))
	p("| bytes allocated for the hints of a 10 MB SBOM, at most | 16 MiB | %.1f MiB | %s |", b.median("hint memory")/(1<<20), verdict(b.median("hint memory") <= hintMemory))
	p("\n| a CycloneDX SBOM of 10 MB | MB per second |\n|---|---|")
	for _, name := range []string{"hints", "json any, walk", "json any, same lists"} {
		p("| %s | %.0f |", name, b.median(name))
	}
	p("\nThe statements of an accept:\n\n```sql\n%s\n```\n", printed(b.record.accept(1)[0]))
	p("Those of the rest of a life cycle:\n\n```sql\n%s\n```", printed(b.record.claims[0], b.record.loads[0], b.record.sendings[0], b.record.receipts[0]))
}

func verdict(holds bool) string {
	if holds {
		return "holds"
	}
	return "falls short"
}

// printed is SQL with a statement a line.
func printed(all ...transaction) string {
	var lines []string
	for _, tx := range all {
		for _, st := range tx {
			lines = append(lines, strings.Join(strings.Fields(st.sql), " ")+";")
		}
	}
	return strings.Join(lines, "\n")
}
