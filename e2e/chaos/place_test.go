package chaos_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

var (
	seedFlag      = flag.Uint64("chaos.seed", 0, "seed of what is random; 0 takes a new one")
	envelopesFlag = flag.Int("chaos.envelopes", 5000, "envelopes of TestKill9")
	killsFlag     = flag.Int("chaos.kills", 20, "how often TestKill9 kills lodge at least")
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, n := range map[string]*int{"chaos.envelopes": envelopesFlag, "chaos.kills": killsFlag} {
		if !given[name] {
			*n = scaled(*n)
		}
	}
	os.Exit(servers.Main(m))
}

// scaled returns n, or a quarter of it for go test -short.
func scaled(n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

// dice returns what a test takes its random choices from, and prints the seed.
func dice(t *testing.T) *mathrand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(1<<32))
		if err != nil {
			t.Fatal(err)
		}
		seed = n.Uint64() + 1
	}
	t.Logf("seed: -chaos.seed=%d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

// A place is a log, a registry with images, somebody who signs statements about them, and
// a lodge with a store and a configuration of its own. Log or registry may be nil.
type place struct {
	t      *testing.T
	lodge  *servers.Lodge
	store  string // as in lodge.yaml
	signer servers.KeyPair
	about  string // what makes its statements differ from those of other places

	log             *servers.RekorV2
	logURL, readURL string // by which lodge reaches the log; "" is directly
	logConcurrency  int    // of the target; 0 is lodge's default
	logSettle       string // of the target

	registry         *servers.Registry
	host             string // by which lodge reaches the registry; "" is directly
	repository       string
	imageConcurrency int      // of the target; 0 is lodge's default
	images           []string // digests

	envelopes [][]byte            // made so far
	contents  map[string]struct{} // what entries about them say: hex SHA-256 over the PAE
}

// newPlace returns a place whose store is a SQLite file.
func newPlace(t *testing.T, log *servers.RekorV2, registry *servers.Registry) *place {
	t.Helper()
	p := &place{
		t: t, lodge: servers.NewLodge(t), signer: servers.ECDSA(t, elliptic.P256()), about: rand.Text(),
		log: log, logSettle: "2s", registry: registry, repository: "app", contents: map[string]struct{}{},
	}
	p.store = "sqlite:" + filepath.Join(p.lodge.State, "lodge.db")
	return p
}

// pushImages puts n images there for the statements to be about.
func (p *place) pushImages(n int) {
	p.t.Helper()
	for i := range n {
		p.images = append(p.images, p.registry.PushImage(p.repository, fmt.Sprintf("v%d", i), fmt.Sprintf("application %d", i)))
	}
}

const payloadType = "application/vnd.in-toto+json"

// make signs n more envelopes, about each image in turn.
func (p *place) make(n int) [][]byte {
	p.t.Helper()
	first := len(p.envelopes)
	for i := first; i < first+n; i++ {
		image := "sha256:" + hex.EncodeToString(make([]byte, 32))
		if len(p.images) > 0 {
			image = p.images[i%len(p.images)]
		}
		statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"%s"}}],`+
			`"predicateType":"https://example.com/verdict","predicate":{"about":"%s","n":%d}}`, image[len("sha256:"):], p.about, i)
		// DSSE v1.0 protocol, "Signature Definition".
		digest := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(statement), statement))
		sig, err := p.signer.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			p.t.Fatal(err)
		}
		p.contents[hex.EncodeToString(digest[:])] = struct{}{}
		p.envelopes = append(p.envelopes, encode(p.t, map[string]any{
			"payloadType": payloadType, "payload": statement, "signatures": []any{map[string]any{"sig": sig}},
		}))
	}
	return p.envelopes[first:]
}

// batch makes n more envelopes and writes them to a file, one a line.
func (p *place) batch(n int) string {
	p.t.Helper()
	return p.write("batch.jsonl", append(bytes.Join(p.make(n), []byte("\n")), '\n'))
}

func (p *place) write(name string, content []byte) string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// config writes the lodge.yaml, which is JSON here, and returns its path.
func (p *place) config() string {
	p.t.Helper()
	type object = map[string]any
	targets, deliver := object{}, []string{}
	if p.log != nil {
		log := object{"url": p.log.URL, "readURL": p.log.ReadURL, "key": p.log.Key.Public, "origin": p.log.Origin}
		if p.logURL != "" {
			log["url"] = p.logURL
			delete(log, "readURL")
		}
		if p.readURL != "" {
			log["readURL"] = p.readURL
		}
		targets["log"] = object{"log": log, "settle": p.logSettle, "concurrency": p.logConcurrency}
		deliver = append(deliver, "log")
	}
	if p.registry != nil {
		host := p.registry.Host
		if p.host != "" {
			host = p.host
		}
		targets["images"] = object{"oci": object{"repository": host + "/" + p.repository}, "concurrency": p.imageConcurrency}
		deliver = append(deliver, "images")
	}
	return p.write("lodge.yaml", encode(p.t, object{
		"store": p.store, "signers": []object{{"key": p.signer.Public}}, "targets": targets, "deliver": deliver,
	}))
}

// targets is how many deliveries an envelope has.
func (p *place) targets() int {
	n := 0
	if p.log != nil {
		n++
	}
	if p.registry != nil {
		n++
	}
	return n
}

// push starts a push, to be waited for or killed.
func (p *place) push(args ...string) *servers.Process {
	p.t.Helper()
	return p.lodge.Start(append([]string{"push", "--config", p.config(), "-o", "json"}, args...)...)
}

// serve starts a daemon.
func (p *place) serve() *servers.Process {
	p.t.Helper()
	return p.lodge.Start("serve", "--config", p.config())
}

// wantCode waits for the end of a lodge and fails the test unless it is in time and with
// that exit status.
func (p *place) wantCode(lodge *servers.Process, code int, limit time.Duration) {
	p.t.Helper()
	select {
	case <-lodge.Ended():
	case <-time.After(limit):
		p.t.Fatalf("lodge is still running after %s; %v", limit, p.stands())
	}
	if got := lodge.Code(); got != code {
		p.t.Fatalf("exit status %d, want %d; %v\n%s", got, code, p.stands(), end(lodge.Log()))
	}
}

// end returns the last lines of a text.
func end(s string) string { return s[max(0, len(s)-2000):] }

// until polls done every now and then, for at most limit.
func (p *place) until(limit time.Duration, what string, done func() bool) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.After(limit)
	for !done() {
		select {
		case <-tick.C:
		case <-over:
			p.t.Fatalf("not within %s: %s; %v", limit, what, p.stands())
		}
	}
}
