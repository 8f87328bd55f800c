package verify

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/tlog"
)

// judge judges one bundle, or one entry that comes alone.
type judge struct {
	Trust
	only    *int // the place of an entry that comes alone
	own     bool // its signature is under a key that nobody gave
	result  Result
	att     *bundle.Attestation
	stamped []time.Time // by timestamp authorities, verified
	logged  []time.Time // by logs, verified
}

func (j *judge) bundle(b *bundle.Bundle) {
	var err error
	if j.att, err = j.Signers.pick(b); err != nil {
		j.add(CheckSignature, j.only, Failed, "%v", err)
		return
	}
	j.signed()
	if len(b.Entries) == 0 {
		j.add(CheckInclusion, nil, Absent, "the bundle has no log entry")
	}
	j.conclude(j.result.Entries > 0 || len(b.Entries) == 0 && !j.hasLogs())
}

// alone judges an entry by what is in it.
func (j *judge) alone(e lodge.Entry) {
	b, key, err := j.read(e)
	if err == nil {
		err = named(e)
	}
	switch {
	case errors.Is(err, lodge.ErrNotFound):
		j.add(CheckSignature, j.only, Absent, "%v", err)
		j.add(CheckBinding, j.only, Failed, "no envelope is given, and nothing else says what the entry is about: give the bundle")
		j.att = &bundle.Attestation{Entries: []lodge.Entry{e}}
		j.entry(0)
	case err != nil:
		j.add(CheckBinding, j.only, Failed, "%v", err)
		return
	case key != nil:
		if j.att, err = b.SignedBy(key); err != nil {
			j.add(CheckSignature, j.only, Failed, "%v", err)
			return
		}
		j.own = !slices.ContainsFunc(j.Signers.Keys, func(k *dsse.PublicKey) bool { return bytes.Equal(k.SPKI, key.SPKI) })
		j.signed()
	default:
		if j.att, err = b.SignedByCertificate(); err != nil {
			j.add(CheckSignature, j.only, Failed, "%v", err)
			return
		}
		j.signed()
	}
	j.conclude(j.result.Entries > 0)
}

// named checks that a v1 entry is called what it is: the tree's id and the leaf's hash in hex,
// or the hash alone.
func named(e lodge.Entry) error {
	uuid, hash := e.Receipt.EntryUUID, e.Receipt.LeafHash.Hex()
	tree, ok := strings.CutSuffix(uuid, hash)
	if uuid != "" && (!ok || len(tree) != 0 && len(tree) != 16) {
		return fmt.Errorf("the answer calls it %.100q, and its leaf hash is %s", uuid, hash)
	}
	p := e.Receipt.InclusionProof
	if tree == "" || p == nil {
		return nil
	}
	origin, _, _ := strings.Cut(p.Checkpoint, "\n")
	id, known := tlog.Checkpoint{Origin: origin}.TreeID()
	if known && fmt.Sprintf("%016x", id) != tree {
		return fmt.Errorf("the answer calls it %.100q, and its checkpoint is of the tree %016x", uuid, id)
	}
	return nil
}

func (j *judge) read(e lodge.Entry) (*bundle.Bundle, *dsse.PublicKey, error) {
	if j.Signed == nil {
		return nil, nil, errors.New("nothing here can read entries")
	}
	return j.Signed(e)
}

// signed judges everything about an attestation whose signature verified.
func (j *judge) signed() {
	j.result.Key, j.result.Signer = j.att.Key, j.att.Signer
	j.add(CheckSignature, j.only, OK, "%s by the key %s", j.att.Algorithm, j.att.Signer)
	j.artifact()
	j.timestamps()
	for i := range j.att.Entries {
		if grade := j.entry(i); grade != Unlogged {
			j.result.holds(grade)
		}
	}
	// After the entries, for one of them may say when it was signed.
	j.identity(j.certificate())
}

func (j *judge) conclude(enough bool) {
	j.result.OK = enough && j.result.Failed() == nil
}

// add records a check and returns its outcome.
func (j *judge) add(name Name, entry *int, outcome Outcome, format string, args ...any) Outcome {
	j.result.Add(name, entry, outcome, format, args...)
	return outcome
}

func (j *judge) hasLogs() bool {
	return len(j.Logs)+len(j.LogKeys) > 0 || j.Signers.Root != nil && len(j.Signers.Root.logs) > 0
}

// artifact judges whether the file at hand is the one that was signed, or one that the
// statement is about.
func (j *judge) artifact() {
	m := j.att.Message
	switch {
	case j.Artifact == nil && m != nil:
		j.add(CheckArtifact, j.only, Absent, "no file is given: what was signed is known by its digest %x alone", m.Digest)
	case j.Artifact == nil:
	case m != nil && !bytes.Equal(digest(m.Hash, j.Artifact), m.Digest):
		j.add(CheckArtifact, j.only, Failed, "the file is not what was signed: its digest differs")
	case m == nil && !slices.Contains(j.att.Statement.Subjects, lodge.DigestOf(j.Artifact)):
		j.add(CheckArtifact, j.only, Failed, "the file %s is no subject of the statement", lodge.DigestOf(j.Artifact))
	default:
		j.add(CheckArtifact, j.only, OK, "%s", lodge.DigestOf(j.Artifact))
	}
}

