package scenario

import (
	"bytes"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// CosignVerifies has cosign judge what lodge pushed, with and without the log still there.
func CosignVerifies(t *testing.T, s *Site) {
	cosign := servers.NewCosign(t)
	trusted := cosign.TrustedRoot(s.Log)
	for _, r := range Registries {
		t.Run(r.Name, func(t *testing.T) {
			login := servers.Login{User: "ci", Password: "secret"}
			s := s.beside(t).With(r, login)
			cosign := cosign.For(t)
			cosign.LogIn(s.Registry.Host, login)
			image := s.Registry.Host + "/" + repository + "@" + s.Image
			refused := func(why, publicKey, kind, trusted string) {
				t.Helper()
				if r := cosign.VerifyAttestation(image, publicKey, kind, trusted); r.Code == 0 {
					t.Errorf("cosign verifies %s: %s", why, r.Stdout)
				}
			}
			refused("an image without attestations", s.Signer.Public, predicateType, trusted)

			m := s.machine()
			m.LogIn(s.Door.Host, login)
			first := m.push(s.signed(s.statement(1)))
			s.wantCosign(cosign, image, predicateType, trusted)
			refused("with another key", newSigner(t).Public, predicateType, trusted)
			refused("another type", s.Signer.Public, "https://example.com/other", trusted)
			refused("without the log's key", s.Signer.Public, predicateType, cosign.TrustedRoot())

			// cosign's short name means the type without a version.
			const short = "https://openvex.dev/ns"
			m.push(s.signed(bytes.Replace(s.statement(2), []byte(`"`+predicateType+`","predicate"`), []byte(`"`+short+`","predicate"`), 1)))
			s.wantCosign(cosign, image, "openvex", trusted)

			s.wantExisting(m.fresh().push(s.signed(s.statement(1))), first)
			if n := len(s.Registry.Referrers(repository, s.Image)); n != 2 {
				t.Errorf("%d referrers, want 2", n)
			}
		})
	}
	t.Run("offline", func(t *testing.T) {
		s := s.beside(t).With(Registries[0], servers.Login{})
		s.machine().push(s.signed(s.statement(1)))
		s.Log.Stop()
		defer s.Log.Start()
		s.wantCosign(cosign.For(t), s.Registry.Host+"/"+repository+"@"+s.Image, predicateType, trusted)
	})
}

func (s *Site) wantCosign(cosign *servers.Cosign, image, kind, trusted string) {
	s.t.Helper()
	if r := cosign.VerifyAttestation(image, s.Signer.Public, kind, trusted); r.Code != 0 {
		s.t.Errorf("cosign verify-attestation --type %s: exit status %d\n%s", kind, r.Code, r.Stderr)
	}
}
