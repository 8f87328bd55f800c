package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

var orders = []lodge.Order{{Target: target}}

// chunk is how many submissions are built in advance at a time.
const chunk = 4096

func open(address string) (*store.Store, error) {
	s, err := store.Open(context.Background(), address)
	if err != nil {
		return nil, err
	}
	return s, s.Register(context.Background(), target)
}

// parallel calls f for 0 … n-1 from several goroutines and returns the first error.
func parallel(callers, n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, callers)
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// accept has several callers accept envelopes, each its next one when the one before is
// durable, and returns how long that took.
func accept(s *store.Store, callers, size, n int) (time.Duration, error) {
	subs := make([]lodge.Submission, n)
	for i := range subs {
		subs[i] = submission(size)
	}
	begin := time.Now()
	err := parallel(callers, n, func(i int) error {
		_, err := s.Accept(context.Background(), subs[i], orders, time.Now())
		return err
	})
	return time.Since(begin), err
}

// acceptRate has callers accept envelopes into one store for that long.
func acceptRate(s *store.Store, callers, size int, span time.Duration) (float64, error) {
	var spent time.Duration
	count := 0
	for ; spent < span; count += chunk {
		took, err := accept(s, callers, size, chunk)
		if err != nil {
			return 0, err
		}
		spent += took
	}
	return float64(count) / spent.Seconds(), nil
}

// duplicateRate has callers submit again what is there already. written is how many bytes
// the process wrote to disks meanwhile.
func duplicateRate(s *store.Store, callers int, span time.Duration) (rate, written float64, err error) {
	ctx := context.Background()
	subs := make([]lodge.Submission, 2048)
	for i := range subs {
		subs[i] = submission(payload)
	}
	if err := parallel(callers, len(subs), func(i int) error {
		_, err := s.Accept(ctx, subs[i], orders, time.Now())
		return err
	}); err != nil {
		return 0, 0, err
	}
	before := writtenBytes()
	begin := time.Now()
	count := 0
	for time.Since(begin) < span {
		if err := parallel(callers, len(subs), func(i int) error {
			a, err := s.Accept(ctx, subs[i], orders, time.Now())
			if err == nil && a[0].New {
				err = fmt.Errorf("submission %d was made twice", i)
			}
			return err
		}); err != nil {
			return 0, 0, err
		}
		count += len(subs)
	}
	return float64(count) / time.Since(begin).Seconds(), writtenBytes() - before, nil
}

// inFlight is how many deliveries to a log are under way at a time, as in package deliver.
const inFlight = 1024

// lifeRate has callers accept envelopes while a worker claims them and takes each through
// sending to verified, as package deliver does: with the payload loaded, a request written
// ahead, a log entry, a receipt and its events.
func lifeRate(s *store.Store, callers int, span time.Duration) (float64, error) {
	var spent time.Duration
	count := 0
	for ; spent < span; count += chunk {
		subs := make([]lodge.Submission, chunk)
		for i := range subs {
			subs[i] = submission(payload)
		}
		begin := time.Now()
		var accepting error
		due := make(chan struct{}, chunk)
		go func() {
			accepting = parallel(callers, chunk, func(i int) error {
				_, err := s.Accept(context.Background(), subs[i], orders, time.Now())
				due <- struct{}{}
				return err
			})
			close(due)
		}()
		if err := deliverAll(s, due); err != nil {
			return 0, err
		}
		if accepting != nil {
			return 0, accepting
		}
		spent += time.Since(begin)
	}
	return float64(count) / spent.Seconds(), nil
}

// deliverAll claims and delivers as many as are said to be due.
func deliverAll(s *store.Store, due <-chan struct{}) error {
	ctx := context.Background()
	room := make(chan struct{}, inFlight)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range due {
		room <- struct{}{}
		n := 1
		for ; len(due) > 0 && len(room) < inFlight; n++ {
			<-due
			room <- struct{}{}
		}
		for n > 0 { // the claim may come a microsecond too early
			now := time.Now()
			jobs, err := s.Claim(ctx, target.Address, lodge.PickDue, n, now, now.Add(time.Minute))
			if err != nil {
				return err
			}
			n -= len(jobs)
			for _, job := range jobs {
				wg.Go(func() {
					if err := deliver(s, job); err != nil {
						failed.Store(&err)
					}
					<-room
				})
			}
		}
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// deliver takes a claimed delivery to verified. Sizes are those of a Rekor v2 log.
func deliver(s *store.Store, job lodge.Job) error {
	if err := s.Load(context.Background(), &job); err != nil {
		return err
	}
	if err := send(s, &job); err != nil {
		return err
	}
	return verify(s, job)
}

func send(s *store.Store, job *lodge.Job) error {
	now := time.Now()
	d := job.Delivery
	d.State, d.Due = lodge.Sending, now.Add(time.Minute)
	intent := lodge.Intent{Request: make([]byte, 500), LeafHash: lodge.Digest(bytes(32)), LogID: logID, ReadURL: target.Address, TreeSize: 1 << 20}
	err := s.Advance(context.Background(), lodge.Change{Delivery: d, From: job.State, Intent: &intent}, now)
	job.Delivery = d
	return err
}

func verify(s *store.Store, job lodge.Job) error {
	proof := lodge.InclusionProof{LogIndex: job.ID, TreeSize: 1 << 20, Hashes: make([]lodge.Digest, 20), Checkpoint: strings.Repeat("c", 250)}
	entry := lodge.Entry{Kind: "hashedrekord", Version: "0.0.2", Body: make([]byte, 500), Receipt: lodge.LogReceipt{
		Origin: "log.example", LogID: logID, LogIndex: job.ID, LeafHash: lodge.Digest(bytes(32)), InclusionProof: &proof}}
	d := job.Delivery
	d.State, d.Receipt = lodge.Verified, &lodge.Receipt{Log: &entry.Receipt}
	now := time.Now()
	return s.Advance(context.Background(), lodge.Change{Delivery: d, From: lodge.Sending, Entry: &entry, Events: []lodge.Event{
		lodge.LogEvent(lodge.EntryLogged, d, now), lodge.LogEvent(lodge.InclusionVerified, d, now)}}, now)
}

var logID = strings.Repeat("ab", 32)

// procNumber returns a number from a file of /proc/self, 0 where there is no such thing.
func procNumber(file, key string) float64 {
	text, err := os.ReadFile(filepath.Join("/proc/self", file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}

func writtenBytes() float64 { return procNumber("io", "write_bytes:") }

// peakMemory is the most memory that the process has had resident, in bytes.
func peakMemory() float64 { return procNumber("status", "VmHWM:") * 1024 }
