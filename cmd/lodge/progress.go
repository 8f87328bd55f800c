package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

const (
	redraw  = 100 * time.Millisecond // of the progress bar
	patient = 2 * time.Second        // without progress, before it is said why
)

// bar is a progress bar on a terminal; without one it draws nothing.
type bar struct {
	terminal   *os.File
	drawn      bool
	progressed time.Time // when something last finished
	reason     string    // why it waits, as last said
}

func (b *bar) clear() {
	if b.drawn {
		_, _ = b.terminal.WriteString("\r\x1b[K")
		b.drawn = false
	}
}

func (b *bar) draw(text string) {
	if b.terminal != nil {
		_, _ = b.terminal.WriteString("\r\x1b[K" + text)
		b.drawn = true
	}
}

// watch draws the bar and says why nothing moves, until the function that it returns is called.
func (r *report) watch(n *node.Node) (end func()) {
	if r.json {
		return func() {}
	}
	r.bar.progressed = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		asked := time.Now()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if stuck := r.stuck(); len(stuck) > 0 && time.Since(asked) > time.Second {
				asked = time.Now()
				r.explain(ctx, n, stuck)
			}
			r.mu.Lock()
			r.bar.draw(r.progress(time.Since(r.began), r.reading))
			r.mu.Unlock()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// progress is the text of the bar after some time; reading says that there may be more input.
func (c counts) progress(passed time.Duration, reading bool) string {
	const width = 24
	done := c.verified + c.failed + c.pending
	filled := width * done / max(c.total, 1)
	text := fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("#", filled), strings.Repeat("-", width-filled), done, c.total)
	if reading {
		text += "+"
	}
	if done > 0 && passed > 0 {
		rate := float64(done) / passed.Seconds()
		text += fmt.Sprintf("  %.0f/s", rate)
		if left := time.Duration(float64(c.total-done) / rate * float64(time.Second)); !reading && done < c.total {
			text += fmt.Sprintf("  %s left", left.Round(time.Second))
		}
	}
	if bad := c.failed + c.badInput + c.refusals; bad > 0 {
		text += fmt.Sprintf("  %d failed", bad)
	}
	return text
}

// sample is how many deliveries are asked why they wait.
const sample = 16

// stuck returns some of the deliveries that wait, where nothing has moved for a while.
func (r *report) stuck() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) == 0 || time.Since(r.bar.progressed) < patient {
		return nil
	}
	ids := slices.Sorted(maps.Keys(r.open))
	return ids[:min(len(ids), sample)]
}

// explain says why deliveries wait: once for each reason.
func (r *report) explain(ctx context.Context, n *node.Node, ids []int64) {
	for _, id := range ids {
		d, err := n.Delivery(ctx, id)
		if err != nil || !d.State.Live() || d.Err == nil {
			continue
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if d.Err.Message != r.bar.reason {
			r.bar.reason = d.Err.Message
			r.say("waiting: " + why(d, time.Now()))
		}
		return
	}
}

func why(d lodge.Delivery, now time.Time) string {
	text := d.Target.Name + ": " + d.Err.Message
	if left := d.Due.Sub(now).Round(time.Second); left > 0 {
		text += fmt.Sprintf(", next try in %s", left)
	}
	return text
}
