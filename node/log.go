package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// logClient is a Rekor log. Which version it speaks is found out when it is first needed,
// so that a log that is down can be delivered to later; what came with an envelope is
// judged without that. It implements deliver.Log and verify.Voucher.
type logClient struct {
	url, readURL string
	v1, v2       rekorClient // nil where it can't be that
	unfit        error       // why one of them is nil
	shards       []shard

	asking  singleflight.Group
	mu      sync.Mutex
	version rekor.Version // guarded by mu; 0 until it is known
}

// rekorClient is what clients of both versions do.
type rekorClient interface {
	Has(logID string) bool
	Plan(att *bundle.Attestation) (lodge.Intent, error)
	Admit(att *bundle.Attestation) error
	Vouch(att *bundle.Attestation) (*lodge.Entry, error)
	Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error)
	Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error)
	Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error)
}

func (n *Node) newLog(ctx context.Context, c Log) (*logClient, error) {
	var shards []shard
	for _, c := range append([]Log{c}, c.Shards...) {
		s, err := n.newShard(ctx, c)
		if err != nil {
			return nil, err
		}
		shards = append(shards, s)
	}
	l := &logClient{url: c.URL, readURL: c.ReadURL, shards: shards}
	v1, notV1 := n.newV1(shards)
	v2, notV2 := n.newV2(shards)
	if notV1 != nil && notV2 != nil {
		return nil, notV2
	}
	if l.unfit = errors.Join(notV1, notV2); notV1 == nil {
		l.v1 = v1
	}
	if notV2 == nil {
		l.v2 = v2
	}
	return l, nil
}

func (n *Node) newV1(shards []shard) (*rekor.V1, error) {
	if len(shards) > 1 {
		return nil, errors.New("`shards` are for Rekor v2: a v1 log finds its shards itself")
	}
	o, err := n.options(shards[0], rekor.Version1)
	if err != nil {
		return nil, err
	}
	return rekor.NewV1(o)
}

func (n *Node) newV2(shards []shard) (*rekor.Shards, error) {
	var clients []*rekor.V2
	for _, s := range shards {
		o, err := n.options(s, rekor.Version2)
		if err != nil {
			return nil, err
		}
		o.Keys = o.Keys[:1] // one shard has one key
		client, err := rekor.NewV2(o)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	return rekor.NewShards(clients...)
}

func (n *Node) options(s shard, version rekor.Version) (rekor.Options, error) {
	keys, err := s.keys(version)
	return rekor.Options{URL: s.URL, ReadURL: s.ReadURL, HTTP: httpClient, Leaves: n.store, Signer: n.certified, Time: n.stampedAt, Keys: keys}, err
}

// open returns the client of the version that the log speaks.
func (l *logClient) open(ctx context.Context) (rekorClient, error) {
	l.mu.Lock()
	version := l.version
	l.mu.Unlock()
	if version == 0 {
		_, err, _ := l.asking.Do("", func() (any, error) { return nil, l.ask(ctx) })
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		version = l.version
		l.mu.Unlock()
	}
	client := l.v1
	if version == rekor.Version2 {
		client = l.v2
	}
	if client == nil {
		return nil, lodge.Errorf(lodge.ClassHeld, "log-key", "it is a Rekor v%d log, and: %w", version, l.unfit)
	}
	return client, nil
}

// ask finds out which version the log speaks.
func (l *logClient) ask(ctx context.Context) error {
	version, err := rekor.Detect(ctx, httpClient, l.url, l.readURL)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version = version
	return nil
}

// Limit implements deliver.Limiter. A v2 log answers one caller about once a second, so it
// is fast with many alone; a v1 log's database is overrun by as many.
func (l *logClient) Limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version == rekor.Version2 {
		return 1024
	}
	return 64
}

// clients returns those of the versions that it may speak.
func (l *logClient) clients() []rekorClient {
	l.mu.Lock()
	defer l.mu.Unlock()
	var clients []rekorClient
	if l.v1 != nil && l.version != rekor.Version2 {
		clients = append(clients, l.v1)
	}
	if l.v2 != nil && l.version != rekor.Version1 {
		clients = append(clients, l.v2)
	}
	return clients
}

// certified judges a certificate in a log's entry.
func (n *Node) certified(cert *x509.Certificate, at time.Time) (lodge.Signer, error) {
	root := n.signers.Root
	if root == nil {
		return "", errors.New("no trusted root is given to judge certificates by")
	}
	return root.Signer(cert, at)
}

// Has implements deliver.Log.
func (l *logClient) Has(logID string) bool {
	return slices.ContainsFunc(l.clients(), func(c rekorClient) bool { return c.Has(logID) })
}

func (l *logClient) Plan(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	client, err := l.open(ctx)
	if err != nil {
		return lodge.Intent{}, err
	}
	return client.Plan(att)
}

