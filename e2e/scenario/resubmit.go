package scenario

import (
	"os"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// ResubmitReturnsExisting pushes the same statement again in every way. The log had better
// be one that forgets what it has, for lodge must not need its memory.
func ResubmitReturnsExisting(t *testing.T, s *Site) {
	statement := s.statement(1)
	m := s.machine()
	file := m.sign(statement)
	first := m.push(file)
	if first[0].Duplicate {
		t.Fatalf("the first push: %+v", first)
	}
	// again pushes a file from a machine and wants the entry of the first push, with nothing sent.
	again := func(name string, file func(s *Site) string, from func(s *Site) *machine) {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.wantExisting(from(s).push(file(s)), first)
			if sent := s.sent(); sent != 1 {
				t.Errorf("sent %d times in all, want once", sent)
			}
			s.wantSize(1)
			s.wantEntry(statement)
		})
	}
	same := func(*Site) string { return file }
	here := func(s *Site) *machine { return m.in(s) }
	elsewhere := func(s *Site) *machine { return m.in(s).fresh() }
	otherNonce := func(s *Site) string { return s.signed(statement) }

	t.Run("twice in one process", func(t *testing.T) {
		s := s.in(t)
		lines := append(append(s.readFile(file), '\n'), s.readFile(file)...)
		found, _ := m.in(s).exits(0, s.write("two.jsonl", lines), "--key", s.Signer.Public)
		s.wantExisting(found, []delivery{first[0], first[0]})
		s.wantSize(1)
	})
	again("new process", same, here)
	again("without any cache", same, func(s *Site) *machine {
		if err := os.RemoveAll(m.Home + "/.cache"); err != nil {
			s.t.Fatal(err)
		}
		return here(s)
	})
	again("signed anew", otherNonce, here)
	again("formatted and signed anew", func(s *Site) string { return m.in(s).sign(s.reformatted(statement)) }, here)
	again("empty store", same, elsewhere)

	s.Log.Restart()
	again("log restarted", same, here)
	again("log restarted, signed anew", otherNonce, here)
	again("log restarted, empty store", same, elsewhere)
	if s.Log.Version() == 1 {
		again("empty store, signed anew: by the log's index", otherNonce, elsewhere)
	}
	for _, r := range Registries {
		t.Run("empty store, signed anew: by the key tag of "+r.Name, func(t *testing.T) {
			byKeyTag(s.beside(t).With(r, servers.Login{}))
		})
	}
}

// byKeyTag publishes in a registry, whose key tag leads a store that knows nothing to the log's
// entry: also where another signature and other white space make another leaf.
func byKeyTag(s *Site) {
	statement := s.statement(2)
	m := s.machine()
	first := m.push(s.signed(statement))
	size, sent := s.Log.Size(), s.sent()
	s.wantExisting(m.fresh().push(s.signed(statement)), first)
	s.wantExisting(m.fresh().push(s.signed(s.reformatted(statement))), first)
	if n := s.sent() - sent; n != 0 {
		s.t.Errorf("sent %d times more", n)
	}
	s.wantSize(size)
	s.wantEntry(statement)
}

// FreshStoreAdopts pushes from stores that know nothing: the bundle in the registry leads to
// the log's entry, and nothing is sent anywhere.
func FreshStoreAdopts(t *testing.T, s *Site) {
	for _, r := range Registries {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			s := s.beside(t).With(r, servers.Login{})
			statement := s.statement(1)
			m := s.machine()
			file := s.signed(statement)
			first := m.push(file)
			if first[0].Duplicate || first[1].Duplicate {
				t.Errorf("the first push: %+v", first)
			}
			written := func() int {
				return s.Door.Count(func(method, _ string) bool { return method != "GET" && method != "HEAD" })
			}
			sent, wrote := s.sent(), written()
			for name, file := range map[string]string{
				"the same envelope":        file,
				"signed anew":              s.signed(statement),
				"formatted, signed anew":   s.signed(s.reformatted(statement)),
				"the bundle out of lodge":  s.write("bundle.json", []byte(m.Run("bundle", first[0].Key).Stdout)),
				"the registry's own layer": s.write("layer.json", s.Registry.Layer(repository, first[1].Receipt.OCI.Digest)),
			} {
				d := m.fresh().push(file)
				s.wantExisting(d, first)
				if s.sent() != sent || written() != wrote {
					t.Errorf("%s: %d sent to the log, %d to the registry", name, s.sent()-sent, written()-wrote)
				}
			}
			s.wantEntry(statement)
		})
	}
}
