package servers

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
)

// RekorV1Config says how a RekorV1 differs from the usual one of the tests.
type RekorV1Config struct {
	Hostname string   // default rekor1.test
	Key      *KeyPair // of the log; default a new ECDSA key on P-256
	Flags    []string // further flags of rekor-server

	of *RekorV1 // whose database it begins with a copy of
}

// RekorV1 is a rekor-server over Trillian, with a database of its own in a MariaDB or
// MySQL server and a search index in Redis.
//
// rekor-server binds its metrics to port 2112 of all interfaces and serves without them
// where that is taken; nothing can be set about it.
type RekorV1 struct {
	*Process                             // rekor-server
	LogServer, LogSigner, Redis *Process // Redis is nil where a service is used
	URL                         string
	Origin                      string // of its checkpoints: "<hostname> - <tree id>"
	TreeID                      uint64
	Key                         KeyPair

	t        TB
	database string // of Trillian
}

// StartRekorV1 starts a log and waits until it serves. Where there is no database server
// or no Redis it skips the test.
func StartRekorV1(t TB, c RekorV1Config) *RekorV1 {
	t.Helper()
	log := &RekorV1{t: t}
	if c.Key != nil {
		log.Key = *c.Key
	} else {
		log.Key = ECDSA(t, elliptic.P256())
	}
	if c.Hostname == "" {
		c.Hostname = "rekor1.test"
	}
	redis, index := redisServer(t) // before anything that is slow: these two may skip
	database := newDatabase(t)
	log.Redis = redis
	log.database = database
	if c.of != nil {
		copyDatabase(t, c.of.database, database)
		log.TreeID = c.of.TreeID
	}
	backend := log.startTrillian(database)
	log.Origin = fmt.Sprintf("%s - %d", c.Hostname, log.TreeID)

	port := freePort(t)
	log.URL = "http://" + address(port)
	log.Process = (&Process{
		name: "rekor-server",
		path: install(t, RekorServer),
		args: append([]string{
			"serve",
			"--rekor_server.address=127.0.0.1", "--port=" + strconv.Itoa(port),
			"--rekor_server.hostname=" + c.Hostname,
			"--rekor_server.signer=" + log.Key.Private,
			"--trillian_log_server.address=127.0.0.1", "--trillian_log_server.port=" + portOf(backend),
			"--trillian_log_server.tlog_id=" + strconv.FormatUint(log.TreeID, 10),
			"--redis_server.address=" + hostOf(index), "--redis_server.port=" + portOf(index),
			"--enable_retrieve_api=true",
		}, c.Flags...),
		ready: answers(log.URL + "/api/v1/log"),
	}).start(t)
	return log
}

// startTrillian starts log server and signer over a database, makes the tree and returns
// the log server's address.
func (log *RekorV1) startTrillian(database string) string {
	t := log.t
	t.Helper()
	// Few connections: the services' usual limit is 151 for all that run at a time.
	flags := []string{
		"--storage_system=mysql", "--mysql_uri=" + database, "--mysql_max_conns=30",
		"--quota_system=noop", "--http_endpoint=",
	}
	rpc, signer := address(freePort(t)), address(freePort(t))
	log.LogServer = (&Process{
		name: "trillian_log_server", path: install(t, TrillianLogServer),
		args: append([]string{"--rpc_endpoint=" + rpc}, flags...), ready: listens(rpc),
	}).start(t)
	log.LogSigner = (&Process{
		name: "trillian_log_signer", path: install(t, TrillianLogSigner),
		args:  append([]string{"--rpc_endpoint=" + signer, "--force_master", "--sequencer_interval=50ms"}, flags...),
		ready: listens(signer),
	}).start(t)

	if log.TreeID != 0 {
		return rpc // it has a tree
	}
	ctx, cancel := runContext(t)
	defer cancel()
	made := run(t, exec.CommandContext(ctx, install(t, TrillianTree), "--admin_server="+rpc), nil)
	id, err := strconv.ParseUint(strings.TrimSpace(made.Stdout), 10, 64)
	if err != nil {
		t.Fatalf("making a Trillian tree: exit status %d\n%s%s", made.Code, made.Stdout, made.Stderr)
	}
	log.TreeID = id
	return rpc
}

// Version is that of Rekor's protocol.
func (log *RekorV1) Version() int { return 1 }

// Trust returns what lodge verifies the log with: the file of its public key, and the
// origin of its checkpoints.
func (log *RekorV1) Trust() (key, origin string) { return log.Key.Public, log.Origin }

// Front serves the log through a proxy.
func (log *RekorV1) Front(t TB) *Proxy {
	t.Helper()
	return StartProxy(t, Forward(log.URL))
}

// LodgeFlags returns the flags by which lodge delivers to this log.
func (log *RekorV1) LodgeFlags() []string {
	return []string{"--log", log.URL, "--log-key", log.Key.Public, "--log-origin", log.Origin}
}

// CosignFlag is the value of --rekor by which cosign trusts this log.
func (log *RekorV1) CosignFlag() string {
	return fmt.Sprintf("url=%s,public-key=%s,start-time=2024-01-01T00:00:00Z", log.URL, log.Key.Public)
}

// Size is the number of entries that the log says it has.
func (log *RekorV1) Size() int64 {
	log.t.Helper()
	var info struct {
		TreeSize int64 `json:"treeSize"`
	}
	must(log.t, getJSON(log.t.Context(), log.URL+"/api/v1/log", &info), "reading the size of the log")
	return info.TreeSize
}

// Bodies returns the entries that the log says it has, as it keeps them.
func (log *RekorV1) Bodies() [][]byte {
	log.t.Helper()
	var bodies [][]byte
	for size := log.Size(); int64(len(bodies)) < size; {
		var found map[string]struct {
			Body []byte `json:"body"`
		}
		url := fmt.Sprintf("%s/api/v1/log/entries?logIndex=%d", log.URL, len(bodies))
		must(log.t, getJSON(log.t.Context(), url, &found), "reading entry %d", len(bodies))
		if len(found) != 1 {
			log.t.Fatalf("%s answers %d entries", url, len(found))
		}
		for _, entry := range found {
			bodies = append(bodies, entry.Body)
		}
	}
	return bodies
}

// getJSON decodes what url answers with status 200.
func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