func (l *logClient) Admit(ctx context.Context, att *bundle.Attestation) error {
	client, err := l.open(ctx)
	if err != nil {
		return err
	}
	return client.Admit(att)
}

func (l *logClient) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	return first(l.clients(), func(c rekorClient) (*lodge.Entry, error) { return c.Adopt(ctx, att) })
}

func (l *logClient) Vouch(att *bundle.Attestation) (*lodge.Entry, error) {
	return first(l.clients(), func(c rekorClient) (*lodge.Entry, error) { return c.Vouch(att) })
}

// first returns what the first client finds.
func first(clients []rekorClient, find func(rekorClient) (*lodge.Entry, error)) (*lodge.Entry, error) {
	for _, c := range clients {
		if e, err := find(c); !errors.Is(err, lodge.ErrNotFound) {
			return e, err
		}
	}
	return nil, lodge.ErrNotFound
}

func (l *logClient) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error) {
	client, err := l.open(ctx)
	if err != nil {
		return rekor.Found{}, err
	}
	return client.Find(ctx, att, intent)
}

func (l *logClient) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	client, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	return client.Send(ctx, att, intent)
}

// shard is a log, or one of its shards, with what it is verified with: a key, or a
// trusted root that names its keys.
type shard struct {
	Log
	url  *url.URL
	pem  []byte
	root *verify.Root

	named []tlog.Key // by a root, for this shard alone
}

// logURL reads the URL of a log. Its errors do not repeat a password that may be in it.
func logURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch whole := err == nil && u.Host != ""; {
	case whole && u.User != nil:
		return nil, fmt.Errorf("log URL %s: leave user and password out: the URL is shown in events and receipts", u.Redacted())
	case !whole && strings.Contains(raw, "@"):
		return nil, errors.New("log URL: want http(s)://host, without user and password")
	case !whole:
		return nil, fmt.Errorf("log URL %q: want http(s)://host", raw)
	}
	return u, nil
}

// newShard reads what the shard is verified with. There is none that is believed without.
func (n *Node) newShard(ctx context.Context, c Log) (s shard, err error) {
	s.Log = c
	if s.url, err = logURL(c.URL); err != nil {
		return s, err
	}
	for _, raw := range append([]string{c.ReadURL}, c.Mirrors...) {
		if _, err := logURL(raw); raw != "" && err != nil {
			return s, err
		}
	}
	switch {
	case c.Key != "":
		if s.pem, err = n.config.read(c.Key); err != nil {
			return s, fmt.Errorf("log's key: %w", err)
		}
		_, err = tlog.ParsePublicKey(s.pem)
	case c.TrustedRoot != "":
		s.root, err = n.config.root(c.TrustedRoot)
	case c.TUF != nil:
		var initial []byte
		if initial, err = n.config.read(c.TUF.Root); err == nil {
			s.root, err = verify.TUFRoot(ctx, c.TUF.URL, initial)
		}
	case n.signers.Root != nil:
		s.root = n.signers.Root
	case isPublic(s.url.Hostname()):
		s.root, err = verify.PublicRoot(ctx)
	default:
		err = errors.New("nothing is given to verify the log with: give its public key with --log-key (key: in the configuration), or --trusted-root (trustedRoot:)")
	}
	return s, err
}

// isPublic tells whether host is of the public Sigstore instance.
func isPublic(host string) bool {
	return host == "rekor.sigstore.dev" || strings.HasSuffix(host, ".rekor.sigstore.dev")
}

// keys returns what the shard is verified with if it speaks that version, one at least.
func (s shard) keys(version rekor.Version) ([]tlog.Key, error) {
	if s.named != nil {
		return s.named, nil
	}
	if s.root != nil {
		var keys []tlog.Key
		for _, log := range s.root.Logs() {
			if log.Version == int(version) && sameHost(log.URL, s.url) {
				keys = append(keys, log.Key)
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("the trusted root names no Rekor v%d log at %s", version, s.url.Host)
		}
		return keys, nil
	}
	public, err := tlog.ParsePublicKey(s.pem)
	if err != nil {
		return nil, err
	}
	origin, newKey := s.Origin, tlog.NewV1Key
	if version == rekor.Version2 {
		newKey = tlog.NewV2Key
		if origin == "" {
			origin = s.url.Hostname()
		}
	}
	key, err := newKey(origin, public)
	return []tlog.Key{key}, err
}

func sameHost(raw string, u *url.URL) bool {
	other, err := url.Parse(raw)
	return err == nil && other.Hostname() == u.Hostname()
}

// httpClient is shared by all logs: a v2 log is only fast with many requests under way.
var httpClient = &http.Client{Transport: &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	TLSHandshakeTimeout:   10 * time.Second,
	ForceAttemptHTTP2:     true,
	MaxIdleConns:          2048,
	MaxIdleConnsPerHost:   1024,
	IdleConnTimeout:       60 * time.Second,
	ResponseHeaderTimeout: 60 * time.Second,
}}
