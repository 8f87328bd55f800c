package rekor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/tlog"
)

// Options say where a log is and what its words are verified with.
type Options struct {
	URL     string       // without /api/…
	ReadURL string       // v2: what checkpoint and tile/… are relative to; default URL/api/v2
	HTTP    *http.Client // default http.DefaultClient; redirects are never followed

	// Keys verify the log. A v2 client speaks with one shard and takes one key; a v1 client
	// takes that of the shard that is written to first, then those of frozen shards.
	Keys []tlog.Key

	MaxRequest int64 // bytes of a request that the server takes; default v2 4 MiB, v1 unlimited

	Leaves    Leaves // v2, required
	MaxLeaves int64  // v2: a log with more that are not indexed yet is indexed from its end on; default 1,000,000

	// Signer verifies a certificate against a trust root, as of the time given, and says who
	// it stands for. v1 finds entries by others with it; without it, an entry under another
	// certificate than the attestation's own is nobody's.
	Signer func(certificate *x509.Certificate, at time.Time) (lodge.Signer, error)

	// Time returns the time of an RFC 3161 timestamp, where that is over signature and, as far
	// as authorities are known, by one of them. Without it timestamps are not judged.
	Time func(timestamp, signature []byte) (time.Time, error)
}

// Leaves is the local index of a log's leaf hashes. All of them were authenticated
// before they are added. Implementations are safe for use by several processes.
type Leaves interface {
	// LeafRange returns which leaves are in the index, complete: [from,size). A log that
	// it knows nothing of has 0, 0.
	LeafRange(ctx context.Context, logID string) (from, size int64, err error)
	// AddLeaves adds the leaves from index at on. at must equal size, or the error wraps
	// lodge.ErrStale and nothing was added; the first call for a log sets from.
	AddLeaves(ctx context.Context, logID string, at int64, hashes []lodge.Digest) error
	// SkipLeaves has the index begin anew at to: complete is what is added from there on. at
	// must equal size, or the error wraps lodge.ErrStale and nothing was changed.
	SkipLeaves(ctx context.Context, logID string, at, to int64) error
	// FindLeaf returns the indexes at which hash is, ascending.
	FindLeaf(ctx context.Context, logID string, hash lodge.Digest) ([]int64, error)
}

// Found is what a search found.
type Found struct {
	Entry *lodge.Entry // verified; nil: absent. Without InclusionProof: promised, not integrated (v1)

	// Attestation is set where the entry carries another signature by the same signer, or
	// the same under another certificate: the statement as that entry logged it.
	Attestation *bundle.Attestation

	TreeSize int64  // v2: the size under which it was looked for, lodge.EmptyTree for 0
	LogID    string // v2: of the tree with that size
}

// Version is the version of the protocol that a log speaks.
type Version int

// The versions.
const (
	Version1 Version = 1
	Version2 Version = 2
)

// Detect finds out which version the log at base speaks. A readURL is a v2 log's only. The
// error is a *lodge.Error: "unreachable" and the like where no answer came, which says
// nothing about the version, or "not-a-log" of class held.
func Detect(ctx context.Context, client *http.Client, base, readURL string) (Version, error) {
	if readURL != "" {
		return Version2, nil
	}
	c, err := newConn(client, base)
	if err != nil {
		return 0, err
	}
	v2 := c.get(ctx, "/api/v2/checkpoint", tlog.MaxCheckpoint)
	switch {
	case v2.Err == nil && v2.Status == http.StatusOK && looksSigned(v2.Body):
		return Version2, nil
	case v2.Err == nil && v2.Status == http.StatusNotImplemented:
		return Version2, nil // rekor-tiles where another server has the read side
	}
	v1 := c.get(ctx, "/api/v1/log", maxAnswer)
	if v1.Err == nil && v1.Status == http.StatusOK && strings.Contains(string(v1.Body), `"signedTreeHead"`) {
		return Version1, nil
	}
	for _, a := range []Answer{v2, v1} {
		e := readError(a)
		if a.Err == nil && a.Status < http.StatusMultipleChoices || e.Class != lodge.ClassRetry {
			continue
		}
		e.Message = fmt.Sprintf("log %s is unreachable: %s", base, e.Message)
		return 0, e
	}
	return 0, lodge.Errorf(lodge.ClassHeld, "not-a-log",
		"%s is no Rekor log: it has neither /api/v2/checkpoint (HTTP %d) nor /api/v1/log (HTTP %d); a v2 log that is read elsewhere needs its read URL",
		base, v2.Status, v1.Status)
}

// looksSigned tells a signed note from a web page.
func looksSigned(raw []byte) bool { return strings.Contains(string(raw), "\n\n— ") }

// checkURL returns raw as the base of a log's addresses.
func checkURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("log URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("log URL %.200q: want http(s)://host[/path]", raw)
	}
	return strings.TrimRight(raw, "/"), nil
}

// unsupported says that a log can't take what it was given; nothing was sent.
func unsupported(format string, args ...any) *lodge.Error {
	return lodge.Errorf(lodge.ClassPermanent, "key-unsupported", format, args...)
}

// lies says that a log contradicts what it was sent or what it signed. The log is held: an
// operator has to look, and nothing is lost by waiting.
func lies(format string, args ...any) *lodge.Error {
	return lodge.Errorf(lodge.ClassHeld, lodge.CodeLies, format, args...)
}

// distrust classifies why a log's own words did not verify.
func distrust(err error) *lodge.Error {
	if errors.Is(err, lodge.ErrSignature) {
		return lodge.Errorf(lodge.ClassHeld, "log-key", "the log's checkpoint does not verify with the key and origin given: %w", err)
	}
	return lies("the log contradicts itself: %w", err)
}

// afterwards returns why a submission that the log seems to have taken could not be
// confirmed. Whatever failed then, the entry may be there: it has to be asked for.
func afterwards(err error) *lodge.Error {
	e := *lodge.Classify(err)
	if e.Class != lodge.ClassHeld {
		e.Class = lodge.ClassUnknown
	}
	return &e
}
