package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"github.com/lodgehq/lodge"
)

// hints is what is kept of an envelope's hints, made outside of the transaction.
type hints struct {
	version   string
	document  json.RawMessage // as its events carry it; nil where there is nothing to say
	effective []string        // scopes that are in effect
	others    []string        // scopes that it is only found by
}

// firstHints is the number of an envelope's first hints.
const firstHints = 1

// newHints also makes it found by the artifacts that it is attached to.
func newHints(h lodge.Hints, effective []string, artifacts ...lodge.Digest) hints {
	kept := hints{version: h.Version, document: h.EventHints(effective), effective: effective}
	others := slices.Clone(h.Scopes)
	for _, artifact := range artifacts {
		others = append(others, artifactScope(artifact))
	}
	for _, scope := range union(nil, others) {
		if _, ok := slices.BinarySearch(effective, scope); !ok {
			kept.others = append(kept.others, scope)
		}
	}
	return kept
}

func artifactScope(d lodge.Digest) string { return "artifact:" + d.String() }

// keepHints makes the events of an envelope carry its hints from here on.
func (t *tx) keepHints(envelope int64, h hints) error {
	if err := t.flush(documents); err != nil { // of other operations of the batch
		return err
	}
	number, err := t.keepDocument(envelope, h)
	if err == nil {
		_, err = t.exec(`UPDATE envelope SET extractor = ?, hint = ? WHERE id = ?`, h.version, number, envelope)
	}
	if err != nil {
		return err
	}
	return t.keepScopes(envelope, h)
}

// keepDocument returns the number of the hints, and stores them where they have none. The
// envelope is locked.
func (t *tx) keepDocument(envelope int64, h hints) (number int64, err error) {
	if h.document == nil {
		return 0, nil
	}
	document := string(h.document)
	found, err := t.get(`SELECT number FROM hint WHERE envelope_id = ? AND document = ?`, []any{envelope, document}, &number)
	if err != nil || found {
		return number, err
	}
	_, err = t.get(`SELECT coalesce(max(number), 0) + 1 FROM hint WHERE envelope_id = ?`, []any{envelope}, &number)
	if err == nil {
		t.put(documents, envelope, number, document)
	}
	return number, err
}

// keepScopes makes an envelope found by its scopes.
func (t *tx) keepScopes(envelope int64, h hints) error {
	if err := t.index(envelope, true, h.effective); err != nil {
		return err
	}
	return t.index(envelope, false, h.others)
}

func (t *tx) index(envelope int64, effective bool, scopes []string) error {
	if len(scopes) == 0 {
		return nil
	}
	_, err := t.exec(`INSERT INTO scope (scope, envelope_id, effective) SELECT value, ?, ? FROM {each}(?) WHERE TRUE
		ON CONFLICT (scope, envelope_id) DO UPDATE SET effective = excluded.effective WHERE excluded.effective AND NOT scope.effective`,
		envelope, effective, toJSON(scopes))
	return err
}

// addScopes adds what a resubmission gives to the scopes in effect, and says so with an event
// where something is new. One without scopes asks for the derived ones: else whoever comes
// first could keep policies from an envelope by naming a scope that none has (promise 8).
func (a *acceptance) addScopes(t *tx, envelope int64, narrowed bool, given []string) error {
	all := union(given, a.sub.Scopes)
	widens := narrowed && len(a.sub.Scopes) == 0
	if len(all) == len(given) && !widens {
		return nil
	}
	before, after := a.sub.Hints.Scope(given, narrowed), a.sub.Hints.Scope(all, narrowed && !widens)
	if _, err := t.exec(`UPDATE envelope SET scopes = ?, narrowed = ? WHERE id = ?`, toJSON(all), narrowed && !widens, envelope); err != nil {
		return err
	}
	if err := t.keepHints(envelope, newHints(a.sub.Hints, after)); err != nil {
		return err
	}
	added := slices.DeleteFunc(after, func(scope string) bool { return slices.Contains(before, scope) })
	if len(added) > 0 {
		t.emit(about(envelope), lodge.ScopesEvent(a.sub.Key, a.sub.Signer, added, a.now))
	}
	return nil
}

// Scopes returns what the submitters of an envelope gave, and whether that is in effect
// instead of the derived scopes or beside them.
func (s *Store) Scopes(ctx context.Context, key lodge.Key, signer lodge.Signer) (given []string, narrowed bool, err error) {
	_, err = s.row(ctx, `SELECT scopes, narrowed FROM envelope WHERE key = ? AND signer = ?`, []any{key[:], signer}, jsonInto{&given}, &narrowed)
	return given, narrowed, err
}

// Outdated is an envelope whose hints another version of the extractor took out.
type Outdated struct {
	ID  int64
	Raw []byte
}

// Outdated returns envelopes whose hints are not of that version of the extractor, and
// whose payload is still there, beginning behind the id after, limit at most.
func (s *Store) Outdated(ctx context.Context, version string, after int64, limit int) (found []Outdated, err error) {
	err = s.query(ctx, `SELECT id, raw FROM envelope WHERE extractor <> ? AND id > ? AND length(raw) > 0 ORDER BY id LIMIT ?`,
		[]any{version, after, limit}, func(rows *sql.Rows) error {
			var o Outdated
			err := rows.Scan(&o.ID, &o.Raw)
			found = append(found, o)
			return err
		})
	return found, err
}

// Rehint replaces the hints of an envelope. Events that are written keep theirs.
func (s *Store) Rehint(ctx context.Context, envelope int64, h lodge.Hints) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		var narrowed bool
		var given []string
		if found, err := t.get(`SELECT narrowed, scopes FROM envelope WHERE id = ?{lock}`, []any{envelope}, &narrowed, jsonInto{&given}); err != nil || !found {
			return err
		}
		artifacts, err := t.subjects(envelope)
		if err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM scope WHERE envelope_id = ?`, envelope); err != nil {
			return err
		}
		return t.keepHints(envelope, newHints(h, h.Scope(given, narrowed), artifacts...))
	}})
}

// subjects returns what an envelope is attached to in repositories.
func (t *tx) subjects(envelope int64) (subjects []lodge.Digest, err error) {
	err = t.each(`SELECT DISTINCT subject FROM delivery WHERE envelope_id = ?`, []any{envelope}, func(rows *sql.Rows) error {
		var d lodge.Digest
		err := rows.Scan(bytesInto{d[:]})
		if !d.IsZero() {
			subjects = append(subjects, d)
		}
		return err
	})
	return subjects, err
}
