package servers

import (
	"context"
	"database/sql"
	"os/exec"
	"strings"
)

// Copy starts another log with this one's key and name and what it has now, as somebody does
// who restores a backup or shows two users different trees. From now on they grow apart.
func (log *RekorV2) Copy(t TB) *RekorV2 {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", log.Dir+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("copying %s: %v\n%s", log.Dir, err, out)
	}
	return StartRekorV2(t, RekorV2Config{Origin: log.Origin, Key: &log.Key, Dir: dir})
}

// Copy starts another log over a copy of this one's database, as somebody does who restores a
// backup or shows two users different trees. From now on they grow apart.
func (log *RekorV1) Copy(t TB) *RekorV1 {
	t.Helper()
	host, _, _ := strings.Cut(log.Origin, " - ")
	return StartRekorV1(t, RekorV1Config{Hostname: host, Key: &log.Key, of: log})
}

// copyDatabase fills the tables of one database with what those of another have.
func copyDatabase(t TB, from, to string) {
	t.Helper()
	db, err := openDatabase(to)
	must(t, err, "opening %s", to)
	defer func() { _ = db.Close() }()
	ctx := t.Context()
	conn, err := db.Conn(ctx)
	must(t, err, "opening %s", to)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(ctx, "SET FOREIGN_KEY_CHECKS = 0")
	must(t, err, "copying a database")
	source := from[strings.LastIndexByte(from, '/')+1:]
	for _, table := range tables(ctx, t, conn) {
		_, err := conn.ExecContext(ctx, "INSERT INTO `"+table+"` SELECT * FROM `"+source+"`.`"+table+"`") //nolint:gosec // names of this package's making
		must(t, err, "copying the table %s", table)
	}
}

func tables(ctx context.Context, t TB, conn *sql.Conn) (names []string) {
	t.Helper()
	rows, err := conn.QueryContext(ctx, "SHOW TABLES")
	must(t, err, "listing tables")
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name), "listing tables")
		names = append(names, name)
	}
	must(t, rows.Err(), "listing tables")
	return names
}
