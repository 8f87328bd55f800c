package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// dry plans and counts.
type dry struct {
	*app
	node        *node.Node
	ways        []node.Submission
	output      format
	bad, failed int
	err         error // of printing
}

// plan is a line of push --dry-run -o json.
type plan struct {
	Source  string          `json:"source"`
	Key     lodge.Key       `json:"key"`
	Signer  lodge.Signer    `json:"signer"`
	Target  string          `json:"target"`
	Subject lodge.Digest    `json:"subject,omitzero"`
	Intent  lodge.Intent    `json:"intent"`
	Hints   json.RawMessage `json:"hints,omitempty"` // as its events would carry them
	Error   *lodge.Error    `json:"error,omitempty"`

	scope []string
}

func (d *dry) plan(ctx context.Context, i item) bool {
	if i.err != nil {
		d.complain(i.source, i.err, &d.bad)
		return true
	}
	for n, way := range d.ways {
		way.Envelope = i.raw
		plans, err := d.node.Plan(ctx, way)
		if err != nil {
			counter := &d.failed
			if isInput(err) {
				counter = &d.bad
			}
			d.complain(i.source, err, counter)
			return true
		}
		for _, p := range plans {
			if n > 0 && p.Target.Kind == lodge.KindLog {
				continue // the first way led there
			}
			if p.Err != nil {
				d.failed++
			}
			if d.err = d.printPlan(plan{i.source, p.Key, p.Signer, p.Target.Name, p.Subject, p.Intent,
				p.Hints.EventHints(p.Scope), p.Err, p.Scope}); d.err != nil {
				return false
			}
		}
	}
	return true
}

func (d *dry) complain(source string, err error, counter *int) {
	*counter++
	complain(d.stderr, source+": "+err.Error())
}

func (d *dry) printPlan(p plan) error {
	if d.output.json() {
		return d.printJSON(p)
	}
	target := p.Target
	if !p.Subject.IsZero() {
		target += "@" + p.Subject.String()
	}
	what := "nothing can be sent: "
	switch {
	case p.Error != nil:
		what += p.Error.Message
	case p.Intent.EntryUUID != "":
		what = "would send the entry " + p.Intent.EntryUUID
	case !p.Intent.LeafHash.IsZero():
		what = "would send the entry with leaf hash " + p.Intent.LeafHash.String()
	default:
		what = "would send the bundle, with the proofs of the logs"
	}
	return d.print("%s: %s: %s\n  key %s\n  signer %s\n%s", clean(p.Source), clean(target), clean(what), p.Key, clean(string(p.Signer)), scopeText(p.scope))
}

// scopeText says what its events would touch.
func scopeText(scope []string) string {
	if len(scope) == 0 {
		return ""
	}
	more := ""
	if len(scope) > hintsShown {
		more = fmt.Sprintf(" and %d more", len(scope)-hintsShown)
		scope = scope[:hintsShown]
	}
	return "  scope " + clean(strings.Join(scope, " ")) + more + "\n"
}

func (d *dry) status() error {
	switch {
	case d.err != nil:
		return d.err
	case d.bad > 0:
		return exitError(exitUsage)
	case d.failed > 0:
		return exitError(exitFailed)
	}
	return nil
}
