package oci_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/oci"
)

func TestNew(t *testing.T) {
	for name, address := range map[string]string{
		"registry.example/team/app":       "oci://registry.example/team/app",
		"oci://registry.example:5000/app": "oci://registry.example:5000/app",
	} {
		r, err := oci.New(name, oci.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if r.Address() != address {
			t.Errorf("%s: address %s, want %s", name, r.Address(), address)
		}
	}
	for _, name := range []string{"", "app", "registry.example/app:tag", "registry.example/App", "registry.example/app@sha256:" + strings.Repeat("a", 64)} {
		if _, err := oci.New(name, oci.Options{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one line", name, err)
		}
	}
}

// TestKeyTag holds the preimage fast: other instances compute it too.
func TestKeyTag(t *testing.T) {
	key, subject := lodge.DigestOf([]byte("key")), lodge.DigestOf([]byte("subject"))
	want := "lodge-" + lodge.DigestOf([]byte(key.String()+"\na via b\n"+subject.String())).Hex()
	if got := oci.KeyTag(key, "a via b", subject); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPlan checks the shape that cosign 3 looks for, and that it comes out the same again.
func TestPlan(t *testing.T) {
	s := newServer(t, true)
	att := s.attestation(1)
	intent, err := s.open(oci.Options{}).Plan(t.Context(), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "sha256:71c967901bd529880ff5dff8bab5a86ddcfb55325d2f9c9ccfd4c17eb6c0a982"
	if intent.Manifest.String() != golden {
		t.Errorf("manifest %s, want %s", intent.Manifest, golden)
	}
	if len(s.writes()) > 0 {
		t.Errorf("planning wrote %q", s.writes())
	}
	if _, err := publish(t.Context(), s.open(oci.Options{}), att, s.image); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(s.get(intent.Manifest.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"schemaVersion": 2.0,
		"mediaType":     manifestType,
		"artifactType":  bundle.MediaType,
		"config": map[string]any{
			"mediaType": "application/vnd.oci.empty.v1+json", "artifactType": bundle.MediaType, "size": 2.0,
			"digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
		},
		"layers": []any{map[string]any{
			"mediaType": bundle.MediaType, "size": float64(len(intent.Request)), "digest": lodge.DigestOf(intent.Request).String(),
		}},
		"subject": map[string]any{
			"mediaType": manifestType, "size": float64(len(s.get("latest"))), "digest": s.image.String(),
		},
		"annotations": map[string]any{
			"dev.lodge.key":                     att.Key.String(),
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": "https://openvex.dev/ns/v0.2.0",
			"org.opencontainers.image.created":  "1970-01-01T00:00:00Z",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

func TestSubjects(t *testing.T) {
	s := newServer(t, true)
	other := lodge.DigestOf([]byte("not there"))
	got, err := s.open(oci.Options{}).Subjects(t.Context(), []lodge.Digest{other, s.image})
	if err != nil || !slices.Equal(got, []lodge.Digest{s.image}) {
		t.Errorf("got %v, %v; want %s", got, err, s.image)
	}
	_, err = s.open(oci.Options{}).Plan(t.Context(), s.attestation(1), other)
	if e := lodge.Classify(err); e == nil || e.Class != lodge.ClassPermanent || e.Code != "subject-missing" {
		t.Errorf("planning for it: %v", err)
	}
}
