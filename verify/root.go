// Package verify judges what comes in: which signature of a bundle counts and whose it is,
// and whether a bundle holds what it claims. It works offline.
//
// Certificates and timestamps are judged with sigstore-go against a Sigstore trusted root;
// log entries with package tlog. Whether an entry is about an envelope is the log's business:
// package rekor says so through [Trust.Bind] and [Voucher].
//
// Floor 2: it may import the root package, dsse, bundle, tlog, sigstore-go (but for its package
// verify: see transparent) and certificate-transparency-go.
package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// maxRoot bounds a trusted root's JSON, in bytes.
const maxRoot = 8 << 20

// Root is a Sigstore trusted root: certificate authorities, timestamp authorities and logs,
// each with the time in which it is believed.
type Root struct {
	material root.TrustedMaterial
	logs     []Log
}

// NewRoot returns the root that consists of material as it is now.
func NewRoot(material root.TrustedMaterial) *Root {
	return &Root{material: material, logs: logsOf(material)}
}

// ParseRoot reads a trusted_root.json (sigstore_trustroot.proto, media type version 0.1).
// Errors wrap lodge.ErrMalformed or lodge.ErrLimit.
func ParseRoot(raw []byte) (*Root, error) {
	if len(raw) > maxRoot {
		return nil, fmt.Errorf("%w: a trusted root of %d bytes (at most %d)", lodge.ErrLimit, len(raw), maxRoot)
	}
	material, err := root.NewTrustedRootFromJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: trusted root: %w", lodge.ErrMalformed, err)
	}
	return NewRoot(material), nil
}

// PublicRoot fetches the trusted root of the public Sigstore instance by TUF, or takes it
// from TUF's cache in the user's home.
func PublicRoot(ctx context.Context) (*Root, error) {
	options := tuf.DefaultOptions()
	options.Context = ctx
	material, err := root.FetchTrustedRootWithOptions(options)
	if err != nil {
		return nil, fmt.Errorf("the trusted root of the public Sigstore instance (give another with --trusted-root): %w", err)
	}
	return NewRoot(material), nil
}

// Log is a transparency log that a root names.
type Log struct {
	URL        string
	Version    int // of Rekor's protocol: 1 or 2
	Key        tlog.Key
	Start, End time.Time // when it signed; End is zero while it still does
}

// ValidAt tells whether the log is believed to have signed at t.
func (l Log) ValidAt(t time.Time) bool {
	return !t.Before(l.Start) && (l.End.IsZero() || !t.After(l.End))
}

// Logs returns the logs of the root, the newest first. A log with a key of a kind that
// signs no checkpoints is left out: nothing of it could be verified.
func (r *Root) Logs() []Log { return slices.Clone(r.logs) }

// logsOf finds out which protocol each log speaks. The root does not say, but a log's id does:
// a v2 log's is made of its origin, which is its host name, and a v1 log's of its key alone.
func logsOf(material root.TrustedMaterial) []Log {
	var logs []Log
	for id, l := range material.RekorLogs() {
		found := Log{URL: l.BaseURL, Start: l.ValidityPeriodStart, End: l.ValidityPeriodEnd}
		u, err := url.Parse(l.BaseURL)
		if err != nil {
			continue
		}
		if key, err := tlog.NewV1Key("", l.PublicKey); err == nil && key.LogID() == id {
			found.Version, found.Key = 1, key
		}
		for _, origin := range []string{u.Hostname(), u.Host} {
			if key, err := tlog.NewV2Key(origin, l.PublicKey); found.Version == 0 && err == nil && key.LogID() == id {
				found.Version, found.Key = 2, key
			}
		}
		if found.Version != 0 {
			logs = append(logs, found)
		}
	}
	slices.SortFunc(logs, func(a, b Log) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.URL, b.URL), cmp.Compare(a.Key.LogID(), b.Key.LogID()))
	})
	return logs
}

// Time returns the time that an RFC 3161 timestamp vouches for, where it is over signature
// and by one of the root's authorities while that was valid.
func (r *Root) Time(timestamp, signature []byte) (time.Time, error) {
	authorities := r.material.TimestampingAuthorities()
	if len(authorities) == 0 {
		return time.Time{}, errors.New("the trusted root names no timestamp authority")
	}
	var errs []error
	for _, a := range authorities {
		t, err := a.Verify(timestamp, signature)
		if err == nil {
			return t.Time, nil
		}
		errs = append(errs, err)
	}
	return time.Time{}, errors.Join(errs...)
}

// Signer verifies a certificate as of a time that is known from elsewhere, and says whom it
// stands for. It demands proof of the certificate's transparency where the root names CT
// logs (RFC 6962 section 3.3), as Sigstore's other verifiers do.
func (r *Root) Signer(cert *x509.Certificate, at time.Time) (lodge.Signer, error) {
	id, err := r.identity(cert, at)
	if err != nil {
		return "", err
	}
	return lodge.CertificateSigner(id.Identity, id.Issuer)
}

func (r *Root) identity(cert *x509.Certificate, at time.Time) (Identity, error) {
	chains := vouched(r.material, withoutSAN(cert), at)
	if len(chains) == 0 {
		return Identity{}, fmt.Errorf("no authority of the trusted root vouches for the certificate as of %s (it is valid from %s to %s)",
			stamp(at), stamp(cert.NotBefore), stamp(cert.NotAfter))
	}
	if len(r.material.CTLogs()) > 0 {
		if err := transparent(r.material, chains); err != nil {
			return Identity{}, fmt.Errorf("the certificate is in no CT log of the trusted root: %w", err)
		}
	}
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return Identity{}, fmt.Errorf("whom the certificate is for: %w", err)
	}
	if summary.Issuer == "" {
		return Identity{}, errors.New("the certificate does not say who vouched for the identity in it (Fulcio's issuer extension)")
	}
	return Identity{Identity: summary.SubjectAlternativeName, Issuer: summary.Issuer}, nil
}

// oidSAN is the subject alternative name (RFC 5280 section 4.2.1.6).
var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// withoutSAN returns the certificate for chain building. Fulcio puts identities that are
// neither mail address nor URI into a critical extension that crypto/x509 can't read, and
// that identity reads by itself.
func withoutSAN(cert *x509.Certificate) *x509.Certificate {
	c := *cert
	c.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions),
		func(oid asn1.ObjectIdentifier) bool { return oid.Equal(oidSAN) })
	return &c
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
