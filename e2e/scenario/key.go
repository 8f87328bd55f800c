package scenario

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// KeyIsDeterministic prints the keys of envelopes that say the same, and of others; vectors
// are the golden ones (name, payloadType, payload, key).
func KeyIsDeterministic(t *testing.T, s *Site, vectors []byte) {
	m := s.machine()
	keyOf := func(envelope []byte) string {
		t.Helper()
		r := m.Run("key", s.write("envelope.json", envelope))
		key, _, found := strings.Cut(r.Stdout, "  ")
		if r.Code != 0 || !found {
			t.Fatalf("lodge key: exit status %d\n%s%s\n%s", r.Code, r.Stdout, r.Stderr, envelope)
		}
		return key
	}
	statement := s.statement(1)
	var v map[string]any
	if err := json.Unmarshal(statement, &v); err != nil {
		t.Fatal(err)
	}
	// encoding/json writes plain ASCII in the order and form of RFC 8785.
	want := fmt.Sprintf("sha256:%x", sha256.Sum256(pae(s.encode(v))))
	plain := s.envelope(statement, s.Signer.Signer, sha256Opts)
	for name, envelope := range map[string][]byte{
		"itself":         plain,
		"signed anew":    s.envelope(statement, s.Signer.Signer, sha256Opts),
		"of another key": s.envelope(statement, newSigner(t).Signer, sha256Opts),
		"formatted":      s.envelope(s.reformatted(statement), s.Signer.Signer, sha256Opts),
		"by lodge sign":  s.readFile(m.sign(statement)),
		"in a bundle":    s.readFile(newAuthority(t).bundle(s, statement, time.Now(), false)),
		"URL-safe base64": s.encode(map[string]any{
			"signatures": []any{map[string]any{"sig": "AAAA"}}, "payload": base64.RawURLEncoding.EncodeToString(statement), "payloadType": payloadType,
		}),
	} {
		if got := keyOf(envelope); got != want {
			t.Errorf("%s: key %s, want %s", name, got, want)
		}
	}
	if keyOf(s.envelope(s.statement(2), s.Signer.Signer, sha256Opts)) == want {
		t.Error("another statement has the same key")
	}
	var golden []struct{ Name, PayloadType, Payload, Key string }
	if err := json.Unmarshal(vectors, &golden); err != nil || len(golden) == 0 {
		t.Fatalf("%d vectors: %v", len(golden), err)
	}
	for _, g := range golden {
		payload := []byte(g.Payload)
		if encoded, is := strings.CutPrefix(g.Payload, "base64:"); is {
			payload = must(base64.StdEncoding.DecodeString(encoded))(t)
		}
		envelope := map[string]any{"payloadType": g.PayloadType, "payload": payload, "signatures": []any{map[string]any{"sig": "AAAA"}}}
		if got := keyOf(s.encode(envelope)); got != g.Key {
			t.Errorf("%s: key %s, want %s", g.Name, got, g.Key)
		}
	}
}

// must returns v, or ends the test.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
