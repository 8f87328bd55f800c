package interop_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// dsseEntry is a request for a dsse 0.0.1 entry about a payload, as Rekor v1 takes it.
func dsseEntry(t *testing.T, key servers.KeyPair, payload string) []byte {
	t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	// DSSE v1.0 protocol, "Signature Definition".
	pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	digest := sha256.Sum256([]byte(pae))
	sig, err := key.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	envelope := encode(t, map[string]any{
		"payloadType": payloadType,
		"payload":     []byte(payload),
		"signatures":  []any{map[string]any{"sig": sig}},
	})
	return encode(t, map[string]any{"kind": "dsse", "apiVersion": "0.0.1", "spec": map[string]any{
		"proposedContent": map[string]any{"envelope": string(envelope), "verifiers": [][]byte{public}},
	}})
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// submit posts an entry and returns the answer's status, Location and body.
func submit(t *testing.T, log *servers.RekorV1, request []byte) (status int, location, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, log.URL+"/api/v1/log/entries", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), string(answer)
}

const statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"%064d"}}],` +
	`"predicateType":"https://example.com/verdict","predicate":{}}`

func TestRekorV1Serves(t *testing.T) {
	start := time.Now()
	log := servers.StartRekorV1(t, servers.RekorV1Config{})
	t.Logf("ready after %s", time.Since(start))
	key := servers.ECDSA(t, elliptic.P256())
	if n := log.Size(); n != 0 {
		t.Fatalf("a new log has %d entries", n)
	}
	request := dsseEntry(t, key, fmt.Sprintf(statement, 1))
	status, at, answer := submit(t, log, request)
	if status != http.StatusCreated {
		t.Fatalf("submitting: %d %s", status, answer)
	}
	if n := log.Size(); n != 1 {
		t.Errorf("size %d after one entry", n)
	}
	if !strings.Contains(answer, log.Origin+`\n1\n`) {
		t.Errorf("no checkpoint of %q with one entry in the answer: %s", log.Origin, answer)
	}
	if !strings.Contains(at, fmt.Sprintf("%016x", log.TreeID)) {
		t.Errorf("Location %q without the tree id %x", at, log.TreeID)
	}

	log.Restart()
	if status, again, answer := submit(t, log, request); status != http.StatusConflict || again != at {
		t.Errorf("submitting again: %d %s, Location %s, want %s", status, answer, again, at)
	}
	if status, _, answer := submit(t, log, dsseEntry(t, key, fmt.Sprintf(statement, 2))); status != http.StatusCreated {
		t.Errorf("another entry: %d %s", status, answer)
	}
	if n := log.Size(); n != 2 {
		t.Errorf("size %d after two entries", n)
	}
}

// TestCosignAttests has cosign sign, log and verify, so that a later refusal of what lodge
// pushed is not for want of a working cosign.
func TestCosignAttests(t *testing.T) {
	cosign := servers.NewCosign(t)
	log := servers.StartRekorV2(t, servers.RekorV2Config{})
	login := servers.Login{User: "ci", Password: "secret"}
	registry := servers.StartRegistry(t, login)
	cosign.LogIn(registry.Host, login)
	digest := registry.PushImage("app", "v1", "content")
	image := registry.Host + "/app@" + digest
	trusted := cosign.TrustedRoot(log)

	if r := cosign.Run("generate-key-pair"); r.Code != 0 {
		t.Fatalf("generate-key-pair: %d %s", r.Code, r.Stderr)
	}
	key, public := cosign.Home+"/cosign.key", cosign.Home+"/cosign.pub"
	if r := cosign.VerifyAttestation(image, public, "openvex", trusted); r.Code == 0 {
		t.Errorf("an image without attestations verifies: %s", r.Stdout)
	}
	predicate := t.TempDir() + "/vex.json"
	vex := `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/vex/1","author":"a","timestamp":"2026-01-01T00:00:00Z","version":1,` +
		`"statements":[{"vulnerability":{"name":"CVE-2023-0286"},"products":[{"@id":"pkg:oci/app"}],"status":"fixed"}]}`
	if err := os.WriteFile(predicate, []byte(vex), 0o600); err != nil {
		t.Fatal(err)
	}
	r := cosign.Run("attest", "--key", key, "--type", "openvex", "--predicate", predicate, "-y",
		"--signing-config", cosign.SigningConfig(log.URL, 2), "--trusted-root", trusted, image)
	if r.Code != 0 {
		t.Fatalf("attest: %d %s", r.Code, r.Stderr)
	}
	if n := log.Size(); n != 1 {
		t.Errorf("size of the log: %d", n)
	}
	referrers := registry.Referrers("app", digest)
	artifacts := registry.Artifacts("app")
	if len(referrers) != 1 || len(artifacts) != 1 || referrers[0].Digest.String() != artifacts[0] {
		t.Fatalf("referrers %v, artifacts %v, want the same one", referrers, artifacts)
	}
	if bundle := registry.Layer("app", artifacts[0]); !bytes.Contains(bundle, []byte("dsseEnvelope")) {
		t.Errorf("not a bundle: %s", bundle)
	}
	if r := cosign.VerifyAttestation(image, public, "openvex", trusted); r.Code != 0 {
		t.Errorf("verify-attestation: %d %s", r.Code, r.Stderr)
	}
	other := servers.ECDSA(t, elliptic.P256())
	if r := cosign.VerifyAttestation(image, other.Public, "openvex", trusted); r.Code == 0 {
		t.Errorf("verifies with another key: %s", r.Stdout)
	}
}
