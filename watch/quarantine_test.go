package watch_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

// TestQuarantine reads on behind an entry that is not what the tree has, names it, and takes it back
// once it is mended; what can't be told what it is counts too.
func TestQuarantine(t *testing.T) {
	onBoth(t, func(w *world) {
		w.recheck = 50 * time.Millisecond
		w.add(20)
		w.log.Append([]byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`))
		w.add(20)
		if w.version == rekor.Version2 {
			w.log.Inject(logtest.Fault{Path: "tile/entries", Count: -1, Tamper: func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"number":7}`), []byte(`"number":8}`), 1)
			}})
		} else {
			was, altered := w.log.Bodies()[7], w.log.Bodies()[8]
			w.log.Inject(logtest.Fault{Path: "log/entries", Count: -1, Tamper: func(b []byte) []byte {
				return bytes.Replace(b, encoded(w.T, was), encoded(w.T, altered), 1)
			}})
		}
		w.follow()
		w.awaitRead(41)
		s := w.shard()
		if s.Quarantined != 2 || s.FirstBad != 7 || s.VerifiedThrough() != 6 || s.Unsearched != 39 {
			w.Errorf("%+v", s)
		}
		bad, err := w.store.Quarantine(w.Context(), s.ID, -1, 10)
		w.ok(err)
		if len(bad) != 2 || bad[0].Index != 7 || bad[0].Proven || !strings.Contains(bad[0].Words, "not those that the tree has") || bad[1].Index != 20 || !bad[1].Proven {
			w.Errorf("in quarantine: %+v", bad)
		}
		w.log.Heal()
		w.await("mended", func() bool { s := w.shard(); return s.Quarantined == 1 && s.VerifiedThrough() == 40 })
		w.wantCalm()
	})
}

// TestQuarantineIsLong: those behind a thousand that stay there are asked for again too.
func TestQuarantineIsLong(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.recheck = 50 * time.Millisecond
	for range 1001 {
		w.log.Append([]byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`))
	}
	w.add(1)
	w.alter(w.log, `"number":1001}`)
	w.follow()
	w.awaitRead(1002)
	if s := w.shard(); s.Quarantined != 1002 || s.FirstBad != 1001 {
		t.Errorf("%+v", s)
	}
	w.log.Heal()
	w.await("mended", func() bool { return w.shard().VerifiedThrough() == 1001 })
}

// TestMendedAndNotTold: of what is mended in two pieces, what can't be told what it is stays known.
func TestMendedAndNotTold(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.recheck = 50 * time.Millisecond
	w.add(3)
	w.log.Append([]byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`))
	var whole atomic.Bool
	w.log.Inject(logtest.Fault{Path: "tile/entries", Count: -1, Tamper: func(b []byte) []byte {
		if !whole.Load() {
			return nil
		}
		return bytes.Replace(b, []byte(`"number":1}`), []byte(`"number":2}`), 1)
	}})
	w.follow()
	w.awaitRead(4)
	whole.Store(true)
	w.await("three mended", func() bool { return w.shard().Quarantined == 2 })
	w.log.Heal()
	w.await("all mended", func() bool { return w.shard().VerifiedThrough() == 3 })
	if s := w.shard(); s.Quarantined != 1 {
		t.Errorf("%+v", s)
	}
}

// alter has a v2 log serve another entry in place of that with such an end.
func (w *world) alter(log *logtest.Log, end string) {
	log.Inject(logtest.Fault{Path: "tile/entries", Count: -1, Tamper: func(b []byte) []byte {
		return bytes.Replace(b, []byte(end), bytes.ToUpper([]byte(end)), 1)
	}})
}

// TestQuarantineOfClosedShard: what is in quarantine is asked for again also where another shard
// has taken over.
func TestQuarantineOfClosedShard(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.add(20)
	w.alter(w.log, `"number":7}`)
	next, err := logtest.NewV2("next.test")
	w.ok(err)
	next.Append([]byte(`{"apiVersion":"0.0.1","kind":"other"}`))
	for _, log := range []*logtest.Log{w.log, next} {
		reader, err := rekor.NewV2Reader(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}})
		w.ok(err)
		w.sources = append(w.sources, watch.Source{Log: reader})
	}
	w.recheck = 50 * time.Millisecond
	w.follow()
	w.await("the shard is closed", func() bool { return w.shard().Closed })
	if s := w.shard(); s.Next != 20 || s.Quarantined != 1 {
		t.Fatalf("%+v", s)
	}
	w.log.Heal()
	w.await("mended", func() bool { return w.shard().VerifiedThrough() == 19 })
}
