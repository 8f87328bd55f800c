package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
)

// lastSequence is never 0 again once there was an event: Prune leaves the newest.
const lastSequence = `SELECT coalesce(max(seq), 0) FROM outbox`

// LastSequence returns the sequence of the newest event, 0 where there is none.
func (s *Store) LastSequence(ctx context.Context) (seq int64, err error) {
	_, err = s.row(ctx, lastSequence, nil, &seq)
	return seq, err
}

const selectEvent = `SELECT o.seq, o.id, o.type, o.source, o.subject, o.at, o.data, h.document
	FROM outbox o LEFT JOIN hint h ON h.envelope_id = o.envelope_id AND h.number = o.hint WHERE o.seq > ?`

// Events returns the events behind the sequence after, in order, limit at most. Events
// are numbered as they are committed: whoever has seen a sequence has seen all below it,
// on every replica.
func (s *Store) Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error) {
	return s.events(ctx, selectEvent+` ORDER BY o.seq LIMIT ?`, after, limit)
}

// EventQuery says which events are looked for: those that all of its members that are
// set fit.
type EventQuery struct {
	Types  []lodge.EventType
	Key    lodge.Key // about the envelope with that key,
	Scopes []string  // or about one with one of these scopes, derived or given
	Since  time.Time
	Until  time.Time
}

// FindEvents is Events for those that the query asks for.
func (s *Store) FindEvents(ctx context.Context, q EventQuery, after int64, limit int) ([]lodge.Event, error) {
	query := strings.Builder{}
	query.WriteString(selectEvent)
	args := []any{after}
	and := func(condition string, values ...any) {
		query.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	if len(q.Types) > 0 {
		and(`o.type IN (SELECT value FROM {each}(?))`, toJSON(q.Types))
	}
	if !q.Key.IsZero() || len(q.Scopes) > 0 {
		and(`o.envelope_id IN (SELECT id FROM envelope WHERE key = ? UNION
			SELECT envelope_id FROM scope WHERE scope IN (SELECT value FROM {each}(?)))`, q.Key[:], toJSON(append([]string{}, q.Scopes...)))
	}
	if !q.Since.IsZero() {
		and(`o.at >= ?`, q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		and(`o.at < ?`, q.Until.UnixMicro())
	}
	query.WriteString(` ORDER BY o.seq LIMIT ?`)
	return s.events(ctx, query.String(), append(args, limit)...)
}

func (s *Store) events(ctx context.Context, query string, args ...any) (events []lodge.Event, err error) {
	err = s.query(ctx, query, args, func(rows *sql.Rows) error {
		var e lodge.Event
		var hints sql.RawBytes
		err := rows.Scan(&e.Sequence, bytesInto{e.ID[:]}, &e.Type, &e.Source, &e.Subject, timeInto{&e.Time}, (*[]byte)(&e.Data), &hints)
		e.Data = withHints(e.Data, hints)
		events = append(events, e)
		return err
	})
	return events, err
}

// withHints adds the hints to an event's data, which are an object without such a member.
func withHints(data, hints []byte) json.RawMessage {
	if len(hints) == 0 {
		return data
	}
	return append(bytes.TrimSuffix(data, []byte("}")), `,"hints":`+string(hints)+"}"...)
}
