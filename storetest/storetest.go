// Package storetest is the contract of package store as a test suite, run on each
// database that it speaks, and hands out PostgreSQL databases to other tests.
//
// It is for tests alone, and may import the root package and package store.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// Database makes an empty database that is gone when the test ends, and returns its address.
type Database func(t testing.TB) (address string)

// Run tests that a store on such a database keeps its promises.
func Run(t *testing.T, database Database) {
	for name, test := range map[string]func(*world){
		"AcceptOnce": acceptOnce, "AcceptOnceAfterMany": acceptOnceAfterMany, "AcceptUnknownTarget": acceptUnknownTarget, "ScopesAddUp": scopesAddUp,
		"AcceptRace": acceptRace, "Cancelled": cancelled, "OneFailureIsItsOwn": oneFailureIsItsOwn,
		"LifeCycle": lifeCycle, "Fencing": fencing, "InterruptedSendIsUnknown": interruptedSendIsUnknown,
		"ClaimsNeverOverlap": claimsNeverOverlap, "OldestFirst": oldestFirst, "DoubtfulAlone": doubtfulAlone, "NextDue": nextDue,
		"FailureReachesDependents": failureReachesDependents, "LastRequirementReleases": lastRequirementReleases,
		"RequeueTakesRequirementsAlong": requeueTakesRequirementsAlong, "RequeueFences": requeueFences,
		"FailedBytesAreReplaced": failedBytesAreReplaced,
		"Deliveries":             deliveries, "Hold": hold, "GraverHold": graverHold, "Register": register, "RegisterRace": registerRace, "QueuedOnce": queuedOnce,
		"RequirementBlocks": requirementBlocks, "RequeueRace": requeueRace, "ReplaceRace": replaceRace,
		"ReplacedAgain": replacedAgain, "AttemptIsLeftAlone": attemptIsLeftAlone, "OlderThanItsRequirement": olderThanItsRequirement, "LockOrder": lockOrder, "LockOrderOfSigners": lockOrderOfSigners, "LockOrderOfBatches": lockOrderOfBatches,
		"LeafIndex": leafIndex, "Outbox": outbox, "OutboxRace": outboxRace,
		"Lease": lease, "LeaseRace": leaseRace, "Under": under,
		"PruneNothing": pruneNothing, "Prune": prune, "PrunedPayloadComesBack": prunedPayloadComesBack, "PruneSparesReaders": pruneSparesReaders,
		"Heads": heads, "HeadFrom": headFrom, "HeadsAnew": headsAnew, "Alarms": alarms, "Diverged": diverged, "DivergedAndMoved": divergedAndMoved, "Progress": progress, "OwnLeaves": ownLeaves, "PendingEntries": pendingEntries,
		"MigrationRace": migrationRace, "EventsCarryHints": eventsCarryHints, "GivenScopesNarrow": givenScopesNarrow, "PlainResubmissionWidens": plainResubmissionWidens,
		"EventsAreFound": eventsAreFound, "Rehint": rehint,
		"Timestamps": timestamps, "Cursor": cursor, "CursorRace": cursorRace, "Undelivered": undelivered, "DisabledCursor": disabledCursor,
		"Policies": policies, "PolicyRace": policyRace, "React": react, "ManyClaims": manyClaims, "Standing": standing, "Scoped": scoped,
	} {
		t.Run(name, func(t *testing.T) { test(&world{T: t, address: database(t)}) })
	}
}

// SQLite is a Database.
func SQLite(t testing.TB) string { return "sqlite:" + t.TempDir() + "/lodge.db" }

// Postgres is a Database, on the server at LODGE_TEST_POSTGRES or on this machine. The
// test is skipped where there is none, or fails where CI is set.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv("LODGE_TEST_POSTGRES")
	if server == "" {
		server = "postgres://postgres@127.0.0.1:5432/postgres"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open("pgx", server)
	if err == nil {
		err = db.PingContext(ctx)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no PostgreSQL: %v", err)
		}
		t.Skipf("no PostgreSQL (LODGE_TEST_POSTGRES names one): %v", err)
	}
	name := fmt.Sprintf("lodge_test_%d_%d", os.Getpid(), time.Now().UnixNano())
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// world is one database and what the tests do with it.
type world struct {
	*testing.T
	address string
}

