package scenario

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	sigbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/lodgehq/lodge/e2e/servers"
)

const (
	certificateTime = 10 * time.Minute // that a certificate is valid, as Fulcio's are
	timeToAccept    = 8 * time.Second  // of it that is left when an envelope is pushed
)

// OutageOutlivesCertificate has the certificate of an envelope end while the log is down: it
// verifies once it is logged, for the timestamp that a real authority gave when it was
// accepted. Without one it fails before anything is sent.
func OutageOutlivesCertificate(t *testing.T, s *Site) {
	tsa := servers.StartTimestampAuthority(t)
	a := newAuthority(t)
	a.trust(s.Log, tsa)
	trusted := a.trustedRoot(s)
	push := func(n, code int, tsa ...string) (m *machine, file, stderr string) {
		m = s.machine()
		m.config.TrustedRoot, m.config.TSA = trusted, tsa
		file = a.bundle(s, s.statement(n), time.Now().Add(timeToAccept-certificateTime), false)
		_, r := m.exits(code, file, "--wait", "0")
		return m, file, r.Stderr
	}

	s.Log.Stop()
	stamped, file, _ := push(1, 3, tsa.URL)
	unstamped, _, _ := push(2, 3)
	_, _, stderr := push(3, 1, "http://127.0.0.1:1/nobody")
	s.wantOneLine(stderr, "timestamp authority http://127.0.0.1:1/nobody", "nothing was accepted", "push it again")
	tsa.Stop() // it is asked once
	s.awaitTime(time.Now().Add(timeToAccept + time.Second))
	s.Log.Start()

	// Pushed again, the bundle by itself could not be judged any more.
	found, _ := stamped.exits(0, file)
	if found[0].Signer != identity+" via "+issuer || found[0].State != "verified" || !found[0].Duplicate {
		t.Errorf("%+v", found[0])
	}
	s.wantEntry(s.statement(1))
	s.wantVerified(stamped, found[0].Key, trusted)

	found, _ = unstamped.exits(0, s.signed(s.statement(4)), "--key", s.Signer.Public) // takes along what waits
	if len(found) != 1 || found[0].State != "verified" {
		t.Errorf("%+v", found)
	}
	r := unstamped.Run("status")
	s.wantOneLine(r.Stdout, "failed", "RFC 3161 timestamp")
	if n := s.entries(s.hashOf(s.statement(2), sha256Opts)); n != 0 {
		t.Errorf("it was logged without a timestamp, %d times", n)
	}
}

// awaitTime waits until then.
func (s *Site) awaitTime(then time.Time) {
	s.t.Helper()
	if err := servers.Await(s.t.Context(), time.Until(then)+time.Minute, func(context.Context) error {
		if time.Now().Before(then) {
			return errors.New("it is not over")
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// wantVerified has the bundle of an envelope judged by lodge and by sigstore-go.
func (s *Site) wantVerified(m *machine, key, trusted string) {
	s.t.Helper()
	r := m.Run("bundle", key)
	if r.Code != 0 {
		s.t.Fatalf("lodge bundle: exit status %d\n%s", r.Code, r.Stderr)
	}
	file := s.write("lodged.sigstore.json", []byte(r.Stdout))
	if r = m.Run("verify", file, "--trusted-root", trusted, "--identity", identity, "--issuer", issuer); r.Code != 0 {
		s.t.Errorf("lodge verify: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, check := range []string{"timestamp", "certificate", "identity", "binding", "checkpoint", "inclusion"} {
		s.wantOneLine(r.Stdout, "ok ", check+" ")
	}
	if err := judgedBySigstore(file, trusted); err != nil {
		s.t.Errorf("sigstore-go: %v", err)
	}
}

func judgedBySigstore(file, trusted string) error {
	b, err := sigbundle.LoadJSONFromPath(file)
	if err != nil {
		return err
	}
	material, err := root.NewTrustedRootFromPath(trusted)
	if err != nil {
		return err
	}
	v, err := verify.NewVerifier(material, verify.WithSignedTimestamps(1), verify.WithTransparencyLog(1))
	if err != nil {
		return err
	}
	who, err := verify.NewShortCertificateIdentity(issuer, "", identity, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithCertificateIdentity(who)))
	return err
}

// trust adds a log of v2 and an authority for timestamps to the trusted root.
func (a *authority) trust(log Log, tsa *servers.TimestampAuthority) {
	a.t.Helper()
	leaf, last := tsa.Chain[0], len(tsa.Chain)-1
	a.others = append(a.others, &root.SigstoreTimestampingAuthority{
		Leaf: leaf, Intermediates: tsa.Chain[1:last], Root: tsa.Chain[last],
		ValidityPeriodStart: leaf.NotBefore, ValidityPeriodEnd: leaf.NotAfter, URI: tsa.URL,
	})
	file, origin := log.Trust()
	raw, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	id, err := servers.LogIDV2(origin, public)
	if err != nil {
		a.t.Fatal(err)
	}
	a.logs = map[string]*root.TransparencyLog{hex.EncodeToString(id): {
		BaseURL: fmt.Sprintf("http://%s", origin), ID: id, PublicKey: public, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
		ValidityPeriodStart: time.Now().Add(-time.Hour),
	}}
}
