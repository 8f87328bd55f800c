package logtest

import (
	"errors"
	"net/http"
	"time"

	"github.com/lodgehq/lodge/tlog"
)

var errTODO = errors.New("not yet")

// Log is a log for tests.
type Log struct{}

// NewV2 returns an empty Rekor v2 log with that origin.
func NewV2(origin string) (*Log, error) { return nil, errTODO }

// NewV1 returns an empty Rekor v1 log whose checkpoints are signed as host.
func NewV1(host string) (*Log, error) { return nil, errTODO }

// Fault is a failure of one request.
type Fault struct {
	Path   string        // substring of the path that it strikes, "" = submissions
	Skip   int           // how many matching requests pass first
	Count  int           // how many it strikes; 0 = 1, negative = all
	Apply  bool          // a submission is applied before it fails
	Late   time.Duration // with Apply: the entry lands that much later
	Stall  time.Duration // the answer comes that much later; negative: only when the client gives up
	Status int           // answer this; 0 = drop the connection (lost reply)
	Header http.Header   // of the answer
	Body   string        // of the answer
}

// Inject adds a fault.
func (l *Log) Inject(f Fault) {}

// URL returns the address under which Client and RoundTrip serve it.
func (l *Log) URL() string { return "" }

// Client returns an http.Client that reaches the log without a socket.
func (l *Log) Client() *http.Client { return nil }

// Key returns the key that verifies its checkpoints.
func (l *Log) Key() tlog.Key { return tlog.Key{} }

// PublicPEM returns the public key in PEM.
func (l *Log) PublicPEM() []byte { return nil }

// Size returns the number of entries.
func (l *Log) Size() int64 { return 0 }

// Bodies returns the canonicalized bodies in order.
func (l *Log) Bodies() [][]byte { return nil }

// Append adds an entry of somebody else.
func (l *Log) Append(body []byte) {}

// Fork returns another log with the same key and the entries up to size.
func (l *Log) Fork(size int64) *Log { return nil }

// Replace makes l serve what other serves.
func (l *Log) Replace(other *Log) {}

// RollBack forgets the entries from size on.
func (l *Log) RollBack(size int64) {}

// Requests counts the requests whose "METHOD /path" contains substring.
func (l *Log) Requests(substring string) int { return 0 }

// ServeHTTP implements http.Handler.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// RoundTrip implements http.RoundTripper without a socket.
func (l *Log) RoundTrip(r *http.Request) (*http.Response, error) { return nil, errTODO }
