package verify

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/ctutil"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/google/certificate-transparency-go/x509util"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// vouched returns the chains by which an authority of the root vouches for a certificate as of
// a time: from the certificate to the authority's root.
func vouched(material root.TrustedMaterial, cert *x509.Certificate, at time.Time) [][]*x509.Certificate {
	for _, authority := range material.FulcioCertificateAuthorities() {
		if chains, err := authority.Verify(cert, at); err == nil {
			return chains
		}
	}
	return nil
}

// transparent checks that a CT log of the root has promised the certificate that the chains
// begin with: a signed certificate timestamp in it verifies (RFC 6962 section 3.2), and is of a
// time in which the root believes that log.
//
// sigstore-go does the same in its package verify, which brings all of Rekor's models along;
// their regular expressions alone take as long to compile as a bundle to be judged.
func transparent(material root.TrustedMaterial, chains [][]*x509.Certificate) error {
	cert := chains[0][0]
	scts, err := x509util.ParseSCTsFromCertificate(cert.Raw)
	if err != nil {
		return fmt.Errorf("its signed certificate timestamps can't be read: %w", err)
	}
	precertificate, err := ctx509.ParseCertificate(cert.Raw)
	if err != nil {
		return err
	}
	logs := material.CTLogs()
	for _, chain := range chains {
		if len(chain) < 2 {
			continue
		}
		issuer, err := ctx509.ParseCertificate(chain[1].Raw)
		if err != nil {
			continue
		}
		for _, sct := range scts {
			log := logs[hex.EncodeToString(sct.LogID.KeyID[:])]
			if log == nil || !within(log, ct.TimestampToTime(sct.Timestamp)) {
				continue
			}
			if ctutil.VerifySCT(log.PublicKey, []*ctx509.Certificate{precertificate, issuer}, sct, true) == nil {
				return nil
			}
		}
	}
	return errors.New("none of its signed certificate timestamps verifies")
}

func within(log *root.TransparencyLog, t time.Time) bool {
	return (log.ValidityPeriodStart.IsZero() || !t.Before(log.ValidityPeriodStart)) &&
		(log.ValidityPeriodEnd.IsZero() || !t.After(log.ValidityPeriodEnd))
}
