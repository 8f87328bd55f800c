package verify

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/tlog"
)

// Trust is what a bundle is judged by.
type Trust struct {
	Signers Signers            // its Root's logs are trusted too
	Logs    []tlog.Key         // logs by key and origin
	LogKeys []crypto.PublicKey // logs by key alone, whatever their origin

	// Bind tells whether the body of a log entry is about an attestation: its content, its
	// signature, its key. Without it nothing binds, and no entry is accepted.
	Bind func(body []byte, att *bundle.Attestation) error
}

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "ok"
	Failed Outcome = "failed"
	Absent Outcome = "absent" // there is nothing to check, or nothing to check it by
)

// Name names a check.
type Name string

// The checks. Those from binding on are made for each entry.
const (
	CheckSignature   Name = "signature"   // over the envelope, under a key that counts
	CheckCertificate Name = "certificate" // chain, time, transparency, identity
	CheckTimestamp   Name = "timestamp"   // RFC 3161, over the signature
	CheckBinding     Name = "binding"     // the entry is of this envelope and signature
	CheckCheckpoint  Name = "checkpoint"  // signed by the log, and of the proof's tree
	CheckInclusion   Name = "inclusion"   // the entry is in that tree
	CheckSET         Name = "SET"         // v1: the log promised the entry, with its time
)

