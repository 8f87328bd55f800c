package scenario

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/e2e/servers"
	"github.com/lodgehq/lodge/node"
)

// ReceiptCacheAvoidsNetwork pushes again within one process: no request and no write.
func ReceiptCacheAvoidsNetwork(t *testing.T, s *Site) {
	for _, r := range Registries {
		t.Run(r.Name, func(t *testing.T) {
			s := s.beside(t).With(r, servers.Login{})
			p := s.program(time.Hour)
			statement := s.statement(1)
			file := s.readFile(s.signed(statement))
			first := p.push(file)
			if first[0].Duplicate() || first[1].Duplicate() {
				t.Errorf("the first push: %+v", first)
			}
			again := [][]byte{file, s.envelope(s.reformatted(statement), s.Signer.Signer, sha256Opts)}
			p.unseen(func() {
				for range 10 {
					for _, envelope := range again {
						for i, d := range p.push(envelope) {
							if !d.Duplicate() || d.ID != first[i].ID {
								t.Errorf("pushed again: %+v", d)
							}
						}
					}
				}
			})
			before := p.traces()
			// The instruments do show what is no duplicate.
			p.push(s.envelope(s.statement(2), s.Signer.Signer, sha256Opts))
			if after := p.traces(); after.log == before.log || after.registry == before.registry || after.version == before.version {
				t.Errorf("another statement left no traces: %+v, before %+v", after, before)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		s := s.beside(t)
		p := s.program(time.Nanosecond)
		file := s.readFile(s.signed(s.statement(1)))
		first := p.push(file)
		requests := p.traces().log
		if d := p.push(file); !d[0].Duplicate() || d[0].Receipt.Log.LogIndex != first[0].Receipt.Log.LogIndex {
			t.Errorf("pushed again: %+v", d)
		}
		if n := p.traces().log - requests; n != 0 {
			t.Errorf("%d requests for what the store knows", n)
		}
	})
}

// program is a program with lodge in it.
type program struct {
	site  *Site
	node  *node.Node
	store string
	spy   *sql.Conn // a second connection to the store
	key   *dsse.PublicKey
}

// program opens a node and runs it until the end of the test.
func (s *Site) program(ttl time.Duration) *program {
	s.t.Helper()
	p := &program{site: s, store: filepath.Join(s.t.TempDir(), "lodge.db")}
	logKey, origin := s.Log.Trust()
	config := node.Config{
		Store:   "sqlite:" + p.store,
		Cache:   node.Cache{TTL: node.Duration(ttl)},
		Targets: map[string]node.Target{theLog: {Log: &node.Log{URL: s.Front.URL, Key: logKey, Origin: origin}}},
		Deliver: []string{theLog},
	}
	if s.Door != nil {
		config.Targets[theImages] = node.Target{OCI: &node.OCI{Repository: s.Door.Host + "/" + repository}}
		config.Deliver = append(config.Deliver, theImages)
	}
	var err error
	if p.node, err = node.Open(s.t.Context(), config); err != nil {
		s.t.Fatal(err)
	}
	if p.key, err = dsse.ParsePublicKey(s.readFile(s.Signer.Public)); err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- p.node.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			s.t.Errorf("running: %v", err)
		}
		if err := p.node.Close(); err != nil {
			s.t.Errorf("closing: %v", err)
		}
	})
	p.spyOn()
	return p
}

// spyOn opens the second connection.
func (p *program) spyOn() {
	t := p.site.t
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.store+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if p.spy, err = db.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// push pushes and wants all deliveries verified.
func (p *program) push(envelope []byte) []lodge.Accepted {
	t := p.site.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := p.node.Push(ctx, node.Submission{Envelope: envelope, Key: p.key})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range found {
		if d.State != lodge.Verified {
			t.Fatalf("%s is %s: %v", d.Target.Name, d.State, d.Err)
		}
	}
	return found
}

// unseen does work that must leave no traces. What runs beside it, such as the renewal of a lease,
// writes now and then; if something was written at each of many attempts, it was the work.
func (p *program) unseen(work func()) {
	t := p.site.t
	t.Helper()
	var before, after traces
	for range 50 {
		before = p.traces()
		work()
		if after = p.traces(); after == before {
			return
		}
		if after.log != before.log || after.registry != before.registry {
			break // nothing beside it asks anybody
		}
	}
	t.Errorf("it left traces: %+v, before %+v", after, before)
}

// traces are what can be seen of work from outside of lodge.
type traces struct {
	log, registry int       // requests
	version       int64     // grows when another connection changes the database
	wal           int64     // size of the write-ahead log
	written       time.Time // to it
}

func (p *program) traces() traces {
	t := p.site.t
	t.Helper()
	seen := traces{log: p.site.Front.Count(servers.Requests("", ""))}
	if p.site.Door != nil {
		seen.registry = p.site.Door.Count(servers.Requests("", ""))
	}
	if err := p.spy.QueryRowContext(t.Context(), "PRAGMA data_version").Scan(&seen.version); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.store + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	seen.wal, seen.written = info.Size(), info.ModTime()
	return seen
}
