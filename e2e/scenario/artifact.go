package scenario

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// ArtifactPushed reads what lodge attached to an image, byte by byte.
func ArtifactPushed(t *testing.T, s *Site) {
	for _, r := range Registries {
		t.Run(r.Name, func(t *testing.T) {
			s := s.beside(t).With(r, servers.Login{})
			statement := s.statement(1)
			d := s.machine().push(s.signed(statement))
			if d[1].Duplicate || d[1].Receipt.OCI == nil || d[1].Receipt.OCI.Subject != s.Image {
				t.Fatalf("the first push: %+v", d[1])
			}
			digest := d[1].Receipt.OCI.Digest
			if want := s.Door.Host + "/" + repository + "@" + digest; d[1].Receipt.OCI.Reference != want {
				t.Errorf("reference %q, want %q", d[1].Receipt.OCI.Reference, want)
			}
			s.wantOneArtifact(digest)
			s.wantManifest(digest, d[1].Key)
			s.wantBundle(s.Registry.Layer(repository, digest), statement, d[0])
			s.wantKeyTag(digest, d[1])
		})
	}
}

// wantOneArtifact fails the test unless the image has that artifact and no other.
func (s *Site) wantOneArtifact(digest string) {
	s.t.Helper()
	referrers := s.Registry.Referrers(repository, s.Image)
	if len(referrers) != 1 || referrers[0].Digest.String() != digest {
		s.t.Fatalf("listed: %v, want %s alone", referrers, digest)
	}
	// Pushed by digest: what a registry keeps besides is another one.
	pushed := s.Door.Exchanges(servers.Requests("PUT", "/manifests/sha256:"))
	if slices.ContainsFunc(pushed, func(e servers.Exchange) bool { return !strings.HasSuffix(e.Path, digest) }) {
		s.t.Errorf("pushed other manifests: %+v", pushed)
	}
	if s.Registry.Process != nil { // lodge keeps the list itself, in full
		if r := referrers[0]; r.ArtifactType != bundleType || r.Annotations["dev.sigstore.bundle.predicateType"] != predicateType {
			s.t.Errorf("listed as %+v", r)
		}
		if kept := s.Registry.Artifacts(repository); len(kept) != 1 || kept[0] != digest {
			s.t.Errorf("the registry keeps %q, want %s alone", kept, digest)
		}
	}
}

// wantManifest fails the test unless the manifest has the shape that cosign 3 writes, with
// the key and without a clock.
func (s *Site) wantManifest(digest, key string) {
	s.t.Helper()
	raw := s.Registry.Manifest(repository, digest)
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(raw)); got != digest {
		s.t.Errorf("manifest of digest %s at %s", got, digest)
	}
	type descriptor struct{ MediaType, ArtifactType, Digest string }
	var m struct {
		MediaType, ArtifactType string
		Config                  descriptor
		Layers                  []descriptor
		Subject                 descriptor
		Annotations             map[string]string
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		s.t.Fatal(err)
	}
	if m.MediaType != "application/vnd.oci.image.manifest.v1+json" || m.ArtifactType != bundleType ||
		m.Config.MediaType != "application/vnd.oci.empty.v1+json" || m.Config.ArtifactType != bundleType ||
		len(m.Layers) != 1 || m.Layers[0].MediaType != bundleType || m.Subject.Digest != s.Image {
		s.t.Errorf("manifest %s", raw)
	}
	for name, want := range map[string]string{
		"dev.lodge.key":                     key,
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": predicateType,
		"org.opencontainers.image.created":  "1970-01-01T00:00:00Z",
	} {
		if got := m.Annotations[name]; got != want {
			s.t.Errorf("annotation %s: %q, want %q", name, got, want)
		}
	}
}

// wantBundle fails the test unless raw is a Sigstore bundle of the statement with the log's
// entry and proof in it.
func (s *Site) wantBundle(raw, statement []byte, logged delivery) {
	s.t.Helper()
	var b struct {
		MediaType            string
		VerificationMaterial struct {
			PublicKey   *struct{ Hint string }
			TlogEntries []struct {
				LogIndex          string
				CanonicalizedBody []byte
				InclusionProof    struct {
					TreeSize   string
					Checkpoint struct{ Envelope string }
				}
			}
		}
		DSSEEnvelope struct {
			Payload    []byte
			Signatures []map[string]string
		}
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		s.t.Fatal(err)
	}
	material := b.VerificationMaterial
	if b.MediaType != bundleType || material.PublicKey == nil || string(b.DSSEEnvelope.Payload) != string(statement) {
		s.t.Errorf("bundle %s", raw)
	}
	// cosign finds no bundle whose signature names a key.
	if sigs := b.DSSEEnvelope.Signatures; len(sigs) != 1 || sigs[0]["keyid"] != "" || sigs[0]["sig"] == "" {
		s.t.Errorf("signatures %v", sigs)
	}
	if len(material.TlogEntries) != 1 {
		s.t.Fatalf("%d log entries in the bundle: %s", len(material.TlogEntries), raw)
	}
	entry, receipt := material.TlogEntries[0], logged.Receipt.Log
	body := s.wantReceipt(logged, s.hashOf(statement, sha256Opts))
	// ProtoJSON leaves zeros out.
	if cmp.Or(entry.LogIndex, "0") != strconv.FormatInt(receipt.LogIndex, 10) || string(entry.CanonicalizedBody) != string(body) ||
		entry.InclusionProof.Checkpoint.Envelope != receipt.InclusionProof.Checkpoint ||
		entry.InclusionProof.TreeSize != strconv.FormatInt(receipt.InclusionProof.TreeSize, 10) {
		s.t.Errorf("entry in the bundle: %+v\nreceipt: %+v\nbody in the log: %s", entry, receipt, body)
	}
}