// Check is one check.
type Check struct {
	Name    Name    `json:"name"`
	Entry   *int    `json:"entry,omitempty"` // place of the log entry in the bundle
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// Result is what came of the checks.
type Result struct {
	Key     lodge.Key    `json:"key,omitzero"`
	Signer  lodge.Signer `json:"signer,omitempty"`
	Checks  []Check      `json:"checks"`
	Entries int          `json:"entries"` // how many log entries hold
	OK      bool         `json:"ok"`
}

// Bundle judges a Sigstore bundle or a bare envelope offline. It is OK when the signature
// counts, no check failed, and a log that is trusted has it; without any trusted log, an
// envelope without entries may do. An entry of an unknown log proves nothing and harms
// nothing.
//
// The error is for what can't be read at all; it wraps lodge.ErrMalformed or lodge.ErrLimit.
func Bundle(raw []byte, trust Trust) (Result, error) {
	b, err := bundle.Parse(raw)
	if err != nil {
		return Result{}, err
	}
	j := judge{Trust: trust}
	j.bundle(b)
	return j.result, nil
}

// judge judges one bundle.
type judge struct {
	Trust
	result  Result
	att     *bundle.Attestation
	stamped []time.Time // by timestamp authorities, verified
	logged  []time.Time // by logs, verified
}

func (j *judge) bundle(b *bundle.Bundle) {
	var err error
	if j.att, err = j.Signers.pick(b); err != nil {
		j.add(CheckSignature, nil, Failed, "%v", err)
		return
	}
	j.result.Key, j.result.Signer = j.att.Key, j.att.Signer
	j.add(CheckSignature, nil, OK, "%s by the key %s", j.att.Algorithm, j.att.Signer)
	j.timestamps()
	for i := range j.att.Entries {
		if j.entry(i) {
			j.result.Entries++
		}
	}
	j.certificate() // after the entries, for one of them may say when it was signed

	j.result.OK = j.result.Entries > 0 || len(b.Entries) == 0 && !j.hasLogs()
	for _, c := range j.result.Checks {
		j.result.OK = j.result.OK && c.Outcome != Failed
	}
	if len(b.Entries) == 0 {
		j.add(CheckInclusion, nil, Absent, "the bundle has no log entry")
	}
}

// add records a check and returns its outcome.
func (j *judge) add(name Name, entry *int, outcome Outcome, format string, args ...any) Outcome {
	reason := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	j.result.Checks = append(j.result.Checks, Check{Name: name, Entry: entry, Outcome: outcome, Reason: reason})
	return outcome
}

func (j *judge) hasLogs() bool {
	return len(j.Logs)+len(j.LogKeys) > 0 || j.Signers.Root != nil && len(j.Signers.Root.logs) > 0
}

// timestamps judges the RFC 3161 timestamps. One by an authority that the root does not know
// does no harm beside one that it does.
func (j *judge) timestamps() {
	root := j.Signers.Root
	if len(j.att.Timestamps) == 0 {
		j.add(CheckTimestamp, nil, Absent, "the bundle has none")
		return
	}
	if root == nil {
		j.add(CheckTimestamp, nil, Absent, "no trusted root to judge %d by", len(j.att.Timestamps))
		return
	}
	var refused []error
	for _, ts := range j.att.Timestamps {
		at, err := root.Time(ts, j.att.Signature)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		j.stamped = append(j.stamped, at)
		j.add(CheckTimestamp, nil, OK, "signed by %s", stamp(at))
	}
	outcome := Failed
	if len(j.stamped) > 0 {
		outcome = Absent
	}
	for _, err := range refused {
		j.add(CheckTimestamp, nil, outcome, "%v", err)
	}
}

// certificate judges the certificate as of the times that were verified.
func (j *judge) certificate() {
	switch {
	case len(j.att.Certificates) == 0:
		j.add(CheckCertificate, nil, Absent, "the signature is under a given key")
		return
	case j.Signers.Root == nil:
		j.add(CheckCertificate, nil, Absent, "no trusted root to judge it by: its key is the signer")
		return
	}
	at, how := j.stamped, "a timestamp"
	if len(at) == 0 {
		at, how = j.logged, "the log"
	}
	if len(at) == 0 {
		at, how = []time.Time{time.Now()}, "the clock"
	}
	signer, err := j.Signers.certified(j.att, at)
	if err != nil {
		j.add(CheckCertificate, nil, Failed, "%v (the time is from %s)", err, how)
		return
	}
	j.result.Signer = signer
	j.add(CheckCertificate, nil, OK, "%s (the time is from %s)", signer, how)
}

// entry judges a log entry, and tells whether it holds: it binds, and the log has it, or, as
// v1 logs alone do, has promised to.
func (j *judge) entry(i int) bool {
	e := j.att.Entries[i]
	key, err := j.logKey(e)
	if err != nil {
		j.add(CheckCheckpoint, &i, Absent, "%v", err)
		return false
	}
	bound, included, promised := j.bound(&i, e), j.included(&i, key, e), j.promised(&i, key, e)
	if bound == OK && promised == OK {
		j.logged = append(j.logged, time.Unix(e.Receipt.IntegratedTime, 0))
	}
	return bound == OK && (included == OK || included == Absent && promised == OK)
}

func (j *judge) bound(i *int, e lodge.Entry) Outcome {
	err := errors.New("nothing here can read entries")
	if j.Bind != nil {
		err = j.Bind(e.Body, j.att)
	}
	if err != nil {
		return j.add(CheckBinding, i, Failed, "%v", err)
	}
	return j.add(CheckBinding, i, OK, "log index %d", e.Receipt.LogIndex)
}

func (j *judge) promised(i *int, key tlog.Key, e lodge.Entry) Outcome {
	if len(e.SET) == 0 {
		return j.add(CheckSET, i, Absent, "the entry has none")
	}
	if err := verifySET(key, e); err != nil {
		return j.add(CheckSET, i, Failed, "%v", err)
	}
	return j.add(CheckSET, i, OK, "logged at %s", stamp(time.Unix(e.Receipt.IntegratedTime, 0)))
}

// included judges inclusion proof and checkpoint: the proof leads from the entry to a root, and
// the checkpoint is the log's signature on that root.
func (j *judge) included(i *int, key tlog.Key, e lodge.Entry) Outcome {
	p := e.Receipt.InclusionProof
	if p == nil {
		return j.add(CheckInclusion, i, Absent, "the entry has no inclusion proof")
	}
	if err := tlog.VerifyInclusion(tlog.LeafHash(e.Body), *p); err != nil {
		return j.add(CheckInclusion, i, Failed, "%v", err)
	}
	if p.Checkpoint == "" { // as v0.1 and v0.2 allowed
		return j.add(CheckInclusion, i, Absent, "the inclusion proof has no checkpoint, so nobody signed for its tree")
	}
	cp, err := key.Open([]byte(p.Checkpoint))
	switch {
	case err != nil:
		return j.add(CheckCheckpoint, i, Failed, "%v", err)
	case cp.Size != p.TreeSize || cp.Root != p.RootHash:
		return j.add(CheckCheckpoint, i, Failed, "it is for a tree of %d leaves with the root %s, and the proof for one of %d with %s",
			cp.Size, cp.Root, p.TreeSize, p.RootHash)
	}
	j.add(CheckCheckpoint, i, OK, "%s, %d leaves", cp.Origin, cp.Size)
	// v1 counts over all its shards, and its SET vouches for that; v2 has one index only.
	if _, v1 := cp.TreeID(); !v1 && e.Receipt.LogIndex != p.LogIndex {
		return j.add(CheckInclusion, i, Failed, "the entry claims to be leaf %d, and the proof is for leaf %d", e.Receipt.LogIndex, p.LogIndex)
	}
	return j.add(CheckInclusion, i, OK, "leaf %d of %d", p.LogIndex, p.TreeSize)
}

// logKey returns the key of the log that an entry claims to be of. A log's id commits to its
// key, and for v2 to its origin, so whatever else the entry says is checked by that.
func (j *judge) logKey(e lodge.Entry) (tlog.Key, error) {
	l := e.Receipt
	for _, k := range j.Logs {
		if k.LogID() == l.LogID {
			return k, nil
		}
	}
	if j.Signers.Root != nil {
		for _, known := range j.Signers.Root.logs {
			if known.Key.LogID() == l.LogID {
				return known.Key, j.inTime(known, e)
			}
		}
	}
	for _, public := range j.LogKeys {
		if k, err := tlog.NewV1Key("", public); err == nil && k.LogID() == l.LogID {
			return k, nil
		}
		if k, err := tlog.NewV2Key(l.Origin, public); err == nil && k.LogID() == l.LogID {
			return k, nil
		}
	}
	return tlog.Key{}, fmt.Errorf("the log %.100q with the id %.80q is not trusted: give --log-key or --trusted-root", l.Origin, l.LogID)
}

// inTime checks that the root believes the log at the time of the entry: the log's own time
// (v1), or that of a timestamp. Without either there is no time to hold against it.
func (j *judge) inTime(known Log, e lodge.Entry) error {
	times := j.stamped
	if e.Receipt.IntegratedTime > 0 {
		times = []time.Time{time.Unix(e.Receipt.IntegratedTime, 0)}
	}
	if len(times) > 0 && !slices.ContainsFunc(times, known.ValidAt) {
		return fmt.Errorf("the trusted root does not believe %s at %s", known.URL, stamp(times[0]))
	}
	return nil
}

// verifySET verifies a signed entry timestamp of Rekor v1: the log's signature over the
// RFC 8785 form of these four members.
func verifySET(key tlog.Key, e lodge.Entry) error {
	message := fmt.Sprintf(`{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":%d}`,
		base64.StdEncoding.EncodeToString(e.Body), e.Receipt.IntegratedTime, e.Receipt.LogID, e.Receipt.LogIndex)
	if !key.Verify([]byte(message), e.SET) {
		return errors.New("the log's signature over entry and time does not verify")
	}
	return nil
}
