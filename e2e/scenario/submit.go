package scenario

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

// SubmitCreatesEntry pushes an envelope of every kind of key and reads the entry in the log.
func SubmitCreatesEntry(t *testing.T, s *Site) {
	taken, refused := s.kinds()
	t.Run("group", func(t *testing.T) {
		for n, kind := range taken {
			t.Run(kind.Name, func(t *testing.T) {
				t.Parallel()
				s.beside(t).creates(kind, n)
			})
		}
		t.Run(refused.Name, func(t *testing.T) {
			t.Parallel()
			s.beside(t).refuses(refused, len(taken))
		})
	})
	s.wantSize(int64(len(taken)))
	certificates(t, s)
}

func (s *Site) creates(kind Kind, n int) {
	s.Signer = kind.Key(s.t)
	payload := s.statement(n)
	file := s.write("envelope.json", s.envelope(payload, s.Signer.Signer, kind.Opts))
	d := s.machine().push(file)[0]
	if d.Duplicate || d.Attempts != 1 || d.Receipt.Log == nil {
		s.t.Fatalf("the first push: %+v", d)
	}
	if sent := s.sent(); sent != 1 {
		s.t.Errorf("sent %d times", sent)
	}
	s.wantReceipt(d, s.hashOf(payload, kind.Opts))
}

// wantReceipt holds a receipt against what the log has.
func (s *Site) wantReceipt(d delivery, hash contentHash) (body []byte) {
	s.t.Helper()
	r := d.Receipt.Log
	bodies := s.Log.Bodies()
	if r.LogIndex >= int64(len(bodies)) {
		s.t.Fatalf("index %d of a log with %d entries", r.LogIndex, len(bodies))
	}
	body = bodies[r.LogIndex]
	if got := s.content(body); got != hash {
		s.t.Errorf("the entry is about %s, the envelope has %s", got, hash)
	}
	// RFC 6962 section 2.1: a leaf is hashed with a zero byte before it.
	leaf := fmt.Sprintf("sha256:%x", sha256.Sum256(append([]byte{0}, body...)))
	if r.LeafHash != leaf {
		s.t.Errorf("leaf hash %s, the log's is %s", r.LeafHash, leaf)
	}
	if s.Log.Version() == 1 && !strings.HasSuffix(r.EntryUUID, strings.TrimPrefix(leaf, "sha256:")) {
		s.t.Errorf("entry UUID %s of leaf %s", r.EntryUUID, leaf)
	}
	_, origin := s.Log.Trust()
	proof := r.InclusionProof
	if r.Origin != origin || proof == nil || proof.LogIndex != r.LogIndex || proof.TreeSize <= r.LogIndex ||
		!strings.HasPrefix(proof.Checkpoint, fmt.Sprintf("%s\n%d\n", origin, proof.TreeSize)) {
		s.t.Errorf("receipt %+v with proof %+v", r, proof)
	}
	return body
}

// refuses pushes what the log can't take: it fails for good, and nothing is sent.
func (s *Site) refuses(kind Kind, n int) {
	s.Signer = kind.Key(s.t)
	file := s.write("envelope.json", s.envelope(s.statement(n), s.Signer.Signer, kind.Opts))
	d, _ := s.machine().exits(1, file, "--key", s.Signer.Public)
	if len(d) != 1 || d[0].State != "failed" || d[0].Error == nil || d[0].Error.Class != "permanent" ||
		!strings.Contains(d[0].Error.Message, "Ed25519") {
		s.t.Errorf("%+v with error %+v", d, d[0].Error)
	}
	s.wantNothingSent()
}

// wantNothingSent fails the test where anything was submitted. A v1 log is searched by POST.
func (s *Site) wantNothingSent() {
	s.t.Helper()
	if posts := s.Front.Exchanges(s.submissions()); len(posts) != 0 {
		s.t.Errorf("something was sent: %+v", posts)
	}
}

// certificates pushes bundles under certificates, good ones and bad ones.
func certificates(t *testing.T, s *Site) {
	a := newAuthority(t)
	v2 := s.Log.Version() == 2
	now, longAgo := time.Now(), time.Now().Add(-time.Hour)
	for n, c := range []struct {
		name      string
		from      time.Time // of the certificate
		timestamp bool
		root      bool // lodge has the trusted root
		exit      int
		words     string // of the error
		class     string
	}{
		{name: "with a timestamp", from: now, timestamp: true, root: true},
		{name: "without a timestamp", from: now, root: true, exit: choose(v2, 1, 0), words: "RFC 3161 timestamp", class: "certificate"},
		{name: "expired", from: longAgo, root: true, exit: 2, words: "no authority of the trusted root vouches for the certificate"},
		{name: "expired, with a timestamp of today", from: longAgo, timestamp: true, root: true, exit: 2, words: "no authority of the trusted root vouches for the certificate"},
		{name: "expired, and no trusted root", from: longAgo, exit: 1, words: choose(v2, "RFC 3161 timestamp", "could not be verified"), class: "certificate"},
	} {
		t.Run("certificate "+c.name, func(t *testing.T) {
			s := s.beside(t)
			payload := s.statement(100 + n)
			file := a.bundle(s, payload, c.from, c.timestamp)
			m := s.machine()
			if c.root {
				m.config.TrustedRoot = a.trustedRoot(s)
			}
			before := s.Log.Size()
			found, r := m.exits(c.exit, file)
			switch c.exit {
			case 0:
				if found[0].Signer != identity+" via "+issuer {
					t.Errorf("signer %q", found[0].Signer)
				}
				s.wantReceipt(found[0], s.hashOf(payload, sha256Opts))
				s.wantSize(before + 1)
				return
			case 1:
				if e := found[0].Error; found[0].State != "failed" || e == nil || e.Class != c.class || !strings.Contains(e.Message, c.words) {
					t.Errorf("%+v with error %+v", found[0], e)
				}
			case 2:
				s.wantOneLine(r.Stderr, c.words)
			}
			s.wantNothingSent()
			s.wantSize(before)
		})
	}
}

func choose[T any](condition bool, a, b T) T {
	if condition {
		return a
	}
	return b
}
