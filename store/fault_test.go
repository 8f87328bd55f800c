package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/storetest"
)

var (
	target = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}
	orders = []lodge.Order{{Target: target}}
)

func open(t *testing.T, address string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Register(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return s
}

func accept(t *testing.T, s *store.Store, name string, size int) error {
	t.Helper()
	sub := lodge.Submission{Key: lodge.DigestOf([]byte(name)), Signer: lodge.KeySigner([]byte("key")), Raw: make([]byte, size)}
	_, err := s.Accept(t.Context(), sub, orders, time.Now())
	return err
}

// holds fails the test unless there are n deliveries and n events.
func holds(t *testing.T, s *store.Store, n int) {
	t.Helper()
	d, err := s.Deliveries(t.Context(), lodge.Digest{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) != n || len(e) != n {
		t.Errorf("%d deliveries and %d events, want %d of each", len(d), len(e), n)
	}
}

// saysWhy fails the test unless err names the store and the cause in one line.
func saysWhy(t *testing.T, err error, store, cause string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), store) || !strings.Contains(err.Error(), cause) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line that names %s and %q", err, store, cause)
	}
}

func exec(t *testing.T, s *store.Store, statement string) {
	t.Helper()
	if err := s.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills a tiny database. What was refused left nothing, what was accepted
// is there, and the same store goes on when there is room again.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lodge.db")
	s := open(t, path)
	exec(t, s, "PRAGMA max_page_count = 120")
	accepted := 0
	var full error
	for accepted < 1000 {
		if full = accept(t, s, fmt.Sprint(accepted), 20_000); full != nil {
			break
		}
		accepted++
	}
	saysWhy(t, full, path, "full")
	holds(t, s, accepted)
	exec(t, s, "PRAGMA max_page_count = 100000")
	if err := accept(t, s, "with room again", 20_000); err != nil {
		t.Error(err)
	}
	holds(t, s, accepted+1)
}

// TestReadOnlyConnection has the writing connection take no writes, as one does that was
// opened while the file system was read-only: another one takes its place.
func TestReadOnlyConnection(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "lodge.db"))
	if err := accept(t, s, "a", 10); err != nil {
		t.Fatal(err)
	}
	exec(t, s, "PRAGMA query_only = 1")
	if err := accept(t, s, "a", 10); err != nil { // a duplicate writes nothing
		t.Error(err)
	}
	if err := accept(t, s, "b", 10); err != nil {
		t.Error(err)
	}
	holds(t, s, 2)
}

// TestBackendTerminated ends the store's connections to PostgreSQL, as a restart of the
// server does. Where an answer is lost, asking again tells.
func TestBackendTerminated(t *testing.T) {
	address := storetest.Postgres(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, address)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const n = 30
	for i := range n {
		if _, err := db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
		for tries := 0; ; tries++ {
			err := accept(t, s, fmt.Sprint(i), 10)
			if err == nil {
				break
			}
			saysWhy(t, err, u.Path, "")
			if tries == 20 {
				t.Fatalf("the connection does not come back: %v", err)
			}
		}
	}
	holds(t, s, n)
}

// TestLostCommit loses the answer to a COMMIT that was made: the call fails, rather than find its own
// delivery and take it for one that was there before. Asking again tells.
func TestLostCommit(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	var lose atomic.Bool
	u.Host = proxy(t, u.Host, func(answer []byte) bool {
		return bytes.Contains(answer, []byte("COMMIT\x00")) && lose.CompareAndSwap(true, false)
	})
	u.RawQuery = "sslmode=disable"
	s := open(t, u.String())
	lose.Store(true)
	saysWhy(t, accept(t, s, "a", 10), u.Path, "")
	if lose.Load() {
		t.Fatal("no COMMIT was seen")
	}
	if err := accept(t, s, "a", 10); err != nil {
		t.Error(err)
	}
	holds(t, s, 1)
}

// proxy returns the address of one to server, which ends a connection in place of an answer
// that cut says.
func proxy(t *testing.T, server string, cut func(answer []byte) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			go func() {
				defer near.Close()
				for answer := make([]byte, 1<<16); ; {
					n, err := far.Read(answer)
					if cut(answer[:n]) {
						return
					}
					if _, writeErr := near.Write(answer[:n]); err != nil || writeErr != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestStandby connects to a PostgreSQL that takes no writes, and later does: connections
// keep what they began with.
func TestStandby(t *testing.T) {
	address := storetest.Postgres(t)
	s := open(t, address)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	alter := func(readOnly string) {
		t.Helper()
		var name string
		err := db.QueryRow("SELECT current_database()").Scan(&name)
		if err == nil {
			_, err = db.Exec("ALTER DATABASE " + name + " SET default_transaction_read_only = " + readOnly)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	alter("on")
	if _, err := db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	if err := accept(t, s, "read-only", 10); err == nil {
		t.Error("a standby takes writes")
	}
	alter("off")
	for tries := 0; ; tries++ {
		err := accept(t, s, "writable", 10)
		if err == nil {
			break
		}
		saysWhy(t, err, "", "")
		if tries == 20 {
			t.Fatalf("what can be written again is not: %v", err)
		}
	}
	holds(t, s, 1)
}

func TestPasswordIsNotShown(t *testing.T) {
	for _, address := range []string{"postgres://lodge:secret@127.0.0.1:1/lodge", "postgres://lodge:secret@[bad/lodge", "postgres://lodge:secret@h:x/lodge"} {
		if _, err := store.Open(t.Context(), address); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
