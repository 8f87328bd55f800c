package verify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// entry judges a log entry: it binds, and the log has it, or, as v1 logs alone do, has promised
// to. An entry that comes alone binds to nothing where it does not hold what was signed.
func (j *judge) entry(i int) Grade {
	e, place := j.att.Entries[i], &i
	if j.only != nil {
		place = j.only
	}
	key, err := j.logKey(e)
	if err != nil {
		j.add(CheckCheckpoint, place, Absent, "%v", err)
		return Unlogged
	}
	bound := Absent
	if j.att.Signature != nil {
		bound = j.bound(place, e)
	}
	included, promised := j.included(place, key, e), j.promised(place, key, e)
	if bound != Failed && promised == OK {
		j.logged = append(j.logged, time.Unix(e.Receipt.IntegratedTime, 0))
	}
	switch {
	case bound == Failed:
		return Unlogged
	case included == OK:
		return Proven
	case included == Absent && promised == OK:
		return Promised
	}
	return Unlogged
}

func (j *judge) bound(i *int, e lodge.Entry) Outcome {
	err := errors.New("nothing here can read entries")
	if j.Bind != nil {
		err = j.Bind(e, j.att)
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
		// An ECDSA key has the same id in both versions; an origin is of the form of one only.
		if k, err := tlog.NewV2Key(l.Origin, public); err == nil && k.LogID() == l.LogID {
			return k, nil
		}
		if k, err := tlog.NewV1Key("", public); err == nil && k.LogID() == l.LogID {
			return k, nil
		}
	}
	return tlog.Key{}, fmt.Errorf("the log %.100q with the id %.80q is not trusted: give its key with --log-key, or --trusted-root", l.Origin, l.LogID)
}

// inTime checks that the root believes the log at the time of the entry: the log's own time
// (v1), or that of a timestamp. Without either there is no time to hold against it.
func (j *judge) inTime(known Log, e lodge.Entry) error {
	times := j.stamped
	if len(e.SET) > 0 && e.Receipt.IntegratedTime > 0 { // without its promise it is anybody's word
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
