package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// few is how many deliveries text output lists one by one.
const few = 20

// result is a line of push -o json.
type result struct {
	Source    string         `json:"source"`
	Key       lodge.Key      `json:"key"`
	Signer    lodge.Signer   `json:"signer"`
	Target    string         `json:"target"`
	State     lodge.State    `json:"state"`
	Duplicate bool           `json:"duplicate"`
	Attempts  int            `json:"attempts"`
	Receipt   *lodge.Receipt `json:"receipt,omitempty"`
	Error     *lodge.Error   `json:"error,omitempty"`
}

// report counts what becomes of a push and tells it: results on standard output, all else
// on standard error. It is safe for concurrent use.
type report struct {
	app   *app
	json  bool
	store string
	began time.Time

	mu         sync.Mutex
	open       map[int64]int // deliveries that are waited for, by id: so many results
	total      int           // deliveries accepted
	verified   int
	duplicates int // of verified
	failed     int
	pending    int
	badInput   int
	refusals   int // not accepted, through no fault of the input
	faults     int
	cut        bool     // not all input was taken in
	reading    bool     // there may be more input
	lines      []string // of the first few results
	failures   []string // of the failed ones beyond
	printErr   error
	bar        bar
}

func newReport(a *app, output format, store string) *report {
	r := &report{app: a, json: output.json(), store: store, began: time.Now(), open: map[int64]int{}, reading: true}
	if f, ok := a.stderr.(*os.File); ok && !r.json && term.IsTerminal(int(f.Fd())) {
		r.bar.terminal = f
	}
	return r
}

// note says something on standard error, past the progress bar.
func (r *report) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.say(text)
}

func (r *report) say(text string) {
	r.bar.clear()
	complain(r.app.stderr, text)
}

// bad names input that can't be taken.
func (r *report) bad(source string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.badInput++
	r.say(source + ": " + err.Error())
}

// refused names input that could not be accepted now.
func (r *report) refused(source string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals++
	r.say(source + ": not accepted: " + err.Error())
}

// fault says what broke here.
func (r *report) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults++
	r.say(err.Error())
}

// interrupted answers a signal.
func (r *report) interrupted() {
	r.note("interrupted: finishing what is under way (interrupt again to quit at once)")
}

func (r *report) accepted(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	r.open[id]++
}

func (r *report) intakeDone(whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading, r.cut = false, !whole
}

// finished takes a delivery as it stands in the end.
func (r *report) finished(p parcel) {
	res := result{
		Source: p.source, Key: p.Key, Signer: p.Signer, Target: p.Target.Name, State: p.State,
		Duplicate: p.Duplicate(), Attempts: p.Attempt, Receipt: p.Receipt, Error: p.Err,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[p.ID]--; r.open[p.ID] == 0 {
		delete(r.open, p.ID)
	}
	r.bar.progressed = time.Now()
	switch {
	case p.State == lodge.Verified:
		r.verified++
		if res.Duplicate {
			r.duplicates++
		}
	case p.State == lodge.Failed:
		r.failed++
	default:
		r.pending++
	}
	switch {
	case r.json:
		if err := r.app.printJSON(res); err != nil && r.printErr == nil {
			r.printErr = err
		}
	case len(r.lines) < few:
		r.lines = append(r.lines, res.text(p.Delivery))
	case p.State == lodge.Failed:
		r.failures = append(r.failures, res.text(p.Delivery))
	}
}

// text is the result as a line for people.
func (r result) text(d lodge.Delivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", r.Source, place(d), r.State)
	if r.Receipt != nil && r.Receipt.Log != nil {
		fmt.Fprintf(&b, ", log index %d", r.Receipt.Log.LogIndex)
	}
	if r.Receipt != nil && r.Receipt.OCI != nil {
		fmt.Fprintf(&b, ", artifact %s", r.Receipt.OCI.Digest)
	}
	if r.Duplicate && r.State == lodge.Verified {
		b.WriteString(", duplicate")
	}
	if r.Error != nil && r.State != lodge.Verified {
		fmt.Fprintf(&b, ": %s (%s)", r.Error.Message, r.Error.Class)
	}
	return clean(b.String())
}

// place names where a delivery goes.
func place(d lodge.Delivery) string {
	if d.Subject.IsZero() {
		return d.Target.Name
	}
	return d.Target.Name + "@" + d.Subject.String()
}

// end prints what is left to say and returns the exit status as an error.
func (r *report) end(ctx context.Context, n *node.Node) error {
	targets, err := n.Targets(ctx)
	if err != nil {
		r.fault(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bar.clear()
	if !r.json {
		r.printText()
	}
	for _, t := range targets {
		if t.Held != "" && r.pending > 0 {
			r.say(fmt.Sprintf("%s is held: %s (%s): %s", t.Name, t.HeldWords, t.Held, mend(t)))
		}
	}
	if r.cut {
		r.say("not all of the input was taken in")
	}
	if r.pending > 0 {
		r.say(fmt.Sprintf("%d of %d not delivered yet; they are safe in %s: run the same command again to go on", r.pending, r.total, r.store))
	}
	return r.status()
}

func (r *report) printText() {
	lines := r.lines
	if r.total > few {
		lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, ": "+string(lodge.Failed)) })
		lines = append(lines, r.failures...)
		lines = append(lines, fmt.Sprintf("%d deliveries in %s: %d verified (%d of them duplicates), %d failed, %d not delivered yet",
			r.total, time.Since(r.began).Round(100*time.Millisecond), r.verified, r.duplicates, r.failed, r.pending))
	}
	for _, line := range lines {
		if _, err := io.WriteString(r.app.stdout, line+"\n"); err != nil {
			r.printErr = err
			return
		}
	}
}

// mend says how a held target is taken up again.
func mend(t lodge.TargetStatus) string {
	switch t.Held {
	case "diverged", "log-lies", "paused":
		return fmt.Sprintf("find out why, then lodge retry --target %s", t.Name)
	}
	return "mend that and run the same command again"
}

func (r *report) status() error {
	switch {
	case r.printErr != nil:
		return fmt.Errorf("printing the results: %w", r.printErr)
	case r.badInput > 0:
		return exitStatus(exitUsage)
	case r.failed+r.refusals+r.faults > 0:
		return exitStatus(exitFailed)
	case r.pending > 0 || r.cut:
		return exitStatus(exitPending)
	}
	return nil
}