func digest(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}

// timestamps judges the RFC 3161 timestamps. One by an authority that the root does not know
// does no harm beside one that it does.
func (j *judge) timestamps() {
	root := j.Signers.Root
	if len(j.att.Timestamps) == 0 {
		j.add(CheckTimestamp, j.only, Absent, "there is none")
		return
	}
	var refused []error
	for _, ts := range j.att.Timestamps {
		claimed, err := Imprint(ts, j.att.Signature)
		if err != nil {
			j.add(CheckTimestamp, j.only, Failed, "%v", err)
			continue
		}
		if root == nil {
			j.add(CheckTimestamp, j.only, Absent, "it claims %s and is over this signature; no trusted root to judge its authority by", stamp(claimed))
			continue
		}
		at, err := root.Time(ts, j.att.Signature)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		j.stamped = append(j.stamped, at)
		j.add(CheckTimestamp, j.only, OK, "signed by %s", stamp(at))
	}
	outcome := Failed
	if len(j.stamped) > 0 {
		outcome = Absent
	}
	for _, err := range refused {
		j.add(CheckTimestamp, j.only, outcome, "%v", err)
	}
}

// Imprint returns the time that an RFC 3161 timestamp claims, where it is over signature
// (section 2.4.2, messageImprint). Whether to believe it is for [Root.Time] to say.
func Imprint(ts, signature []byte) (time.Time, error) {
	t, err := timestamp.ParseResponse(ts)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("it can't be read: %w", err)
	case !t.HashAlgorithm.Available() || !bytes.Equal(digest(t.HashAlgorithm, signature), t.HashedMessage):
		return time.Time{}, errors.New("it is over something else than this signature")
	}
	return t.Time, nil
}

// certificate judges the certificate as of the times that were verified, and returns whose it is.
func (j *judge) certificate() (id Identity, known bool) {
	if len(j.att.Certificates) == 0 {
		why := "the signature is under a given key"
		if j.own {
			why = "the signature is under a bare key, which is in the entry"
		}
		j.add(CheckCertificate, j.only, Absent, "%s", why)
		return id, false
	}
	cert, err := leaf(j.att.Certificates)
	if err != nil {
		j.add(CheckCertificate, j.only, Failed, "%v", err)
		return id, false
	}
	if j.Signers.Root == nil {
		j.add(CheckCertificate, j.only, Absent, "no trusted root to judge it by: its key is the signer")
		return id, false
	}
	at, how := j.stamped, "a timestamp"
	if len(at) == 0 {
		at, how = j.logged, "the log"
	}
	if len(at) == 0 {
		at, how = []time.Time{time.Now()}, "the clock, for nothing that is verified says when it was signed"
	}
	id, err = j.Signers.certified(cert, at)
	if err == nil {
		j.result.Signer, err = lodge.CertificateSigner(id.Identity, id.Issuer)
	}
	if err != nil {
		outcome := Failed
		// Logs take any certificate. That nobody vouches for it takes nothing from the answer,
		// as long as nobody was asked for.
		if j.only != nil && j.Signers.Identities == nil {
			outcome = Absent
		}
		j.add(CheckCertificate, j.only, outcome, "%v (the time is from %s)", err, how)
		return id, false
	}
	j.add(CheckCertificate, j.only, OK, "%s (the time is from %s)", j.result.Signer, how)
	return id, true
}

// leaf reads the certificate that a chain begins with. A root in the chain is refused: it is
// for the verifier to have (sigstore_bundle.proto, x509_certificate_chain).
func leaf(chain [][]byte) (*x509.Certificate, error) {
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("it can't be read: %w", err)
		}
		if i > 0 && bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil {
			return nil, errors.New("the bundle brings its own root certificate, which a bundle must not")
		}
	}
	return x509.ParseCertificate(chain[0])
}

// identity judges whether who signed is who was asked for. id is of a certificate that holds,
// where one does.
func (j *judge) identity(id Identity, known bool) {
	certified := len(j.att.Certificates) > 0
	switch {
	case !certified && !j.own:
		j.add(CheckIdentity, j.only, OK, "it is the given key")
	case !certified && j.Signers.asked():
		j.add(CheckIdentity, j.only, Failed, "the entry is signed with another key, %s", j.att.Signer)
	case !certified:
		j.add(CheckIdentity, j.only, Absent, "the key is the entry's own, and none was given to compare it with")
	case !known && j.Signers.asked():
		j.add(CheckIdentity, j.only, Failed, "nobody who is trusted says whom the certificate is for")
	case !known:
		j.add(CheckIdentity, j.only, Absent, "the certificate's is not known")
	case j.Signers.Identities == nil:
		j.add(CheckIdentity, j.only, Absent, "nobody in particular was asked for: anybody may have signed whom an authority vouches for")
	case !slices.Contains(j.Signers.Identities, id):
		j.add(CheckIdentity, j.only, Failed, "it is signed by %q of %q", id.Identity, id.Issuer)
	default:
		j.add(CheckIdentity, j.only, OK, "it is who was asked for")
	}
}
