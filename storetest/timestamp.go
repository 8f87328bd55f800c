package storetest

import (
	"time"

	"github.com/lodgehq/lodge"
)

// timestamps: those of acceptance are kept with the envelope, the first ones for good; one
// that failed without any gets them.
func timestamps(w *world) {
	s := w.open()
	stamped := func(name string, stamps ...string) lodge.Submission {
		sub := submission(name)
		for _, ts := range stamps {
			sub.Timestamps = append(sub.Timestamps, []byte(ts))
		}
		return sub
	}
	want := func(d lodge.Accepted, stamps ...string) {
		w.Helper()
		sub, err := s.Submission(w.Context(), d.ID)
		w.ok(err)
		w.equal("timestamps", sub.Timestamps, stamped("", stamps...).Timestamps)
		all, err := s.Timestamps(w.Context(), sub.Key, 10)
		w.ok(err)
		w.equal("timestamps of the key", all, sub.Timestamps)
	}
	first := w.accept(s, stamped("a", "one", "two"), toLog...)[0]
	want(first, "one", "two")
	w.accept(s, stamped("a", "three"), both...)
	want(first, "one", "two")
	for _, job := range w.claim(s, log1, 0) {
		w.equal("timestamps of the job", job.Submission.Timestamps, stamped("", "one", "two").Timestamps)
	}
	all, err := s.Timestamps(w.Context(), first.Key, 1)
	w.ok(err)
	w.equal("how many", len(all), 1)

	second := w.accept(s, stamped("b"), lodge.Order{Target: log2})[0]
	want(second)
	w.fail(s, log2)
	w.accept(s, stamped("b", "four"), lodge.Order{Target: log2})
	want(second, "four")
	w.equal("due", len(w.claim(s, log2, time.Minute)) > 0, true)
}
