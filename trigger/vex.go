package trigger

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lodgehq/lodge"
)

const (
	// maxClaims is how many claims of one document are kept. A document with more is not
	// taken for a repetition: it counts as tightened.
	maxClaims = 10_000
	// maxAhead is how far ahead of its arrival an issue time may be. One beyond that is a
	// mistake that would make all that follows look old.
	maxAhead = 24 * time.Hour
	// maxShown is how many claims an event shows.
	maxShown = 32
)

// moves returns what the claims of an envelope change for those who know the author's last
// word: all, and those that are not recorded yet. An envelope that was recorded before, at
// another log's event, keeps what it said then.
func moves(ctx context.Context, l Ledger, s *subject, f Facts, at time.Time) (fresh, all []lodge.ClaimMove, err error) {
	if all, err = l.ClaimMoves(ctx, s.Key, s.Signer, maxClaims+1); err != nil || len(all) > 0 {
		return nil, all, err
	}
	claims := claimsOf(s, f, at)
	ids := make([]lodge.Digest, len(claims))
	for i, c := range claims {
		ids[i] = c.ID()
	}
	known, err := l.Claims(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	last := map[lodge.Digest]lodge.Claim{}
	for _, c := range known {
		last[c.ID()] = c
	}
	for i, c := range claims {
		m := lodge.ClaimMove{Claim: c, Move: lodge.Tightened}
		if before, ok := last[ids[i]]; ok {
			m.Move, m.From = Compare(before, c), before.Status
		} else if rank(c.Status) == rankSafe {
			m.Move = lodge.Loosened
		} else if rank(c.Status) == rankUnknown {
			m.Move = lodge.Changed
		}
		all = append(all, m)
	}
	if len(f.Hints.Claims) > maxClaims {
		for i := range all {
			all[i].Move = lodge.Tightened
		}
	}
	return all, all, nil
}

// claimsOf returns the claims of a document, one for each vulnerability and product: of
// several, the most demanding one. What they are about are the artifacts and the given
// scopes: who was asked because of one scope alone has not heard it for another.
func claimsOf(s *subject, f Facts, at time.Time) []lodge.Claim {
	h := f.Hints
	about := lodge.DigestOf([]byte(strings.Join(slices.Concat(h.Subjects, f.Given), "\n")))
	var claims []lodge.Claim
	for _, c := range h.Claims { // sorted by vulnerability and product
		claim := lodge.Claim{Vuln: c.Vuln, Product: c.Product, Author: s.Signer, Status: c.Status, Justification: c.Reason(),
			Issued: issued(c.At, at), Revision: h.Revision, About: about, Key: s.Key}
		n := len(claims)
		if n == 0 || claims[n-1].Vuln != c.Vuln || claims[n-1].Product != c.Product {
			if n == maxClaims {
				break
			}
			claims = append(claims, claim)
		} else if rank(c.Status) > rank(claims[n-1].Status) {
			claims[n-1] = claim
		}
	}
	return claims
}

// issued returns when a claim was made, as it is kept: when it came, where it does not say
// that or can't be right.
func issued(at, came time.Time) time.Time {
	if at.IsZero() || at.After(came.Add(maxAhead)) {
		at = came
	}
	return at.UTC().Truncate(time.Microsecond)
}

// How much a status demands.
const (
	rankSafe    = iota // nothing: not_affected, fixed
	rankUnknown        // attention: under_investigation, or nothing known
	rankAffected
)

// rank takes a status that nobody knows for the worst.
func rank(status string) int {
	switch status {
	case "not_affected", "fixed":
		return rankSafe
	case "under_investigation":
		return rankUnknown
	}
	return rankAffected
}

// Compare says what a claim changes for those who know the one before, of the same
// vulnerability, product and author. What was made earlier changes nothing, whenever it
// comes: the issue time counts, then the document's revision; where neither tells, the one
// that came later was made later.
func Compare(before, c lodge.Claim) lodge.Move {
	switch order := cmp.Or(c.Issued.Compare(before.Issued), compareRevisions(c.Revision, before.Revision)); {
	case order < 0:
		return lodge.Outdated
	case rank(c.Status) > rank(before.Status):
		return lodge.Tightened
	case rank(c.Status) < rank(before.Status):
		return lodge.Loosened
	case c.Status == before.Status && c.Justification == "" && before.Justification != "":
		return lodge.Tightened // the reason why it was safe was taken back
	case c.Status != before.Status || c.Justification != before.Justification || c.About != before.About:
		return lodge.Changed
	}
	return lodge.Unchanged
}

// compareRevisions compares 1.10 and 1.9 as people do: numbers as numbers. It is 0 where
// one of them is missing.
func compareRevisions(a, b string) int {
	if a == "" || b == "" {
		return 0
	}
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	}
	return slices.CompareFunc(split(a), split(b), func(a, b string) int {
		m, notA := strconv.ParseUint(a, 10, 64)
		n, notB := strconv.ParseUint(b, 10, 64)
		if notA == nil && notB == nil {
			return cmp.Compare(m, n)
		}
		return cmp.Compare(a, b)
	})
}

// movement says what a document's claims changed together; nil where it has none.
func movement(moves []lodge.ClaimMove) *lodge.Movement {
	m := &lodge.Movement{Counts: map[lodge.Move]int{}, Claims: []lodge.MovedClaim{}}
	for _, c := range moves {
		m.Counts[c.Move]++
	}
	for _, move := range lodge.Moves {
		if m.Counts[move] > 0 {
			m.Move = move
			break
		}
	}
	for _, c := range moves {
		if c.Move == m.Move && len(m.Claims) < maxShown {
			m.Claims = append(m.Claims, lodge.MovedClaim{Vuln: c.Vuln, Product: c.Product, From: c.From, To: c.Status, Justification: c.Justification})
		}
	}
	return m
}
