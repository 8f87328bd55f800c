package lodge

import (
	"encoding/json"
	"strings"
	"time"
)

// The types of event that following a log leads to.
const (
	CheckpointUpdated  EventType = "dev.lodge.CheckpointUpdated.v1"  // a newer consistent checkpoint
	CheckpointDiverged EventType = "dev.lodge.CheckpointDiverged.v1" // proof that two checkpoints cannot both be true
	CheckpointRejected EventType = "dev.lodge.CheckpointRejected.v1" // older, stale, unsigned, wrong key or origin
	EntryObserved      EventType = "dev.lodge.EntryObserved.v1"      // a watch list matched an entry of somebody else
	DuplicateObserved  EventType = "dev.lodge.DuplicateObserved.v1"  // a second leaf of ours
)

// Why a target is held that only an operator can judge.
const (
	CodeLies       = "log-lies"    // it answered with something else than what was sent
	CodeDiverged   = "diverged"    // it signed two trees that can't both be its own
	CodeRolledBack = "rolled-back" // it has fewer entries than it once signed, and keeps to that
)

// TreeHead is a checkpoint that was verified.
type TreeHead struct {
	Size int64  `json:"size"`
	Root Digest `json:"root"`
	Note string `json:"note,omitempty"` // the signed note as served
}

// Shard is one shard of a log that is followed: what is relied on of it, and how far it was read.
type Shard struct {
	ID     int64  `json:"-"`
	Target string `json:"-"` // address of the log
	LogID  string `json:"logId"`
	Origin string `json:"origin"`
	URL    string `json:"url"` // where it is read

	Head   TreeHead  `json:"head"`               // the newest that is relied on; Size is -1 before the first
	Since  time.Time `json:"since,omitzero"`     // when that was first seen
	Looked time.Time `json:"looked,omitzero"`    // when the log last answered with one that is in order
	Closed bool      `json:"closed,omitempty"`   // another shard has taken over, and it was read to its end
	Trust  bool      `json:"resuming,omitempty"` // an operator takes what it serves next for its tree
	Anchor time.Time `json:"anchor,omitzero"`    // receipts from before are of a tree that was given up

	Checked time.Time `json:"checked,omitzero"` // when all receipts and the quarantine were last gone over

	First       int64   `json:"first"`       // leaves below were there before it was followed, and are not read
	Next        int64   `json:"next"`        // all leaves from First on and below were read
	Quarantined int64   `json:"quarantined"` // of them, those that could not be read, proven or told what they are
	FirstBad    int64   `json:"-"`           // the first that is not proven to be in the tree; -1 where there is none
	Unsearched  int64   `json:"unsearched"`  // of them, those of a kind that is not searched
	Speed       float64 `json:"speed"`       // leaves read a second, lately

	Cursor int64  `json:"-"` // sequence of the last event that was looked at for entries of our own
	Alarm  *Alarm `json:"alarm,omitempty"`
}

// Alarm is what is wrong with a log at present.
type Alarm struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// VerifiedThrough returns the index up to which every entry from First on was read and proven
// to be in the tree, First-1 where that is none.
func (s Shard) VerifiedThrough() int64 {
	if s.FirstBad >= 0 {
		return s.FirstBad - 1
	}
	return s.Next - 1
}

// Lag returns how many leaves are signed and not read yet.
func (s Shard) Lag() int64 { return max(0, s.Head.Size-s.Next) }

// Remaining estimates how long it takes to read them, 0 where there are none or nothing is known.
func (s Shard) Remaining() time.Duration {
	if s.Speed <= 0 {
		return 0
	}
	return time.Duration(float64(s.Lag()) / s.Speed * float64(time.Second))
}

// Own is a leaf that is ours.
type Own struct {
	Hash   Digest // of the leaf, or of what it is about
	Index  int64  // in the shard
	Key    Key
	Signer Signer
}

// Pending is a delivery whose entry may be in the log without our knowing it.
type Pending struct {
	ID      int64
	Attempt int
	State   State
	Due     time.Time
	Own            // what it will be; Index is not known
	LogID   string // of the shard that it was sent to
}