// wantKeyTag fails the test unless the tag made of key, signer and subject is the artifact's.
func (s *Site) wantKeyTag(digest string, d delivery) {
	s.t.Helper()
	tag := fmt.Sprintf("lodge-%x", sha256.Sum256([]byte(d.Key+"\n"+d.Signer+"\n"+s.Image)))
	if !slices.Contains(s.Registry.Tags(repository), tag) {
		s.t.Fatalf("no tag %s in %q", tag, s.Registry.Tags(repository))
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(s.Registry.Manifest(repository, tag))); got != digest {
		s.t.Errorf("the tag %s is of %s, want %s", tag, got, digest)
	}
}

// RepushNoDuplicate publishes the same statement again in every way: to the registry with
// the log, and to the registry alone.
func RepushNoDuplicate(t *testing.T, s *Site) {
	for _, r := range Registries {
		for _, targets := range [][]string{{theLog, theImages}, {theImages}} {
			t.Run(r.Name+" "+strings.Join(targets, " and "), func(t *testing.T) {
				t.Parallel()
				s := s.beside(t).With(r, servers.Login{})
				s.repush(targets)
			})
		}
	}
}

func (s *Site) repush(targets []string) {
	statement := s.statement(1)
	m := s.machine()
	m.config.Deliver = targets
	file := s.signed(statement)
	first := m.push(file)
	again := func(name string, m *machine, file string) {
		s.t.Helper()
		s.wantExisting(m.push(file), first)
		s.wantOneArtifact(first[len(first)-1].Receipt.OCI.Digest)
		if s.t.Failed() {
			s.t.Fatalf("after the push of %s", name)
		}
	}
	anew, formatted := s.signed(statement), s.signed(s.reformatted(statement))
	again("the same", m, file)
	again("one signed anew", m, anew)
	again("one formatted and signed anew", m, formatted)
	again("the same from an empty store", m.fresh(), file)
	again("one signed anew from an empty store", m.fresh(), anew)
	again("one formatted and signed anew from an empty store", m.fresh(), formatted)
	if s.Registry.Process != nil {
		s.Registry.Restart()
		again("the same, with the registry restarted", m.fresh(), anew)
	}
	if len(targets) > 1 {
		s.wantEntry(statement)
	}
}

// ArtifactSurvivesFaults breaks each kind of request to a registry once, before it was
// applied and after: one artifact is there in the end, and listed.
func ArtifactSurvivesFaults(t *testing.T, s *Site) {
	for _, r := range Registries {
		for name, match := range map[string]servers.Match{
			"manifest": servers.Requests("PUT", "/manifests/sha256:"),
			"key tag":  servers.Requests("PUT", "/manifests/lodge-"),
			"blob":     servers.Requests("PUT", "/blobs/uploads/"),
		} {
			for how, act := range map[string]servers.Action{
				"503 before": servers.Answer(503, "try again later"), "503 after": servers.Applied(servers.Answer(503, "try again later")),
				"cut before": servers.Cut(), "cut after": servers.Applied(servers.Cut()),
			} {
				t.Run(strings.Join([]string{r.Name, name, how}, " "), func(t *testing.T) {
					t.Parallel()
					s := s.beside(t).With(r, servers.Login{})
					rule := s.Door.On(match, 1, act)
					m := s.machine()
					m.config.Deliver = []string{theImages}
					d := m.push(s.signed(s.statement(1)))
					if rule.Hits() != 1 {
						t.Errorf("nothing broke")
					}
					s.wantOneArtifact(d[0].Receipt.OCI.Digest)
					s.wantExisting(m.fresh().push(s.signed(s.statement(1))), d)
					s.wantOneArtifact(d[0].Receipt.OCI.Digest)
				})
			}
		}
	}
}