var (
	log1  = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}
	log2  = lodge.Target{Name: "other", Kind: lodge.KindLog, Address: "https://other.example"}
	repo1 = lodge.Target{Name: "repo", Kind: lodge.KindRepository, Address: "oci://registry.example/app"}
	image = lodge.DigestOf([]byte("image"))

	toLog = []lodge.Order{{Target: log1}}
	// both orders a log delivery and a repository delivery that requires it.
	both = []lodge.Order{{Target: log1}, {Target: repo1, Subject: image, Requires: []int{0}}}
)

// open opens the database as one more process would.
func (w *world) open() *store.Store {
	w.Helper()
	s, err := store.Open(w.Context(), w.address)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.Error(err)
		}
	})
	for _, target := range []lodge.Target{log1, log2, repo1} {
		w.ok(s.Register(w.Context(), target))
	}
	return s
}

// ok fails the test where there is an error.
func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// equal fails the test where got, printed, is not what was wanted.
func (w *world) equal(what string, got, want any) {
	w.Helper()
	if !reflect.DeepEqual(got, want) {
		w.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func submission(name string) lodge.Submission {
	return lodge.Submission{
		Key: lodge.DigestOf([]byte(name)), Signer: lodge.KeySigner([]byte("key")),
		Raw: []byte("raw " + name), SPKI: []byte("spki"), Subjects: []lodge.Digest{image},
	}
}

func (w *world) accept(s *store.Store, sub lodge.Submission, orders ...lodge.Order) []lodge.Accepted {
	w.Helper()
	accepted, err := s.Accept(w.Context(), sub, orders, time.Now())
	w.ok(err)
	return accepted
}

// claim takes all that is due, loaded. With a lease of 0 it is due again at once.
func (w *world) claim(s *store.Store, target lodge.Target, lease time.Duration) []lodge.Job {
	w.Helper()
	now := time.Now()
	jobs, err := s.Claim(w.Context(), target.Address, lodge.PickDue, 1000, now, now.Add(lease))
	w.ok(err)
	for i := range jobs {
		w.ok(s.Load(w.Context(), &jobs[i]))
	}
	return jobs
}

// advance makes a transition; a live delivery is due again after the time given.
func (w *world) advance(s *store.Store, d lodge.Delivery, to lodge.State, due time.Duration, change lodge.Change) lodge.Delivery {
	w.Helper()
	now := time.Now()
	change.Delivery, change.From = d, d.State
	change.State, change.Due = to, now.Add(due)
	w.ok(s.Advance(w.Context(), change, now))
	return change.Delivery
}

// verify drives a claimed log delivery to its receipt.
func (w *world) verify(s *store.Store, d lodge.Delivery, index int64) (lodge.Delivery, lodge.Entry) {
	w.Helper()
	entry := lodge.Entry{Kind: "hashedrekord", Body: []byte("{}"), Receipt: lodge.LogReceipt{
		LogID: "ab", LogIndex: index, InclusionProof: &lodge.InclusionProof{}}}
	d.Receipt = &lodge.Receipt{Log: &entry.Receipt}
	return w.advance(s, d, lodge.Verified, 0, lodge.Change{Entry: &entry, Events: []lodge.Event{
		lodge.LogEvent(lodge.EntryLogged, d, time.Now()), lodge.LogEvent(lodge.InclusionVerified, d, time.Now())}}), entry
}

// events returns the short names of all events, and checks that their sequences grow.
func (w *world) events(s *store.Store) (names []string) {
	w.Helper()
	events, err := s.Events(w.Context(), 0, 100_000)
	w.ok(err)
	var last int64
	for _, e := range events {
		if e.Sequence <= last {
			w.Errorf("sequence %d comes after %d", e.Sequence, last)
		}
		last = e.Sequence
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(string(e.Type), "dev.lodge."), ".v1"))
	}
	return names
}
