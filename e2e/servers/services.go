package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// The services that a RekorV1 needs. Where a variable names no server, what is found on
// this machine is used.
const (
	envMySQL = "LODGE_E2E_MYSQL" // "user:password@tcp(host:port)", with the right to make databases
	envRedis = "LODGE_E2E_REDIS" // "host:port"

	localMySQL = "root@tcp(127.0.0.1:3306)"
	localRedis = "127.0.0.1:6379"
)

// redisServer returns the address of a Redis server: the one that the environment names,
// one of our own (its index then holds nothing of other runs), or the local service.
func redisServer(t TB) (*Process, string) {
	t.Helper()
	if at := os.Getenv(envRedis); at != "" {
		must(t, listens(at)(t.Context()), "%s", envRedis)
		return nil, at
	}
	binary, err := lookPath("redis-server", "valkey-server")
	if err == nil {
		port := freePort(t)
		return (&Process{
			name: "redis-server",
			path: binary,
			args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port),
				"--save", "", "--appendonly", "no", "--dir", t.TempDir()},
			ready: listens(address(port)),
		}).start(t), address(port)
	}
	if listens(localRedis)(t.Context()) != nil {
		skip(t, "Rekor v1 needs Redis: %v, none at %s, and %s is not set", err, localRedis, envRedis)
	}
	return nil, localRedis
}

// newDatabase makes a database with Trillian's schema, to be dropped at the end of the
// test, and returns its data source name.
func newDatabase(t TB) string {
	t.Helper()
	server := databaseServer(t)
	name := strings.ToLower(fmt.Sprintf("lodge_e2e_%d_%s", os.Getpid(), rand.Text()[:8]))
	db, err := openDatabase(server + "/")
	must(t, err, "opening %s", server)
	t.Cleanup(func() {
		ctx, cancel := runContext(t)
		defer cancel()
		_, _ = db.ExecContext(ctx, "DROP DATABASE "+name) // a server of our own has ended by now
		_ = db.Close()
	})
	_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
	must(t, err, "making a database in %s", server)

	module, err := moduleDir(t.Context(), trillian, trillianVersion)
	must(t, err, "looking for Trillian's schema")
	schema, err := os.ReadFile(filepath.Join(module, "storage", "mysql", "schema", "storage.sql"))
	must(t, err, "reading Trillian's schema")
	tables, err := openDatabase(server + "/" + name + "?multiStatements=true")
	must(t, err, "opening the database %s", name)
	defer func() { _ = tables.Close() }()
	_, err = tables.ExecContext(t.Context(), string(schema))
	must(t, err, "loading Trillian's schema")
	return server + "/" + name
}

// databaseServer returns how to reach a server that speaks MySQL's protocol: the one that
// the environment names, the local service, or one of our own.
func databaseServer(t TB) string {
	t.Helper()
	if dsn := strings.TrimSuffix(os.Getenv(envMySQL), "/"); dsn != "" {
		must(t, pingDatabase(t.Context(), dsn), "%s", envMySQL)
		return dsn
	}
	service := pingDatabase(t.Context(), localMySQL)
	if service == nil {
		return localMySQL
	}
	dsn, err := startDatabase(t)
	if err != nil {
		skip(t, "Rekor v1 needs MariaDB or MySQL: %v, %s answers %v, and %s is not set", err, localMySQL, service, envMySQL)
	}
	return dsn
}

// startDatabase starts a database server of our own, or says what is missing.
func startDatabase(t TB) (string, error) {
	t.Helper()
	binary, err := lookPath("mariadbd", "mysqld")
	if err != nil {
		return "", err
	}
	data := t.TempDir()
	flags := []string{"--no-defaults", "--datadir=" + data}
	if os.Geteuid() == 0 {
		flags = append(flags, "--user=root") // refused unless asked for
	}
	fill := exec.CommandContext(t.Context(), binary, append(flags, "--initialize-insecure")...)
	if script, err := lookPath("mariadb-install-db", "mysql_install_db"); err == nil {
		fill = exec.CommandContext(t.Context(), script, append(flags, "--auth-root-authentication-method=normal", "--skip-test-db")...)
	}
	if out, err := fill.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", fill, err, tail(out, 2<<10))
	}
	port := freePort(t)
	dsn := "root@tcp(" + address(port) + ")"
	(&Process{
		name: "mariadbd",
		path: binary,
		dir:  data,
		args: append(flags,
			"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port),
			"--socket=sql.sock", // relative to the data: a temporary folder's name can be too long for a socket
			"--pid-file="+filepath.Join(data, "sql.pid"), "--max-connections=500",
			"--innodb-flush-log-at-trx-commit=2"),
		ready: func(ctx context.Context) error { return pingDatabase(ctx, dsn) },
	}).start(t)
	return dsn, nil
}

func openDatabase(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func pingDatabase(ctx context.Context, server string) error {
	db, err := openDatabase(server + "/")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return db.PingContext(ctx)
}

// moduleDir downloads a module where need be and returns its folder.
func moduleDir(ctx context.Context, module, version string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = os.TempDir() // outside of any module
	cmd.Env = environ([]string{"GOFLAGS"}, "GOFLAGS="+goflags(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", err
	}
	return info.Dir, nil
}

// lookPath finds the first of some programs, also where servers are kept that are not in
// everybody's path.
func lookPath(names ...string) (string, error) {
	for _, name := range names {
		for _, at := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
			if found, err := exec.LookPath(at); err == nil {
				return found, nil
			}
		}
	}
	return "", fmt.Errorf("no %s here", strings.Join(names, " or "))
}
