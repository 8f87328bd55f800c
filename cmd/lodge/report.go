package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lodgehq/lodge"
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
	waits bool // for deliveries
	began time.Time

	mu sync.Mutex
	counts
	open     map[int64]int           // deliveries that are waited for, by id: so many results
	held     map[string]*lodge.Error // targets that deliveries are left for, by name
	cut      bool                    // not all input was taken in
	reading  bool                    // there may be more input
	few      []told                  // the first results
	failures []told                  // the failed ones of the others
	refusal  string                  // the last one's reason
	printErr error
	bar      bar
}

// told is a result as text.
type told struct {
	parcel
	text string
}

// counts are what has become of input and deliveries.
type counts struct {
	total      int // deliveries accepted
	verified   int
	duplicates int // of verified
	failed     int
	pending    int // left to a later run
	badInput   int
	refusals   int // input that was not accepted through no fault of its own
	faults     int
}

func newReport(a *app, f pushFlags, store string) *report {
	r := &report{app: a, json: f.output.json(), store: store, waits: f.wait > 0, began: time.Now(), open: map[int64]int{}, held: map[string]*lodge.Error{}, reading: true}
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
	if reason := err.Error(); reason != r.refusal { // a store that is full is so for everything that follows
		r.refusal = reason
		r.say(source + ": not accepted: " + reason)
	}
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
	switch p.State {
	case lodge.Verified:
		r.verified++
		if res.Duplicate {
			r.duplicates++
		}
	case lodge.Failed:
		r.failed++
	default:
		r.pending++
		if p.Err != nil && p.Err.Class == lodge.ClassHeld {
			r.held[p.Target.Name] = p.Err
		}
	}
	switch {
	case r.json:
		if err := r.app.printJSON(res); err != nil && r.printErr == nil {
			r.printErr = err
		}
	case len(r.few) < few:
		r.few = append(r.few, told{p, res.text(p.Delivery)})
	case p.State == lodge.Failed:
		r.failures = append(r.failures, told{p, res.text(p.Delivery)})
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
	switch {
	case r.Error == nil || r.State == lodge.Verified:
	case r.State != lodge.Failed && r.Error.Class == lodge.ClassHeld:
		b.WriteString(" (held)") // why is said once for the target
	default:
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
func (r *report) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bar.clear()
	if !r.json {
		r.printText()
	}
	for _, name := range slices.Sorted(maps.Keys(r.held)) {
		held := r.held[name]
		r.say(fmt.Sprintf("%s is held: %s (%s): %s", name, held.Message, held.Code, mend(name, held.Code)))
	}
	if r.refusals > 1 {
		r.say(fmt.Sprintf("%d of the input not accepted: run the same command again when that is mended", r.refusals))
	}
	if r.cut {
		r.say("not all of the input was taken in")
	}
	if r.pending > 0 {
		next := "run the same command again to go on"
		if !r.waits {
			next = "the same command without --wait 0 goes on, or lodge serve with these targets in its configuration"
		}
		r.say(fmt.Sprintf("%d of %d not delivered yet, and safe in %s: %s", r.pending, r.total, r.store, next))
	}
	return r.status()
}

// printText prints a few results one by one in the order of the input; of many the failed
// ones and a summary.
func (r *report) printText() {
	results := r.few
	if r.total > few {
		results = slices.DeleteFunc(results, func(t told) bool { return t.State != lodge.Failed })
		results = append(results, r.failures...)
	}
	slices.SortFunc(results, func(a, b told) int {
		return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(a.place, b.place))
	})
	for _, t := range results {
		r.print(t.text)
	}
	if r.total > few {
		r.print(fmt.Sprintf("%d deliveries in %s: %d verified (%d of them duplicates), %d failed, %d not delivered yet",
			r.total, time.Since(r.began).Round(100*time.Millisecond), r.verified, r.duplicates, r.failed, r.pending))
	}
}

func (r *report) print(line string) {
	if err := r.app.print("%s\n", line); err != nil && r.printErr == nil {
		r.printErr = err
	}
}

// mend says how a held target is taken up again.
func mend(target, code string) string {
	switch code {
	case lodge.CodeDiverged, lodge.CodeRolledBack:
		return "find out why (lodge log check " + target + "), then lodge log resume " + target
	case lodge.CodeLies:
		return "find out why, then lodge retry --target " + target
	}
	return "mend that and run the same command again"
}

func (r *report) status() error {
	switch {
	case r.printErr != nil:
		return fmt.Errorf("printing the results: %w", r.printErr)
	case r.badInput > 0:
		return exitError(exitUsage)
	case r.failed+r.refusals+r.faults > 0:
		return exitError(exitFailed)
	case r.pending > 0 || r.cut:
		return exitError(exitPending)
	}
	return nil
}
