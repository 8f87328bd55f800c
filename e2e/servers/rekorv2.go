package servers

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RekorV2Config says how a RekorV2 differs from the usual one of the tests.
type RekorV2Config struct {
	Origin             string        // default rekor.test
	Key                *KeyPair      // of the log; default a new Ed25519 key. ECDSA works as well
	Dir                string        // storage; default a new folder
	CheckpointInterval time.Duration // default and least 100ms
	BatchMaxAge        time.Duration // default 50ms
	Forgetful          bool          // duplicates are known from the last 256 entries only, as by the server's default
	ReadOnly           bool          // a frozen shard: nothing is taken
	Flags              []string      // further flags of the server
}

// RekorV2 is a rekor-tiles server with POSIX storage, and beside it a file server for the
// checkpoint and the tiles, which rekor-tiles does not serve.
type RekorV2 struct {
	*Process
	URL     string
	ReadURL string
	Read    *Proxy // what serves ReadURL
	Origin  string
	Key     KeyPair
	Dir     string

	t TB
}

// StartRekorV2 starts a log and waits until it serves.
func StartRekorV2(t TB, c RekorV2Config) *RekorV2 {
	t.Helper()
	binary := install(t, RekorTiles)
	log := &RekorV2{Origin: c.Origin, Dir: c.Dir, t: t}
	if log.Origin == "" {
		log.Origin = "rekor.test"
	}
	if log.Dir == "" {
		log.Dir = t.TempDir()
	}
	if c.Key != nil {
		log.Key = *c.Key
	} else {
		log.Key = Ed25519(t)
	}
	port := freePort(t)
	log.URL = "http://" + address(port)
	log.Process = (&Process{
		name:  "rekor-tiles",
		path:  binary,
		args:  append(log.flags(c, port), c.Flags...),
		ready: answers(log.URL + "/healthz"),
	}).start(t)
	log.Read = StartProxy(t, http.FileServer(http.Dir(log.Dir)))
	log.ReadURL = log.Read.URL
	return log
}

func (log *RekorV2) flags(c RekorV2Config, port int) []string {
	interval, age := c.CheckpointInterval, c.BatchMaxAge
	if interval == 0 {
		interval = 100 * time.Millisecond
	}
	if age == 0 {
		age = 50 * time.Millisecond
	}
	return []string{
		"serve",
		"--hostname=" + log.Origin,
		"--storage-dir=" + log.Dir,
		"--signer-filepath=" + log.Key.Private,
		"--http-address=127.0.0.1", "--http-port=" + strconv.Itoa(port),
		"--grpc-address=127.0.0.1", "--grpc-port=" + strconv.Itoa(freePort(log.t)),
		"--http-metrics-port=" + strconv.Itoa(freePort(log.t)),
		"--checkpoint-interval=" + interval.String(),
		"--batch-max-age=" + age.String(),
		"--persistent-antispam=" + strconv.FormatBool(!c.Forgetful),
		"--read-only=" + strconv.FormatBool(c.ReadOnly),
	}
}

// Front serves both sides of the log at one address, as public instances do: what is
// written at /api/v2/log, what is read at /api/v2.
func (log *RekorV2) Front(t TB) *Proxy {
	t.Helper()
	mux := http.NewServeMux()
	files := http.StripPrefix("/api/v2", http.FileServer(http.Dir(log.Dir)))
	mux.Handle("/api/v2/checkpoint", files)
	mux.Handle("/api/v2/tile/", files)
	mux.Handle("/", Forward(log.URL))
	return StartProxy(t, mux)
}

// LogIDV2 returns the id of a log with an Ed25519 key (C2SP signed-note, the key id before
// it is cut).
func LogIDV2(origin string, public crypto.PublicKey) ([]byte, error) {
	key, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T", public)
	}
	id := sha256.Sum256(slices.Concat([]byte(origin+"\n\x01"), key))
	return id[:], nil
}

// Version is that of Rekor's protocol.
func (log *RekorV2) Version() int { return 2 }

// Trust returns what lodge verifies the log with: the file of its public key, and the
// origin of its checkpoints.
func (log *RekorV2) Trust() (key, origin string) { return log.Key.Public, log.Origin }

// LodgeFlags returns the flags by which lodge delivers to this log.
func (log *RekorV2) LodgeFlags() []string {
	return []string{
		"--log", log.URL, "--log-read-url", log.ReadURL,
		"--log-key", log.Key.Public, "--log-origin", log.Origin,
	}
}

// CosignFlag is the value of --rekor by which cosign trusts this log.
func (log *RekorV2) CosignFlag() string {
	return fmt.Sprintf("url=http://%s,public-key=%s,start-time=2024-01-01T00:00:00Z,origin=%[1]s", log.Origin, log.Key.Public)
}

// Size is the number of entries under the published checkpoint.
func (log *RekorV2) Size() int64 {
	log.t.Helper()
	// C2SP tlog-checkpoint: origin, size and root, a line each.
	b, err := os.ReadFile(filepath.Join(log.Dir, "checkpoint"))
	must(log.t, err, "reading the checkpoint")
	lines := strings.SplitN(string(b), "\n", 3)
	if len(lines) < 3 || lines[0] != log.Origin {
		log.t.Fatalf("not a checkpoint of %s: %q", log.Origin, b)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(log.t, err, "reading the checkpoint")
	return size
}

// Bodies returns the entries under the published checkpoint, as the log keeps them.
func (log *RekorV2) Bodies() [][]byte {
	log.t.Helper()
	var bodies [][]byte
	for size := log.Size(); int64(len(bodies)) < size; {
		tile := int64(len(bodies)) / 256
		b := log.bundle(tile, min(256, size-tile*256))
		// C2SP tlog-tiles, "Log entries": each has its length before it, big-endian uint16.
		for len(b) >= 2 && int64(len(bodies)) < size {
			n := int(binary.BigEndian.Uint16(b))
			if b = b[2:]; n > len(b) {
				log.t.Fatalf("entry bundle %d is cut", tile)
			}
			bodies, b = append(bodies, b[:n:n]), b[n:]
		}
	}
	return bodies
}

// bundle reads the entry bundle of a tile that holds width entries.
func (log *RekorV2) bundle(tile, width int64) []byte {
	log.t.Helper()
	// C2SP tlog-tiles: an index is written in groups of three digits, all but the last with x.
	name := fmt.Sprintf("%03d", tile%1000)
	for rest := tile / 1000; rest > 0; rest /= 1000 {
		name = fmt.Sprintf("x%03d/%s", rest%1000, name)
	}
	full := filepath.Join(log.Dir, "tile", "entries", filepath.FromSlash(name))
	if width < 256 {
		if b, err := os.ReadFile(fmt.Sprintf("%s.p/%d", full, width)); err == nil {
			return b
		}
	}
	b, err := os.ReadFile(full) // also where a partial tile has been filled since
	must(log.t, err, "reading entry bundle %d", tile)
	return b
}
