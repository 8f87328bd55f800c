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
	slow    = 10 * time.Second       // without progress or a reason, before it is said that there is none
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
		asked, after := time.Now(), int64(0)
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if first, stuck := r.stuck(); stuck && time.Since(asked) > time.Second {
				asked = time.Now()
				after = r.explain(ctx, n, max(after, first-1))
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
	done := c.verified + c.failed
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

// page is how many deliveries are asked at a time why they wait.
const page = 1000

// stuck returns the first of the deliveries that wait, where nothing has moved for a while.
func (r *report) stuck() (first int64, stuck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) == 0 || time.Since(r.bar.progressed) < patient {
		return 0, false
	}
	return slices.Min(slices.Collect(maps.Keys(r.open))), true
}

// explain says why deliveries wait, where one of a page behind the id after knows it, and
// each reason once in a row. Only few know: the others wait for the breaker of their
// target. It returns where the next page begins, 0 for anew.
func (r *report) explain(ctx context.Context, n *node.Node, after int64) (next int64) {
	found, err := n.Deliveries(ctx, lodge.Digest{}, after, page)
	if err != nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range found {
		if r.open[d.ID] == 0 || !d.State.Live() || d.Err == nil {
			continue
		}
		if d.Err.Message != r.bar.reason {
			r.bar.reason = d.Err.Message
			r.say("waiting: " + why(d, time.Now()))
		}
		return 0
	}
	if len(found) == page {
		return found[page-1].ID
	}
	if r.bar.reason == "" && time.Since(r.bar.progressed) > slow {
		r.bar.reason = "under way"
		r.say("waiting: attempts are under way; one that was cut off is taken up when its lease is over")
	}
	return 0
}

func why(d lodge.Delivery, now time.Time) string {
	text := d.Target.Name + ": " + d.Err.Message
	if left := d.Due.Sub(now).Round(time.Second); left > 0 {
		text += fmt.Sprintf(", next try in %s", left)
	}
	return text
}
