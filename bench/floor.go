package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/lodgehq/lodge"
)

var target = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}

func bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// submission is that of a statement about one artifact, with the hints of a VEX document.
func submission(size int) lodge.Submission {
	subject := lodge.Digest(bytes(32))
	scopes := []string{"artifact:" + subject.String(), "component:app", fmt.Sprintf("cve:CVE-2026-%x", bytes(3)),
		"predicate:https://openvex.dev/ns/v0.2.0", "purl:pkg:oci/app@" + subject.String()}
	document := fmt.Appendf(nil, `{"claims":[],"kind":"openvex","scopes":["%s"],"v":1}`, strings.Join(scopes, `","`))
	return lodge.Submission{Key: lodge.Digest(bytes(32)), Signer: lodge.KeySigner([]byte("key")), Raw: bytes(size), SPKI: make([]byte, 91),
		Subjects: []lodge.Digest{subject}, Hints: lodge.Hints{Version: "1", Document: document, Scopes: scopes}}
}

// floor runs statements as fast as the database allows: in one goroutine, made in advance.
type floor struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newFloor(driver, dsn string) (*floor, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	return &floor{db, conn, map[string]*sql.Stmt{}}, err
}

func (f *floor) close() {
	for _, st := range f.stmts {
		_ = st.Close()
	}
	_ = f.conn.Close()
	_ = f.db.Close()
}

// run runs a transaction, each statement prepared once.
func (f *floor) run(tx transaction) error {
	ctx := context.Background()
	for _, s := range tx {
		st := f.stmts[s.sql]
		if st == nil {
			var err error
			if st, err = f.conn.PrepareContext(ctx, s.sql); err != nil {
				return err
			}
			f.stmts[s.sql] = st
		}
		if !strings.HasPrefix(s.sql, "SELECT") && !strings.Contains(s.sql, "RETURNING") {
			if _, err := st.ExecContext(ctx, s.args...); err != nil {
				return err
			}
			continue
		}
		rows, err := st.QueryContext(ctx, s.args...)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// appendRate writes n payloads at a time to a file, each time with an fsync.
func appendRate(dir string, n int, span time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "append"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	data := bytes(n * payload)
	count := 0
	begin := time.Now()
	for time.Since(begin) < span {
		if _, err := f.Write(data); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		count += n
	}
	return float64(count) / time.Since(begin).Seconds(), nil
}
