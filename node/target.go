package node

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// target is a configured target with its client.
type target struct {
	deliver.Target
	log        *logClient      // one of the two
	repository *oci.Repository //
	requires   []string
}

func (n *Node) newTarget(ctx context.Context, name string, c Target) (*target, error) {
	t := &target{requires: c.Requires}
	t.Name, t.Concurrency, t.Settle = name, c.Concurrency, time.Duration(c.Settle)
	if c.Log != nil {
		u, err := url.Parse(c.Log.URL)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("log URL %q: want http(s)://host", c.Log.URL)
		}
		t.Kind, t.Address = lodge.KindLog, strings.TrimSuffix(c.Log.URL, "/")
		t.log = &logClient{config: *c.Log, node: n, url: u}
		if err := t.log.readTrust(ctx); err != nil {
			return nil, err
		}
		t.Log = t.log
		return t, nil
	}
	repository, err := oci.New(c.OCI.Repository, oci.Options{})
	if err != nil {
		return nil, err
	}
	t.Kind, t.Address = lodge.KindRepository, repository.Address()
	t.repository, t.Repository = repository, repository
	return t, nil
}

// logClient is a Rekor log whose version is found out when it is first needed, so that a
// log that is down can be delivered to later. It implements deliver.Log.
type logClient struct {
	config Log
	node   *Node
	url    *url.URL
	pem    []byte       // its public key, or:
	root   *verify.Root // what names its keys

	mu     sync.Mutex
	client interface { // guarded by mu; nil until the version is known
		Plan(att *bundle.Attestation) (lodge.Intent, error)
		Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error)
		Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error)
		Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error)
	}
}

// readTrust reads what the log is verified with. There is no log that is believed
// without.
func (l *logClient) readTrust(ctx context.Context) (err error) {
	c := &l.node.config
	switch {
	case l.config.Key != "":
		if l.pem, err = c.read(l.config.Key); err != nil {
			return fmt.Errorf("log's key: %w", err)
		}
		_, err = tlog.ParsePublicKey(l.pem)
	case l.config.TrustedRoot != "":
		l.root, err = c.root(l.config.TrustedRoot)
	case l.node.signers.Root != nil:
		l.root = l.node.signers.Root
	case isPublic(l.url.Hostname()):
		l.root, err = verify.PublicRoot(ctx)
	default:
		err = fmt.Errorf("nothing is given to verify the log with: give its public key with --log-key, or --trusted-root")
	}
	return err
}

// isPublic tells whether host is of the public Sigstore instance.
func isPublic(host string) bool {
	return host == "rekor.sigstore.dev" || strings.HasSuffix(host, ".rekor.sigstore.dev")
}

func (l *logClient) open(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		return nil
	}
	version, err := rekor.Detect(ctx, httpClient, l.config.URL, l.config.ReadURL)
	if err != nil {
		return err
	}
	o := rekor.Options{URL: l.config.URL, ReadURL: l.config.ReadURL, HTTP: httpClient, Leaves: l.node.store, Signer: l.signer}
	if o.Keys, err = l.keys(version); err != nil {
		return &lodge.Error{Class: lodge.ClassHeld, Code: "log-key", Message: err.Error(), Err: err}
	}
	if version == rekor.Version1 {
		l.client, err = rekor.NewV1(o)
	} else {
		l.client, err = rekor.NewV2(o)
	}
	return err
}

// keys returns what a log of that version is verified with.
func (l *logClient) keys(version rekor.Version) ([]tlog.Key, error) {
	if l.root != nil {
		var keys []tlog.Key
		for _, log := range l.root.Logs() {
			if log.Version == int(version) && sameHost(log.URL, l.url) {
				keys = append(keys, log.Key)
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("the trusted root names no Rekor v%d log at %s", version, l.url.Host)
		}
		return keys, nil
	}
	public, err := tlog.ParsePublicKey(l.pem)
	if err != nil {
		return nil, err
	}
	origin, newKey := l.config.Origin, tlog.NewV1Key
	if version == rekor.Version2 {
		newKey = tlog.NewV2Key
		if origin == "" {
			origin = l.url.Hostname()
		}
	}
	key, err := newKey(origin, public)
	return []tlog.Key{key}, err
}

func sameHost(raw string, u *url.URL) bool {
	other, err := url.Parse(raw)
	return err == nil && other.Hostname() == u.Hostname()
}

// signer judges a certificate in a log's entry.
func (l *logClient) signer(cert *x509.Certificate, at time.Time) (lodge.Signer, error) {
	root := l.node.signers.Root
	if root == nil {
		return "", fmt.Errorf("no trusted root is given to judge certificates by")
	}
	return root.Signer(cert, at)
}

func (l *logClient) Plan(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error) {
	if err := l.open(ctx); err != nil {
		return lodge.Intent{}, err
	}
	return l.client.Plan(att)
}

func (l *logClient) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	return l.client.Adopt(ctx, att)
}

func (l *logClient) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error) {
	if err := l.open(ctx); err != nil {
		return rekor.Found{}, err
	}
	return l.client.Find(ctx, att, intent)
}

func (l *logClient) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	return l.client.Send(ctx, att, intent)
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
