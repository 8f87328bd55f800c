package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lodgehq/lodge"
)

// React writes what follows from the events between p.From and p.To, and moves the cursor
// p.Name over them, in one transaction: each event is reacted to once. It returns
// lodge.ErrStale where the cursor does not stand at p.From. Requests that were written
// before are not written again.
func (s *Store) React(ctx context.Context, p lodge.Progress, reactions []lodge.Reaction) error {
	return s.do(ctx, &operation{key: p.Name, alone: true, run: func(t *tx) error {
		if err := t.progress(p); err != nil {
			return err
		}
		for _, r := range reactions {
			if err := t.react(r); err != nil {
				return err
			}
		}
		return nil
	}})
}

func (t *tx) react(r lodge.Reaction) error {
	var envelope int64
	found, err := t.get(`SELECT id FROM envelope WHERE key = ? AND signer = ?`, []any{r.Key[:], r.Signer}, &envelope)
	if err == nil && !found {
		err = fmt.Errorf("envelope %s of %s: %w", r.Key, r.Signer, lodge.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := t.keepClaims(envelope, r.Claims); err != nil {
		return err
	}
	t.emit(about(envelope), r.Requests...)
	return nil
}

// keepClaims records what the claims of an envelope moved, and keeps those that are the
// last known from here on.
func (t *tx) keepClaims(envelope int64, claims []lodge.ClaimMove) error {
	var moves, known [][]any
	for _, c := range claims {
		id := c.ID().Hex()
		moves = append(moves, []any{envelope, id, c.Vuln, c.Product, c.Move, c.From, c.Status, c.Justification})
		if c.Move != lodge.Outdated {
			known = append(known, []any{id, c.Vuln, c.Product, text(string(c.Author)), c.Status, c.Justification,
				c.Issued.UnixMicro(), text(c.Revision), c.About[:], c.Key[:]})
		}
	}
	_, err := t.runMany(`INSERT INTO claim_move (envelope_id, claim_id, vuln, product, move, from_status, status, justification) VALUES `,
		`(?, ?, ?, ?, ?, ?, ?, ?)`, ` ON CONFLICT (envelope_id, claim_id) DO NOTHING`, moves)
	if err != nil {
		return err
	}
	_, err = t.runMany(`INSERT INTO claim (id, vuln, product, author, status, justification, issued, revision, about, key) VALUES `,
		`(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, ` ON CONFLICT (id) DO UPDATE SET status = excluded.status, justification = excluded.justification,
		issued = excluded.issued, revision = excluded.revision, about = excluded.about, key = excluded.key`, known)
	return err
}

// Claims returns the last known claims with these ids, as far as there are any.
func (s *Store) Claims(ctx context.Context, ids []lodge.Digest) (claims []lodge.Claim, err error) {
	hex := make([]string, len(ids))
	for i, id := range ids {
		hex[i] = id.Hex()
	}
	err = s.query(ctx, `SELECT vuln, product, author, status, justification, issued, revision, about, key FROM claim
		WHERE id IN (SELECT value FROM {each}(?))`, []any{toJSON(hex)}, func(rows *sql.Rows) error {
		var c lodge.Claim
		err := rows.Scan(&c.Vuln, &c.Product, &c.Author, &c.Status, &c.Justification, timeInto{&c.Issued}, &c.Revision,
			bytesInto{c.About[:]}, bytesInto{c.Key[:]})
		claims = append(claims, c)
		return err
	})
	return claims, err
}

// ClaimMoves returns what the claims of an envelope moved when they came, limit at most.
// The claims have no issue time, revision and artifacts.
func (s *Store) ClaimMoves(ctx context.Context, key lodge.Key, signer lodge.Signer, limit int) (moves []lodge.ClaimMove, err error) {
	err = s.query(ctx, `SELECT m.vuln, m.product, m.move, m.from_status, m.status, m.justification
		FROM claim_move m JOIN envelope e ON e.id = m.envelope_id WHERE e.key = ? AND e.signer = ?
		ORDER BY m.vuln, m.product, m.claim_id LIMIT ?`, []any{key[:], signer, limit}, func(rows *sql.Rows) error {
		m := lodge.ClaimMove{Claim: lodge.Claim{Author: signer, Key: key}}
		err := rows.Scan(&m.Vuln, &m.Product, &m.Move, &m.From, &m.Status, &m.Justification)
		moves = append(moves, m)
		return err
	})
	return moves, err
}

// CountMoves returns how many claims of an envelope made which move.
func (s *Store) CountMoves(ctx context.Context, key lodge.Key, signer lodge.Signer) (map[lodge.Move]int, error) {
	counts := map[lodge.Move]int{}
	err := s.query(ctx, `SELECT m.move, count(*) FROM claim_move m JOIN envelope e ON e.id = m.envelope_id
		WHERE e.key = ? AND e.signer = ? GROUP BY m.move`, []any{key[:], signer}, func(rows *sql.Rows) error {
		var move lodge.Move
		var n int
		err := rows.Scan(&move, &n)
		counts[move] = n
		return err
	})
	return counts, err
}

// Standing says how far the deliveries of an envelope have come.
type Standing struct {
	ToLog     bool // it is delivered to a log that has not refused it, besides wherever else
	Logged    bool // a log's delivery is verified
	Published bool // a repository's is
}

// Proven tells whether an event shows that the envelope is where it was to be: in a log, or
// published where no log is to have it, or all have refused it.
func (st Standing) Proven(by lodge.EventType) bool {
	switch by {
	case lodge.ArtifactPublished:
		return !st.ToLog
	case lodge.EntryFailed:
		return !st.ToLog && st.Published
	default:
		return st.Logged || !st.ToLog && st.Published
	}
}

// Standing returns how far the deliveries of an envelope have come.
func (s *Store) Standing(ctx context.Context, key lodge.Key, signer lodge.Signer) (st Standing, err error) {
	err = s.query(ctx, `SELECT t.kind, d.state FROM delivery d JOIN envelope e ON e.id = d.envelope_id JOIN target t ON t.id = d.target_id
		WHERE e.key = ? AND e.signer = ? GROUP BY t.kind, d.state`, []any{key[:], signer}, func(rows *sql.Rows) error {
		var kind lodge.TargetKind
		var state lodge.State
		err := rows.Scan(&kind, &state)
		st.ToLog = st.ToLog || kind == lodge.KindLog && state != lodge.Failed
		st.Logged = st.Logged || kind == lodge.KindLog && state == lodge.Verified
		st.Published = st.Published || kind == lodge.KindRepository && state == lodge.Verified
		return err
	})
	return st, err
}

// Scoped is an envelope with those of its scopes that were looked for, sorted.
type Scoped struct {
	Key      lodge.Key
	Signer   lodge.Signer
	Subjects []lodge.Digest
	Scopes   []string
}

// ScopeQuery says which scopes are looked for: these, those that begin with one of the
// prefixes, and those of components with one of the names whatever their type.
type ScopeQuery struct {
	Exact, Prefixes, Untyped []string
}

// Scoped hands every delivered envelope that has such scopes in effect to fn, oldest
// first, until fn returns an error, which it returns.
func (s *Store) Scoped(ctx context.Context, q ScopeQuery, fn func(Scoped) error) error {
	condition, args := `s.scope IN (SELECT value FROM {each}(?))`, []any{toJSON(append([]string{}, q.Exact...))}
	for _, prefix := range q.Prefixes {
		condition += ` OR substr(s.scope, 1, ?) = ?`
		args = append(args, len(prefix), prefix)
	}
	for _, name := range q.Untyped {
		condition += ` OR s.scope LIKE ? ESCAPE '!'`
		args = append(args, "component:%/"+strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(name))
	}
	var last Scoped
	flush := func() error {
		if len(last.Scopes) == 0 {
			return nil
		}
		return fn(last)
	}
	err := s.query(ctx, `SELECT e.key, e.signer, e.subjects, s.scope FROM scope s JOIN envelope e ON e.id = s.envelope_id
		WHERE s.effective AND (`+condition+`) AND EXISTS (SELECT 1 FROM delivery d WHERE d.envelope_id = e.id AND d.state = 'verified')
		ORDER BY e.id`, args, func(rows *sql.Rows) error {
		var row Scoped
		var scope string
		if err := rows.Scan(bytesInto{row.Key[:]}, &row.Signer, jsonInto{&row.Subjects}, &scope); err != nil {
			return err
		}
		if row.Key != last.Key || row.Signer != last.Signer {
			if err := flush(); err != nil {
				return err
			}
			last = row
		}
		last.Scopes = append(last.Scopes, scope)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
