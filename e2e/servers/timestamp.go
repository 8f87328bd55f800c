package servers

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// TimestampAuthority is a timestamp-server with a key in its memory. Started again it has
// another key.
type TimestampAuthority struct {
	*Process
	URL   string // takes RFC 3161 queries
	Chain []*x509.Certificate
}

// StartTimestampAuthority starts an authority, waits until it serves, and fetches its chain:
// the leaf first, the root last.
func StartTimestampAuthority(t TB) *TimestampAuthority {
	t.Helper()
	binary := install(t, TimestampServer)
	aloneAtMetrics(t)
	port := freePort(t)
	base := "http://" + address(port)
	a := &TimestampAuthority{URL: base + "/api/v1/timestamp"}
	a.Process = (&Process{
		name: "timestamp-server",
		path: binary,
		args: []string{"serve", "--host=127.0.0.1", "--port=" + strconv.Itoa(port),
			"--timestamp-signer=memory", "--disable-ntp-monitoring"},
		ready: answers(base + "/ping"),
	}).start(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/certchain", nil)
	must(t, err, "asking for the timestamp authority's chain")
	resp, err := http.DefaultClient.Do(req)
	must(t, err, "fetching the timestamp authority's chain")
	chain, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	must(t, err, "reading the timestamp authority's chain")
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		must(t, err, "reading the timestamp authority's chain")
		a.Chain = append(a.Chain, cert)
	}
	if len(a.Chain) < 2 {
		t.Fatalf("a chain of %d certificates: %s", len(a.Chain), chain)
	}
	return a
}

// metricsPort is where every timestamp-server serves its metrics, on all interfaces; it ends
// where it can't. Rekor v1 binds it too.
const metricsPort = "2112"

// aloneAtMetrics waits until no other test has a timestamp-server, on this machine, and keeps
// it so until the test ends.
func aloneAtMetrics(t TB) {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err, "looking for the cache")
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	unlock, err := lock(ctx, filepath.Join(cache, "lodge", "e2e", "timestamp-server.lock"))
	must(t, err, "waiting for other tests' timestamp-server")
	t.Cleanup(unlock)
	err = Await(ctx, startLimit, func(ctx context.Context) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+metricsPort)
		if err != nil {
			return err
		}
		return l.Close()
	})
	if err != nil {
		skip(t, "timestamp-server needs port %s: %v", metricsPort, err)
	}
}
