package rekor_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

func TestV2CheckpointRefused(t *testing.T) {
	log, _, _ := newV2(t)
	log.Append(body(0))
	other, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	named, err := tlog.NewV2Key("other.test", log.Key().Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]tlog.Key{"another key": other.Key(), "another origin": named} {
		c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{key}, Leaves: &leaves{}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Find(t.Context(), attestation(t, 1), lodge.Intent{})
		if wantError(t, err, lodge.ClassHeld, "log-key"); !errors.Is(err, lodge.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, x := range []struct {
		fault logtest.Fault
		class lodge.Class
		code  string
	}{
		{logtest.Fault{Status: 200, Body: "<html>"}, lodge.ClassRetry, "checkpoint-malformed"},
		{logtest.Fault{Status: 404}, lodge.ClassHeld, "read-url"},
		{logtest.Fault{Status: 403}, lodge.ClassHeld, "unauthorized"},
		{logtest.Fault{Status: 501}, lodge.ClassHeld, "read-url"},
		{logtest.Fault{Status: 500}, lodge.ClassRetry, "server-error"},
		{logtest.Fault{Status: 400}, lodge.ClassHeld, "refused"},
		{logtest.Fault{Lose: true}, lodge.ClassRetry, "no-answer"},
		{logtest.Fault{Status: 200, Body: strings.Repeat("x", 1<<17)}, lodge.ClassRetry, "answer-too-large"},
	} {
		x.fault.Path = "checkpoint"
		log.Inject(x.fault)
		_, err := clientV2(t, log, &leaves{}).Find(t.Context(), attestation(t, 1), lodge.Intent{})
		wantError(t, err, x.class, x.code)
	}
}

// TestV2AbsurdCheckpoint: a log that signs a tree which nobody can have is not read for ever,
// and nothing of it is believed.
func TestV2AbsurdCheckpoint(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "log.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tlog.ParsePublicKey([]byte(vkey))
	if err != nil {
		t.Fatal(err)
	}
	key, err := tlog.NewV2Key("log.test", public)
	if err != nil {
		t.Fatal(err)
	}
	for size, code := range map[int64]string{1 << 40: "file-missing", 1 << 48: "file-missing", 1<<48 + 1: "checkpoint-malformed", 1<<63 - 1: "checkpoint-malformed"} {
		log, _, _ := newV2(t)
		log.Append(body(0))
		root := base64.StdEncoding.EncodeToString(make([]byte, 32))
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("log.test\n%d\n%s\n", size, root)}, signer)
		if err != nil {
			t.Fatal(err)
		}
		log.Inject(logtest.Fault{Path: "checkpoint", Status: 200, Body: string(signed), Count: -1})
		index := &leaves{}
		c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{key}, Leaves: index})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Find(t.Context(), attestation(t, 1), lodge.Intent{TreeSize: 1})
		wantError(t, err, lodge.ClassRetry, code)
		if n := log.Requests(""); n > 20 {
			t.Errorf("a tree of %d took %d requests", size, n)
		}
		if _, size, _ := index.LeafRange(t.Context(), ""); size != 0 {
			t.Errorf("%d leaves were indexed", size)
		}
	}
}

func TestV2Divergence(t *testing.T) {
	setup := func(t *testing.T) (*logtest.Log, *rekor.V2, *leaves, *bundle.Attestation) {
		log, c, index := newV2(t)
		for i := range 300 {
			log.Append(body(i))
		}
		att := attestation(t, 1)
		if _, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil {
			t.Fatal(err)
		}
		return log, c, index, att
	}
	t.Run("rolled back", func(t *testing.T) {
		log, c, index, att := setup(t)
		log.RollBack(200)
		for _, client := range []*rekor.V2{c, clientV2(t, log, index)} {
			_, err := client.Find(t.Context(), att, lodge.Intent{})
			wantError(t, err, lodge.ClassRetry, "checkpoint-old")
		}
		if _, size, _ := index.LeafRange(t.Context(), ""); size != 300 {
			t.Errorf("the index has %d leaves", size)
		}
	})
	for _, size := range []int{300, 301, 700} {
		t.Run(fmt.Sprintf("forked at %d", size), func(t *testing.T) {
			log, c, index, att := setup(t)
			fork := log.Fork(280)
			for i := 280; i < size; i++ {
				fork.Append(body(-i))
			}
			log.Replace(fork)
			_, err := c.Find(t.Context(), att, lodge.Intent{})
			wantError(t, err, lodge.ClassHeld, "diverged")
			var proof *tlog.ForkError
			if !errors.As(err, &proof) {
				t.Fatalf("no proof in %v", err)
			}
			for _, cp := range []tlog.Checkpoint{proof.Older, proof.Newer} {
				if _, err := log.Key().Open([]byte(cp.Note)); err != nil {
					t.Errorf("a head without the log's signature: %v", err)
				}
			}
			// A new process knows the leaves only.
			_, err = clientV2(t, log, index).Find(t.Context(), att, lodge.Intent{})
			wantError(t, err, lodge.ClassHeld, "diverged")
			if _, size, _ := index.LeafRange(t.Context(), ""); size != 300 {
				t.Errorf("the index has %d leaves", size)
			}
		})
	}
}

