package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/lodgehq/lodge/verify"
)

// promised returns a certificate in which a CT log promises it, at a time (RFC 6962 section 3.2
// and 3.3).
func (w *world) promised(log *ecdsa.PrivateKey, at time.Time) *x509.Certificate {
	w.t.Helper()
	key := newKey(w.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: at.Add(-time.Minute), NotAfter: at.Add(time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, EmailAddresses: []string{identity},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}
	issue := func() *x509.Certificate {
		der := must[[]byte](w.t)(x509.CreateCertificate(rand.Reader, template, w.issuing, key.Public(), w.key))
		return must[*x509.Certificate](w.t)(x509.ParseCertificate(der))
	}
	tbs := issue().RawTBSCertificate
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
	issuerKey := sha256.Sum256(w.issuing.RawSubjectPublicKeyInfo)
	message := slices.Concat([]byte{0, 0}, stamp, []byte{0, 1}, issuerKey[:], []byte{byte(len(tbs) >> 16), byte(len(tbs) >> 8), byte(len(tbs))}, tbs, []byte{0, 0})
	digest := sha256.Sum256(message)
	sig := must[[]byte](w.t)(log.Sign(rand.Reader, digest[:], crypto.SHA256))
	id := logID(w.t, log)
	sct := slices.Concat([]byte{0}, id[:], stamp, []byte{0, 0, 4, 3, 0, byte(len(sig))}, sig)
	list := slices.Concat([]byte{0, byte(len(sct) + 2), 0, byte(len(sct))}, sct)
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: must[[]byte](w.t)(asn1.Marshal(list))})
	return issue()
}

func logID(t *testing.T, log *ecdsa.PrivateKey) [32]byte {
	t.Helper()
	return sha256.Sum256(public(t, log).SPKI)
}

// TestTransparency: a certificate counts when a CT log of the root has promised it, in its time.
func TestTransparency(t *testing.T) {
	w, log, other := newWorld(t), newKey(t), newKey(t)
	now := time.Now()
	id := logID(t, log)
	for _, tt := range []struct {
		name       string
		known      *ecdsa.PrivateKey // under the log's id
		start, end time.Time
		ok         bool
	}{
		{"promised", log, time.Time{}, time.Time{}, true},
		{"in its time", log, now.Add(-time.Hour), now.Add(time.Hour), true},
		{"before its time", log, now.Add(time.Hour), time.Time{}, false},
		{"after its time", log, time.Time{}, now.Add(-time.Hour), false},
		{"by another key", other, time.Time{}, time.Time{}, false},
	} {
		logs := map[string]*root.TransparencyLog{hex.EncodeToString(id[:]): {
			PublicKey: tt.known.Public(), ID: id[:], ValidityPeriodStart: tt.start, ValidityPeriodEnd: tt.end}}
		r := verify.NewRoot(material{VirtualSigstore: w.sigs, authority: &root.FulcioCertificateAuthority{Root: w.issuing}, ctlogs: logs})
		signer, err := r.Signer(w.promised(log, now), now)
		if (err == nil) != tt.ok || tt.ok && signer != certified || !tt.ok && !strings.Contains(err.Error(), "in no CT log") {
			t.Errorf("%s: %q, %v", tt.name, signer, err)
		}
	}
}
