package chaos_test

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver
	_ "modernc.org/sqlite"             // registers the driver

	"github.com/lodgehq/lodge/e2e/servers"
)

// wantOnce fails the test unless everything that was made so far is delivered, once, and
// every event of it is there, once and in order.
func (p *place) wantOnce() {
	p.t.Helper()
	p.wantVerified()
	p.wantEvents()
	if p.log != nil {
		p.wantLeaves()
	}
	if p.registry != nil {
		p.wantReferrers()
	}
}

// wantLeaves fails the test unless the log has one leaf of each envelope. Leaves of other
// places are none of its business.
func (p *place) wantLeaves() {
	p.t.Helper()
	leaves := leavesOf(p)
	missing, doubled := 0, 0
	for content := range p.contents {
		switch n := leaves[content]; {
		case n == 0:
			missing++
		case n > 1:
			doubled += n - 1
		}
	}
	if missing+doubled > 0 {
		p.t.Errorf("the log lacks %d of %d envelopes and has %d doubled", missing, len(p.contents), doubled)
	}
}

// leavesOf counts the log's leaves by what they say of their content (hashedrekord 0.0.2).
func leavesOf(p *place) map[string]int {
	p.t.Helper()
	leaves := map[string]int{}
	for _, body := range p.log.Bodies() {
		var entry struct {
			Spec struct {
				HashedRekordV002 struct{ Data struct{ Digest []byte } }
			}
		}
		if err := json.Unmarshal(body, &entry); err != nil {
			p.t.Fatalf("the log has an entry that is no JSON: %v: %s", err, body)
		}
		leaves[hex.EncodeToString(entry.Spec.HashedRekordV002.Data.Digest)]++
	}
	return leaves
}

// wantSize fails the test unless the log has these leaves and no others.
func (p *place) wantSize(n int) {
	p.t.Helper()
	if size := p.log.Size(); size != int64(n) {
		p.t.Errorf("the log has %d leaves, want %d", size, n)
	}
}

// wantReferrers fails the test unless each image lists one artifact of each envelope about
// it, and the repository holds no other artifacts.
func (p *place) wantReferrers() {
	p.t.Helper()
	listed := map[string]bool{}
	for i, image := range p.images {
		keys, want := map[string]bool{}, (len(p.envelopes)+len(p.images)-1-i)/len(p.images)
		for _, r := range p.registry.Referrers(p.repository, image) {
			if keys[r.Annotations["dev.lodge.key"]] || listed[r.Digest.String()] {
				p.t.Errorf("%s lists %s twice", image, r.Digest)
			}
			keys[r.Annotations["dev.lodge.key"]], listed[r.Digest.String()] = true, true
		}
		if len(keys) != want {
			p.t.Errorf("%s lists %d attestations, want %d", image, len(keys), want)
		}
	}
	if kept := p.registry.Artifacts(p.repository); len(kept) != len(p.envelopes) {
		p.t.Errorf("the registry keeps %d artifacts, want %d", len(kept), len(p.envelopes))
	}
}

// database opens the store to read.
func (p *place) database() *sql.DB {
	p.t.Helper()
	driver, address := "pgx", p.store
	if path, ok := strings.CutPrefix(p.store, "sqlite:"); ok {
		driver, address = "sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, address)
	if err != nil {
		p.t.Fatal(err)
	}
	return db
}

// rows returns the rows of a query, two texts each.
func (p *place) rows(query string) ([][2]string, error) {
	db := p.database()
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(p.t.Context(), query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var found [][2]string
	for rows.Next() {
		var row [2]string
		if err := rows.Scan(&row[0], &row[1]); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// stands says how many deliveries are in which state; it is for people, too.
func (p *place) stands() states {
	found, err := p.rows(`SELECT t.name || ' ' || d.state, CAST(count(*) AS TEXT) FROM delivery d JOIN target t ON t.id = d.target_id GROUP BY 1`)
	if err != nil {
		return states{"error: " + err.Error(): 1}
	}
	s := states{}
	for _, row := range found {
		n := 0
		_, _ = fmt.Sscan(row[1], &n) // a count
		s[row[0]] = n
	}
	return s
}

type states map[string]int

// verified counts what is delivered.
func (s states) verified() int { return s["log verified"] + s["images verified"] }

// all counts what is accepted.
func (s states) all() (n int) {
	for count := range maps.Values(s) {
		n += count
	}
	return n
}

// wantVerified fails the test unless every envelope was accepted and is delivered.
func (p *place) wantVerified() {
	p.t.Helper()
	if want, s := p.targets()*len(p.envelopes), p.stands(); s.verified() != want || s.all() != want {
		p.t.Errorf("deliveries: %v, want %d verified", s, want)
	}
}

// wantEvents fails the test unless the outbox has each event of each key once, in order.
func (p *place) wantEvents() {
	p.t.Helper()
	found, err := p.rows(`SELECT subject, type FROM outbox WHERE type <> 'dev.lodge.AttemptFailed.v1' AND subject LIKE 'sha256:%' ORDER BY seq`)
	if err != nil {
		p.t.Fatal(err)
	}
	events := map[string][]string{}
	for _, row := range found {
		events[row[0]] = append(events[row[0]], strings.TrimSuffix(strings.TrimPrefix(row[1], "dev.lodge."), ".v1"))
	}
	want := slices.Repeat([]string{"EntryQueued"}, p.targets())
	if p.log != nil {
		want = append(want, "EntryLogged", "InclusionVerified")
	}
	if p.registry != nil {
		want = append(want, "ArtifactPublished")
	}
	wrong := 0
	for key, got := range events {
		if !slices.Equal(got, want) {
			if wrong++; wrong <= 3 {
				p.t.Errorf("events of %s: %v, want %v", key, got, want)
			}
		}
	}
	if wrong > 0 || len(events) != len(p.envelopes) {
		p.t.Errorf("%d of %d keys have other events, want %d keys", wrong, len(events), len(p.envelopes))
	}
}

// printed reads what a push with -o json said: the states of its deliveries.
func printed(lodge *servers.Process) (s map[string]int, duplicates int) {
	s = map[string]int{}
	for line := range strings.Lines(lodge.Log()) {
		var d struct {
			State     string
			Duplicate bool
		}
		if json.Unmarshal([]byte(line), &d) == nil && d.State != "" {
			s[d.State]++
			if d.Duplicate {
				duplicates++
			}
		}
	}
	return s, duplicates
}
