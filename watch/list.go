package watch

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
)

// List says which entries by others are to be told of.
type List struct {
	Identities []Identity
	Keys       [][]byte       // DER of public keys
	Digests    []lodge.Digest // of what was signed: a file, a payload, or the PAE of an envelope
	Ours       bool           // entries by others about payloads that were accepted here
}

// Identity is whom a certificate says that it is for. Nobody has judged that certificate:
// whoever logs an entry can have written it.
type Identity struct {
	Identity string // mail address or URI; with * at its end, what begins so
	Issuer   string // "" is any
}

// fact is why an entry is told of.
type fact struct {
	Kind  string `json:"kind"` // "identity", "key", "digest", "ours"
	Value string `json:"value"`
}

// match returns what of the list an entry is.
func (l List) match(c rekor.Claim) (facts []fact) {
	if len(l.Digests) > 0 && slices.Contains(l.Digests, c.About()) {
		facts = append(facts, fact{"digest", c.About().String()})
	}
	for _, v := range c.Verifiers {
		if len(l.Keys) > 0 {
			if spki := keyOf(v, l.Keys); spki != nil {
				facts = append(facts, fact{"key", string(lodge.KeySigner(spki))})
			}
		}
		if v.Certificate && l.mayName(v.DER) {
			if name := l.named(v.DER); name != "" {
				facts = append(facts, fact{"identity", name})
			}
		}
	}
	return facts
}

// keyOf returns which of the keys v is or certifies.
func keyOf(v rekor.Verifier, keys [][]byte) []byte {
	for _, key := range keys {
		if !v.Certificate && bytes.Equal(v.DER, key) || v.Certificate && bytes.Contains(v.DER, key) {
			return key
		}
	}
	return nil
}

// mayName tells whether a certificate holds the letters of an identity at all, which is known
// without parsing it: every form of a name has them as they are.
func (l List) mayName(der []byte) bool {
	for _, id := range l.Identities {
		if bytes.Contains(der, []byte(strings.TrimSuffix(id.Identity, "*"))) {
			return true
		}
	}
	return false
}

func (l List) named(der []byte) string {
	name, issuer, ok := identityOf(der)
	if !ok {
		return ""
	}
	for _, id := range l.Identities {
		prefix, open := strings.CutSuffix(id.Identity, "*")
		if (name == id.Identity || open && strings.HasPrefix(name, prefix)) && (id.Issuer == "" || id.Issuer == issuer) {
			return name
		}
	}
	return ""
}

func identityOf(der []byte) (name, issuer string, ok bool) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", "", false
	}
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return "", "", false
	}
	return summary.SubjectAlternativeName, summary.Issuer, true
}

// certified tells whether a certificate says who signed an entry.
func certified(c rekor.Claim) bool {
	return slices.ContainsFunc(c.Verifiers, func(v rekor.Verifier) bool { return v.Certificate })
}

// signersOf returns who an entry says has signed.
func signersOf(c rekor.Claim) (signers []lodge.Signer) {
	for _, v := range c.Verifiers {
		if !v.Certificate {
			signers = append(signers, lodge.KeySigner(v.DER))
			continue
		}
		if name, issuer, ok := identityOf(v.DER); ok {
			if signer, err := lodge.CertificateSigner(name, issuer); err == nil {
				signers = append(signers, signer)
				continue
			}
		}
		if cert, err := x509.ParseCertificate(v.DER); err == nil {
			signers = append(signers, lodge.KeySigner(cert.RawSubjectPublicKeyInfo))
		}
	}
	return signers
}
