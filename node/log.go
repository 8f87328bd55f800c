package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// logClient is a Rekor log whose version is found out when it is first needed, so that a
// log that is down can be delivered to later. It implements deliver.Log.
type logClient struct {
	node   *Node
	shards []shard // the one that the URL names, then those that follow it

	mu     sync.Mutex
	client rekorClient // guarded by mu; nil until the version is known
}

// rekorClient is what clients of both versions do.
type rekorClient interface {
	Plan(att *bundle.Attestation) (lodge.Intent, error)
	Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error)
	Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error)
	Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error)
}

func (n *Node) newLog(ctx context.Context, c Log) (*logClient, error) {
	l := &logClient{node: n}
	for _, c := range append([]Log{c}, c.Shards...) {
		s, err := n.newShard(ctx, c)
		if err != nil {
			return nil, err
		}
		l.shards = append(l.shards, s)
	}
	return l, nil
}

// open connects once, finds out the version, and returns the client.
func (l *logClient) open(ctx context.Context) (rekorClient, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		return l.client, nil
	}
	version, err := rekor.Detect(ctx, httpClient, l.shards[0].URL, l.shards[0].ReadURL)
	if err != nil {
		return nil, err
	}
	if version == rekor.Version1 {
		l.client, err = l.openV1()
	} else {
		l.client, err = l.openV2()
	}
	if err != nil {
		l.client = nil
		return nil, lodge.Errorf(lodge.ClassHeld, "log-key", "%w", err)
	}
	return l.client, nil
}

func (l *logClient) openV1() (rekorClient, error) {
	if len(l.shards) > 1 {
		return nil, errors.New("it is a Rekor v1 log, which finds its shards itself: `shards` are for v2")
	}
	o, err := l.options(l.shards[0], rekor.Version1)
	if err != nil {
		return nil, err
	}
	return rekor.NewV1(o)
}

func (l *logClient) openV2() (rekorClient, error) {
	var clients []*rekor.V2
	for _, s := range l.shards {
		o, err := l.options(s, rekor.Version2)
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

func (l *logClient) options(s shard, version rekor.Version) (rekor.Options, error) {
	keys, err := s.keys(version)
	return rekor.Options{URL: s.URL, ReadURL: s.ReadURL, HTTP: httpClient, Leaves: l.node.store, Signer: l.signer, Keys: keys}, err
}

// signer judges a certificate in a log's entry.
func (l *logClient) signer(cert *x509.Certificate, at time.Time) (lodge.Signer, error) {
	root := l.node.signers.Root
	if root == nil {
		return "", errors.New("no trusted root is given to judge certificates by")
	}
	return root.Signer(cert, at)
}

func (l *logClient) Plan(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	client, err := l.open(ctx)
	if err != nil {
		return lodge.Intent{}, err
	}
	return client.Plan(att)
}

func (l *logClient) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	client, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	return client.Adopt(ctx, att)
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
}

// newShard reads what the shard is verified with. There is none that is believed without.
func (n *Node) newShard(ctx context.Context, c Log) (s shard, err error) {
	s.Log = c
	if s.url, err = url.Parse(c.URL); err != nil || s.url.Host == "" {
		return s, fmt.Errorf("log URL %q: want http(s)://host", c.URL)
	}
	switch {
	case c.Key != "":
		if s.pem, err = n.config.read(c.Key); err != nil {
			return s, fmt.Errorf("log's key: %w", err)
		}
		_, err = tlog.ParsePublicKey(s.pem)
	case c.TrustedRoot != "":
		s.root, err = n.config.root(c.TrustedRoot)
	case n.signers.Root != nil:
		s.root = n.signers.Root
	case isPublic(s.url.Hostname()):
		s.root, err = verify.PublicRoot(ctx)
	default:
		err = errors.New("nothing is given to verify the log with: give its public key with --log-key, or --trusted-root")
	}
	return s, err
}

// isPublic tells whether host is of the public Sigstore instance.
func isPublic(host string) bool {
	return host == "rekor.sigstore.dev" || strings.HasSuffix(host, ".rekor.sigstore.dev")
}

// keys returns what the shard is verified with if it speaks that version, one at least.
func (s shard) keys(version rekor.Version) ([]tlog.Key, error) {
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
