package lodge

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// EventType is the type of an event, a CloudEvents type (docs/events.md).
type EventType string

// The types of event.
const (
	EntryQueued         EventType = "dev.lodge.EntryQueued.v1"         // accepted, before anything is sent
	EntryLogged         EventType = "dev.lodge.EntryLogged.v1"         // a log has it, leaf equal
	InclusionVerified   EventType = "dev.lodge.InclusionVerified.v1"   // inclusion proven under a verified checkpoint
	EntryFailed         EventType = "dev.lodge.EntryFailed.v1"         // failed for good
	AttemptFailed       EventType = "dev.lodge.AttemptFailed.v1"       // the first failed attempt of a delivery
	ArtifactPublished   EventType = "dev.lodge.ArtifactPublished.v1"   // a registry has it, listed for its subject
	TargetHeld          EventType = "dev.lodge.TargetHeld.v1"          // a target takes nothing, with the reason
	TargetResumed       EventType = "dev.lodge.TargetResumed.v1"       // a held target takes again
	ScopesAdded         EventType = "dev.lodge.ScopesAdded.v1"         // a resubmission brought scopes that the first had not
	ReanalysisRequested EventType = "dev.lodge.ReanalysisRequested.v1" // a policy is to look again
)

// EventTypes are all types of event.
var EventTypes = []EventType{EntryQueued, EntryLogged, InclusionVerified, EntryFailed, AttemptFailed, ArtifactPublished,
	TargetHeld, TargetResumed, ScopesAdded, CheckpointUpdated, CheckpointDiverged, CheckpointRejected, EntryObserved, DuplicateObserved,
	ReanalysisRequested}

// Name returns the type as people write it: EntryLogged.
func (t EventType) Name() string {
	return strings.TrimSuffix(strings.TrimPrefix(string(t), "dev.lodge."), ".v1")
}

// ParseEventType reads a type as a CloudEvents type or by its name.
func ParseEventType(s string) (EventType, error) {
	for _, t := range EventTypes {
		if s == string(t) || strings.EqualFold(s, t.Name()) {
			return t, nil
		}
	}
	return "", fmt.Errorf("there are no events of type %.100q (there are EntryLogged, InclusionVerified, …)", s)
}

// Event is something that happened. Its fields are the CloudEvents 1.0 attributes of
// the same names; Sequence is the store's and grows with each event.
type Event struct {
	ID       Digest
	Type     EventType
	Source   string // URI-reference: of the log, shard, repository or policy, else urn:lodge
	Subject  string // what it is about: a key, a target's address or a log id; order is kept per subject
	Sequence int64  // set by the store
	Time     time.Time
	Data     json.RawMessage
}

// Member is one of the facts that make an event what it is. Value is a string, an
// int64, a Digest or a Key.
type Member struct {
	Name  string
	Value any
}

// EventID returns the id of the event of type t that these members identify: SHA-256
// over the RFC 8785 form of {type, members}. The members must come in ascending order
// of name, all before or after "type" as their names sort. Whoever sees the same fact
// computes the same id.
func EventID(t EventType, members ...Member) Digest {
	var b strings.Builder
	b.WriteByte('{')
	previous := ""
	write := func(name, value string) {
		if name <= previous {
			panic(fmt.Sprintf("lodge: event members out of order: %q after %q", name, previous))
		}
		if previous != "" {
			b.WriteByte(',')
		}
		previous = name
		b.WriteString(quote(name) + ":" + value)
	}
	typed := false
	for _, m := range members {
		if !typed && m.Name > "type" {
			write("type", quote(string(t)))
			typed = true
		}
		write(m.Name, memberValue(m))
	}
	if !typed {
		write("type", quote(string(t)))
	}
	b.WriteByte('}')
	return sha256.Sum256([]byte(b.String()))
}

func memberValue(m Member) string {
	switch v := m.Value.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		return quote(v)
	case fmt.Stringer:
		return quote(v.String())
	default:
		panic(fmt.Sprintf("lodge: event member %s has type %T", m.Name, m.Value))
	}
}