func TestV2MissingTile(t *testing.T) {
	log, c, _ := newV2(t)
	log.Append(body(0))
	log.Inject(logtest.Fault{Path: "tile/0/000", Status: 404, Count: 2}) // the partial tile and the full one
	_, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{})
	wantError(t, err, lodge.ClassRetry, "file-missing")
}

// TestV2ReadRedirected follows a redirection of what is read: it is verified anyway.
func TestV2ReadRedirected(t *testing.T) {
	log, c, _ := newV2(t)
	log.Append(body(0))
	moved := logtest.Fault{Path: "checkpoint", Status: 302, Header: http.Header{"Location": {logtest.URL + "/api/v2/checkpoint?again"}}, Count: 3}
	log.Inject(moved)
	if _, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{}); err != nil {
		t.Error(err)
	}
	moved.Count = -1
	log.Inject(moved)
	_, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{})
	wantError(t, err, lodge.ClassHeld, "wrong-address")
}

func TestV2BadTile(t *testing.T) {
	log, c, index := newV2(t)
	for i := range 300 {
		log.Append(body(i))
	}
	log.Inject(logtest.Fault{Path: "tile/0/000", Tamper: func(b []byte) []byte { b[0] ^= 1; return b }})
	_, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{})
	if wantError(t, err, lodge.ClassRetry, "bad-tile"); !strings.Contains(err.Error(), "tile/0/000") {
		t.Errorf("unnamed: %v", err)
	}
	if _, size, _ := index.LeafRange(t.Context(), ""); size != 0 {
		t.Errorf("%d leaves were indexed", size)
	}
	if _, err := c.Find(t.Context(), attestation(t, 1), lodge.Intent{}); err != nil {
		t.Error(err)
	}
}

// TestV2SyncCostsNewTiles counts requests: what was read is not read again.
func TestV2SyncCostsNewTiles(t *testing.T) {
	log, c, index := newV2(t)
	for i := range 5000 {
		log.Append(body(i))
	}
	att := attestation(t, 1)
	requests := func(c *rekor.V2) int {
		before := log.Requests("tile/0/")
		if _, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil {
			t.Fatal(err)
		}
		return log.Requests("tile/0/") - before
	}
	if n := requests(c); n != 20 {
		t.Errorf("reading 5,000 leaves took %d tiles of leaves", n)
	}
	if n := requests(c); n != 0 {
		t.Errorf("reading no new leaf took %d tiles", n)
	}
	log.Append(body(5000))
	if n := requests(c); n > 2 {
		t.Errorf("reading one new leaf took %d tiles", n)
	}
	for i := range 300 {
		log.Append(body(5001 + i))
	}
	if n := requests(clientV2(t, log, index)); n > 4 {
		t.Errorf("reading 300 new leaves in a new process took %d tiles", n)
	}
}