// Quarantined is a leaf that could not be read, or whose entry can't be told.
type Quarantined struct {
	Index  int64     `json:"index"`
	Proven bool      `json:"proven"` // it is in the tree; what it is can't be told
	Words  string    `json:"message"`
	Since  time.Time `json:"since"`
}

// Reading is what was read of a shard: leaves [From,To).
type Reading struct {
	From, To   int64
	Unsearched int64         // of them, those of a kind that is not searched for our own
	Bad        []Quarantined // of them, those that could not be read or checked
	Own        []Own         // entries of deliveries of this store
	Events     []Event       // about what was found
	Speed      float64       // leaves a second
}

// Divergence is proof against a log as it is kept.
type Divergence struct {
	Origin  string          `json:"origin"`
	LogID   string          `json:"logId"`
	Older   TreeHead        `json:"older"`
	Newer   TreeHead        `json:"newer"`
	View    string          `json:"view"` // where the newer one was seen
	Proof   json.RawMessage `json:"proof"`
	Time    time.Time       `json:"time"`
	Resumed time.Time       `json:"resumed,omitzero"` // when an operator went on in spite of it
}

// UpdatedEvent says that the log has a newer consistent checkpoint.
func UpdatedEvent(s Shard, head TreeHead, at time.Time) Event {
	return s.event(CheckpointUpdated, s.LogID, at, map[string]any{"checkpoint": head},
		Member{"logId", s.LogID}, Member{"root", head.Root}, Member{"size", head.Size})
}

// DivergedEvent says that the log has signed two trees that cannot both be its own.
func DivergedEvent(s Shard, d Divergence, at time.Time) Event {
	return s.event(CheckpointDiverged, s.LogID, at, map[string]any{"older": d.Older, "newer": d.Newer, "view": d.View, "proof": d.Proof},
		Member{"logId", s.LogID}, Member{"newerRoot", d.Newer.Root}, Member{"newerSize", d.Newer.Size},
		Member{"olderRoot", d.Older.Root}, Member{"olderSize", d.Older.Size})
}

// RejectedEvent says that the log serves a checkpoint that is not relied on. head is what
// that claims to be.
func RejectedEvent(s Shard, reason, words string, head TreeHead, at time.Time) Event {
	return s.event(CheckpointRejected, s.LogID, at, map[string]any{"reason": reason, "message": words, "checkpoint": head},
		Member{"logId", s.LogID}, Member{"reason", reason}, Member{"root", head.Root}, Member{"size", head.Size})
}

// ObservedEvent says that an entry matches a watch list. key is zero where its payload is not
// known; facts go into the event's data.
func ObservedEvent(s Shard, leaf Own, at time.Time, facts map[string]any) Event {
	return s.leafEvent(EntryObserved, leaf, at, facts)
}

// DuplicateEvent says that a leaf is a second one of ours.
func DuplicateEvent(s Shard, leaf Own, at time.Time) Event {
	return s.leafEvent(DuplicateObserved, leaf, at, map[string]any{"signer": leaf.Signer})
}

func (s Shard) leafEvent(t EventType, leaf Own, at time.Time, facts map[string]any) Event {
	subject := s.LogID
	if facts == nil {
		facts = map[string]any{}
	}
	facts["logIndex"], facts["leafHash"] = leaf.Index, leaf.Hash
	if !leaf.Key.IsZero() {
		subject, facts["key"] = leaf.Key.String(), leaf.Key
	}
	return s.event(t, subject, at, facts,
		Member{"leafHash", leaf.Hash}, Member{"leafIndex", leaf.Index}, Member{"logId", s.LogID})
}

func (s Shard) event(t EventType, subject string, at time.Time, facts map[string]any, members ...Member) Event {
	facts["logId"], facts["origin"], facts["target"] = s.LogID, s.Origin, s.Target
	data, err := json.Marshal(facts)
	if err != nil {
		panic(err) // strings, numbers and digests always marshal; a proof is JSON by the type that it comes from
	}
	return Event{ID: EventID(t, members...), Type: t, Source: strings.TrimSuffix(s.Target, "/") + "/" + s.LogID, Subject: subject, Time: at, Data: data}
}