// quote returns the RFC 8785 section 3.2.2.2 form of s: two-character escapes where
// JSON has them, \u00xx for the other control characters, everything else as it is.
func quote(s string) string {
	if plain(s) {
		return `"` + s + `"`
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "�") {
		switch i := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(`"\bfnrt`[i])
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// plain tells whether JSON writes s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// QueuedEvent says that d was accepted.
func QueuedEvent(d Delivery, at time.Time) Event {
	return deliveryEvent(EntryQueued, d, at, deliveryData(d),
		Member{"key", d.Key}, Member{"signer", string(d.Signer)}, Member{"target", d.Address()})
}

// FailedEvent says that an attempt of d failed: for good where t is EntryFailed, for
// the first time where t is AttemptFailed. d.Err says why.
func FailedEvent(t EventType, d Delivery, at time.Time) Event {
	return deliveryEvent(t, d, at, deliveryData(d),
		Member{"attempt", int64(d.Attempt)}, Member{"key", d.Key},
		Member{"signer", string(d.Signer)}, Member{"target", d.Address()})
}

// LogEvent says that the log has the entry of d's receipt (EntryLogged), or that its
// inclusion is proven (InclusionVerified); only the latter carries the proof.
func LogEvent(t EventType, d Delivery, at time.Time) Event {
	r := *d.Receipt.Log
	if t == EntryLogged {
		r.InclusionProof = nil
	}
	d.Receipt = &Receipt{Log: &r}
	e := deliveryEvent(t, d, at, deliveryData(d),
		Member{"leafHash", r.LeafHash}, Member{"leafIndex", r.LogIndex}, Member{"logId", r.LogID})
	e.Source = strings.TrimSuffix(d.Target.Address, "/") + "/" + r.LogID
	return e
}

// PublishedEvent says that a registry has the artifact of d's receipt.
func PublishedEvent(d Delivery, at time.Time) Event {
	return deliveryEvent(ArtifactPublished, d, at, deliveryData(d),
		Member{"manifest", d.Receipt.OCI.Digest}, Member{"repository", d.Target.Address})
}

// HoldEvent says that a target takes nothing for now (TargetHeld) or takes again
// (TargetResumed). Count is how often it was held so far.
func HoldEvent(t EventType, target Target, reason string, count int64, at time.Time) Event {
	data, _ := json.Marshal(map[string]any{"target": target, "reason": reason, "count": count})
	return Event{
		ID:   EventID(t, Member{"count", count}, Member{"reason", reason}, Member{"target", target.Address}),
		Type: t, Source: target.Address, Subject: target.Address, Time: at, Data: data,
	}
}

// ScopesEvent says that a resubmission of what is there has brought scopes that were not in
// effect before. They must be sorted; with more than MaxEventScopes the event shows ScopeAll.
func ScopesEvent(key Key, signer Signer, scopes []string, at time.Time) Event {
	data, err := json.Marshal(struct {
		Key    Key      `json:"key"`
		Signer Signer   `json:"signer"`
		Scopes []string `json:"scopes"`
	}{key, signer, shown(scopes)})
	if err != nil {
		panic(err) // strings and digests always marshal
	}
	added := DigestOf(list(scopes))
	return Event{
		ID:   EventID(ScopesAdded, Member{"key", key}, Member{"scopes", added}, Member{"signer", string(signer)}),
		Type: ScopesAdded, Source: "urn:lodge", Subject: key.String(), Time: at, Data: data,
	}
}

func deliveryEvent(t EventType, d Delivery, at time.Time, data []byte, members ...Member) Event {
	return Event{ID: EventID(t, members...), Type: t, Source: d.Target.Address, Subject: d.Key.String(), Time: at, Data: data}
}

func deliveryData(d Delivery) []byte {
	data, err := json.Marshal(struct {
		Key     Key      `json:"key"`
		Signer  Signer   `json:"signer"`
		Target  Target   `json:"target"`
		Subject Digest   `json:"subject,omitzero"`
		Attempt int      `json:"attempt"`
		Receipt *Receipt `json:"receipt,omitempty"`
		Error   *Error   `json:"error,omitempty"`
	}{d.Key, d.Signer, d.Target, d.Subject, d.Attempt, d.Receipt, d.Err})
	if err != nil {
		panic(err) // strings, numbers and digests always marshal
	}
	return data
}

// MarshalJSON writes the CloudEvents 1.0 JSON form.
func (e Event) MarshalJSON() ([]byte, error) {
	if _, err := url.Parse(e.Source); err != nil {
		return nil, fmt.Errorf("event source: %w", err)
	}
	return json.Marshal(struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Type        EventType       `json:"type"`
		Source      string          `json:"source"`
		Subject     string          `json:"subject"`
		Sequence    string          `json:"sequence"`
		Time        time.Time       `json:"time"`
		ContentType string          `json:"datacontenttype"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", e.ID.Hex(), e.Type, e.Source, e.Subject, strconv.FormatInt(e.Sequence, 10), e.Time.UTC(), "application/json", e.Data})
}