func TestV2LargeLog(t *testing.T) {
	log, _, _ := newV2(t)
	index := &leaves{}
	c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}, Leaves: index, MaxLeaves: 500})
	if err != nil {
		t.Fatal(err)
	}
	att := attestation(t, 1)
	intent := planV2(t, c, att)
	for i := range 400 {
		log.Append(body(i))
	}
	if _, err := clientV2(t, log, &leaves{}).Send(t.Context(), att, intent); err != nil { // at 400
		t.Fatal(err)
	}
	for i := range 600 {
		log.Append(body(401 + i))
	}
	found, err := c.Find(t.Context(), att, intent)
	if err != nil || found.Entry != nil {
		t.Errorf("%+v, %v", found, err)
	}
	if from, size, _ := index.LeafRange(t.Context(), ""); from != 768 || size != 1001 {
		t.Errorf("the index has [%d,%d)", from, size)
	}
	intent.TreeSize = 300 // the delivery knows that it was absent under 300
	found, err = c.Find(t.Context(), att, intent)
	if err != nil {
		t.Fatal(err)
	}
	wantProven(t, found.Entry, log.Key(), intent)
}

// TestV2LogGrownMuch has a log grow by more than is indexed while nobody looked: what was
// indexed is still found, so is what this store has sent, and the gap is stated.
func TestV2LogGrownMuch(t *testing.T) {
	log, _, _ := newV2(t)
	index := &leaves{}
	client := func() *rekor.V2 {
		c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}, Leaves: index, MaxLeaves: 500})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before, within := attestation(t, 1), attestation(t, 2)
	c := client()
	if _, err := c.Send(t.Context(), before, lodge.Intent{}); err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), within, lodge.Intent{})
	if err != nil || found.Entry != nil || found.TreeSize != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	intent := planV2(t, c, within)
	intent.TreeSize = found.TreeSize
	log.Append(body(0))
	if _, err := clientV2(t, log, &leaves{}).Send(t.Context(), within, intent); err != nil { // at 2
		t.Fatal(err)
	}
	for i := range 1000 {
		log.Append(body(1 + i))
	}
	for _, c := range []*rekor.V2{c, client()} {
		read := log.Requests("tile/0/")
		for _, want := range []struct {
			att    *bundle.Attestation
			intent lodge.Intent
			found  bool
		}{{before, lodge.Intent{}, true}, {attestation(t, 3), lodge.Intent{}, false}, {within, intent, true}} {
			found, err := c.Find(t.Context(), want.att, want.intent)
			if err != nil || (found.Entry != nil) != want.found {
				t.Errorf("%+v, %v, want found: %v", found, err, want.found)
			}
		}
		if from, size, _ := index.LeafRange(t.Context(), ""); from != 768 || size != 1003 {
			t.Errorf("the index has [%d,%d)", from, size)
		}
		if n := log.Requests("tile/0/") - read; n > 8 {
			t.Errorf("it took %d tiles of leaves", n)
		}
	}
}

// TestV2FindSharesFetches lets many ask while a fetch is under way: they share the next one.
func TestV2FindSharesFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, c, _ := newV2(t)
		log.Append(body(0))
		log.Inject(logtest.Fault{Path: "checkpoint", Stall: time.Second, Status: 200, Body: log.Checkpoint()}) // made before it arrives
		var group sync.WaitGroup
		find := func(att *bundle.Attestation, want bool) {
			group.Go(func() {
				found, err := c.Find(t.Context(), att, lodge.Intent{})
				if err != nil || (found.Entry != nil) != want {
					t.Errorf("%+v, %v", found, err)
				}
			})
		}
		find(attestation(t, 1), false)
		synctest.Wait() // the first fetch has begun; what is sent now is not in its checkpoint for sure
		for i := range 20 {
			att := attestation(t, 2+i)
			if _, err := clientV2(t, log, &leaves{}).Send(t.Context(), att, lodge.Intent{}); err != nil {
				t.Fatal(err)
			}
			find(att, true)
		}
		group.Wait()
		if n := log.Requests("checkpoint"); n != 2 {
			t.Errorf("21 searches fetched %d checkpoints", n)
		}
	})
}

// TestV2FindGivesUp checks that a caller who leaves takes nobody along, and leaves nothing running.
func TestV2FindGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, c, _ := newV2(t)
		log.Append(body(0))
		log.Inject(logtest.Fault{Path: "checkpoint", Stall: 10 * time.Second, Count: -1})
		var group sync.WaitGroup
		att := attestation(t, 1)
		for i := range 4 {
			group.Go(func() {
				ctx, cancel := contextFor(t, time.Duration(i+1)*4*time.Second)
				defer cancel()
				_, err := c.Find(ctx, att, lodge.Intent{})
				if i < 2 { // 4 s and 8 s are too short for a fetch of 10
					wantError(t, err, lodge.ClassRetry, "no-answer")
				}
			})
		}
		group.Wait()
		ctx, cancel := contextFor(t, 0)
		defer cancel()
		if _, err := c.Find(ctx, att, lodge.Intent{}); err == nil {
			t.Error("a search out of time succeeded")
		}
		synctest.Wait()
		log.Heal()
		if _, err := c.Find(t.Context(), att, lodge.Intent{}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestV2TwoProcesses lets two clients keep one index.
func TestV2TwoProcesses(t *testing.T) {
	log, a, index := newV2(t)
	b := clientV2(t, log, index)
	var group sync.WaitGroup
	for i := range 20 {
		att := attestation(t, i)
		if _, err := a.Send(t.Context(), att, lodge.Intent{}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*rekor.V2{a, b} {
			group.Go(func() {
				found, err := c.Find(t.Context(), att, lodge.Intent{})
				if err != nil || found.Entry == nil {
					t.Errorf("%+v, %v", found, err)
				}
			})
		}
	}
	group.Wait()
	found, err := b.Find(t.Context(), attestation(t, 99), lodge.Intent{})
	if _, size, _ := index.LeafRange(t.Context(), ""); err != nil || found.Entry != nil || size != 20 {
		t.Errorf("%+v, %v, %d leaves", found, err, size)
	}
}

// TestV2IndexAhead lets another process index an entry from a newer checkpoint than ours.
func TestV2IndexAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, a, index := newV2(t)
		log.Append(body(0))
		stale := logtest.Fault{Path: "checkpoint", Stall: time.Second, Status: 200, Body: log.Checkpoint()}
		log.Inject(stale)
		att := attestation(t, 1)
		var group sync.WaitGroup
		group.Go(func() {
			found, err := a.Find(t.Context(), att, lodge.Intent{})
			if err != nil || found.Entry == nil {
				t.Errorf("%+v, %v", found, err)
			}
		})
		synctest.Wait()
		b := clientV2(t, log, index)
		if _, err := b.Send(t.Context(), att, lodge.Intent{}); err != nil {
			t.Fatal(err)
		}
		if found, err := b.Find(t.Context(), att, lodge.Intent{}); err != nil || found.Entry == nil {
			t.Fatalf("%+v, %v", found, err)
		}
		group.Wait()
	})
}

// TestV2FindsFirstOfTwo has a log whose deduplication has forgotten.
func TestV2FindsFirstOfTwo(t *testing.T) {
	log, c, _ := newV2(t)
	att := attestation(t, 1)
	intent := planV2(t, c, att)
	for range 2 {
		if _, err := c.Send(t.Context(), att, intent); err != nil {
			t.Fatal(err)
		}
		log.Forget()
	}
	found, err := c.Find(t.Context(), att, intent)
	if err != nil {
		t.Fatal(err)
	}
	if n := log.Count(intent.LeafHash); n != 2 || found.Entry.Receipt.LogIndex != 0 {
		t.Errorf("of %d the one at %d was found", n, found.Entry.Receipt.LogIndex)
	}
}

// TestV2SentToEmptyLog: what was sent before the log had any entry is found after it has grown
// by more than is indexed, as is what was sent later.
func TestV2SentToEmptyLog(t *testing.T) {
	log, _, _ := newV2(t)
	index := &leaves{}
	c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}, Leaves: index, MaxLeaves: 500})
	if err != nil {
		t.Fatal(err)
	}
	att := attestation(t, 1)
	intent := planV2(t, c, att)
	absent, err := c.Find(t.Context(), att, intent)
	if err != nil || absent.Entry != nil {
		t.Fatalf("%+v, %v", absent, err)
	}
	intent.TreeSize = absent.TreeSize
	if _, err := clientV2(t, log, &leaves{}).Send(t.Context(), att, intent); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		log.Append(body(i))
	}
	found, err := c.Find(t.Context(), att, intent)
	if err != nil {
		t.Fatal(err)
	}
	wantProven(t, found.Entry, log.Key(), intent)
}
