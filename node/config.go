package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// Config is a node's configuration: lodge.yaml. Unknown fields are refused. Relative
// paths of files in it are relative to the folder it is in.
type Config struct {
	// Store is where envelopes, deliveries and receipts are kept: sqlite:PATH (in a file, beside
	// it where it is relative), or postgres://… for several nodes that share the work.
	Store string `yaml:"store"`
	// Signers are whose envelopes are accepted besides those under a key given with the
	// envelope. With none, an envelope needs such a key, or a certificate.
	Signers []Signer `yaml:"signers"`
	// TrustedRoot is a Sigstore trusted_root.json that certificates are judged by.
	TrustedRoot string `yaml:"trustedRoot"`
	// TSA are timestamp authorities (RFC 3161, over HTTP), by the URLs that take queries. Each
	// is asked for a timestamp over the signature when an envelope is accepted.
	TSA []string `yaml:"tsa"`
	// Cache bounds the receipt cache.
	Cache Cache `yaml:"cache"`
	// Retention says how long the store keeps what is over.
	Retention Retention `yaml:"retention"`
	// Evidence says where archives of what was delivered go.
	Evidence Evidence `yaml:"evidence"`
	// Targets are the logs and repositories, by name.
	Targets map[string]Target `yaml:"targets"`
	// Deliver names the targets of an envelope that comes without any.
	Deliver []string `yaml:"deliver"`
	// Follow names the logs that are followed while the node runs: their checkpoints are
	// proven consistent and their entries read.
	Follow []string `yaml:"follow"`
	// Watch says how they are followed, and what is told of.
	Watch Watch `yaml:"watch"`
	// Listen is where `lodge serve` answers HTTP, HOST:PORT; not at all where it is empty.
	// There is no authentication yet, so it has to be a loopback address.
	Listen string `yaml:"listen"`
	// Events says where events go besides the store.
	Events Events `yaml:"events"`
	// Policies are files of policies, which are applied when the node opens. One that is no
	// longer in any stays until it is deleted.
	Policies []string `yaml:"policies"`

	folder string
}

// Events are the sinks of events. Each has a cursor of its own, so a new one gets all that
// are kept. They run with the node (Node.Run), one owner among all that share the store.
type Events struct {
	// File is a JSON Lines file that holds each event once; "-" is standard output. To rotate
	// it, move it away while lodge runs.
	File string `yaml:"file"`
	// Webhooks are sent one event a request, those of a subject in order.
	Webhooks []Webhook `yaml:"webhooks"`
	// NATS is a JetStream stream.
	NATS *NATS `yaml:"nats"`
}

// Webhook is a receiver of Standard Webhooks. Its sink is known by the URL.
type Webhook struct {
	URL string `yaml:"url"`
	// SecretFile holds whsec_… that requests are signed with, or several while the
	// receiver goes from one to the next.
	SecretFile string `yaml:"secretFile"`
	// Types are the types of event that are sent, such as EntryLogged; default all.
	Types []string `yaml:"types"`
	// Scopes narrow the events about envelopes to those with one of these scopes, such as
	// component:openssl, or with all:*. Other events are left out.
	Scopes []string `yaml:"scopes"`
}

// NATS is a JetStream stream, with the subjects lodge.events.TYPE.
type NATS struct {
	URL         string `yaml:"url"`         // nats://… or tls://…
	Stream      string `yaml:"stream"`      // made where it is missing
	Credentials string `yaml:"credentials"` // .creds file, if one is needed
}

// Signer is a public key, or the identity and issuer of certificates.
type Signer struct {
	Key      string `yaml:"key"` // PEM file
	Identity string `yaml:"identity"`
	Issuer   string `yaml:"issuer"`
}

// Watch says how logs are followed. The zero value means a look every ten seconds, all receipts
// checked again every hour, ten looks' time for what may pass, and nothing to be told of.
type Watch struct {
	// From says where a log is read that was never met: FromStart, the default, or FromNow. A
	// shard that comes later is read from its first entry on.
	From     string   `yaml:"from"`
	Every    Duration `yaml:"every"`
	Recheck  Duration `yaml:"recheck"`
	Patience Duration `yaml:"patience"` // with a log that has fewer entries than it had, or does not grow
	// Identities in certificates; with * at its end, all that begin so. Without issuer, of any.
	Identities []Identity     `yaml:"identities"`
	Keys       []string       `yaml:"keys"`     // PEM files of public keys
	Subjects   []lodge.Digest `yaml:"subjects"` // of what was signed: of a file, or of an envelope's payload or PAE
	Ours       bool           `yaml:"ours"`     // what was accepted here and is signed by others
}

// Where the entries of a log are read from on.
const (
	FromStart = "start" // all of them
	FromNow   = "now"   // those that come after the first look
)

// Identity is whom a certificate is for.
type Identity struct {
	Identity string `yaml:"identity"`
	Issuer   string `yaml:"issuer"`
}

// Cache bounds the receipt cache. The zero value means 24 hours and 100,000 receipts.
type Cache struct {
	TTL     Duration `yaml:"ttl"`
	Entries int      `yaml:"entries"`
}

// Retention says how long the store keeps what is over, from when it happened on. What is
// not set is kept for ever; receipts and proofs always are. What policies and evidence have not
// come to yet stays in any case.
type Retention struct {
	// Payloads are the envelopes, from acceptance on, each once all its deliveries are
	// verified. Without one there is no bundle of it any more, and another target gets it only
	// from the bytes that were handed in first.
	Payloads Duration `yaml:"payloads"`
	// History is the transitions of deliveries that are over, but the first: when it was queued.
	History Duration `yaml:"history"`
	// Outbox is the events. A sink that was away for longer misses those that are gone.
	Outbox Duration `yaml:"outbox"`
}

// Target is a log or a repository: exactly one of the two is set.
type Target struct {
	Log *Log `yaml:"log"`
	OCI *OCI `yaml:"oci"`
	// Requires names the logs whose proof an artifact carries, besides those that the
	// same envelope goes to anyway.
	Requires []string `yaml:"requires"`
	// Concurrency is how many deliveries are under way at a time.
	Concurrency int `yaml:"concurrency"`
	// Rate is how many deliveries are begun a second at most; 0 is no limit.
	Rate float64 `yaml:"rate"`
	// Deadline is how long a delivery is tried once it could start; without one for ever.
	Deadline Duration `yaml:"deadline"`
	// Settle is how long after a lost answer the target may still apply the request. For
	// a v2 log it has to be longer than its batch age and checkpoint interval together.
	Settle Duration `yaml:"settle"`
	// Relist is how often what was published in a repository is looked for, and listed
	// again where it is not: on a registry without the Referrers API others can drop it,
	// and garbage collection then deletes it. Default 10m.
	Relist Duration `yaml:"relist"`
}

// Log is a transparency log: Rekor v1 or v2, which is found out. It is verified with Key,
// or with TrustedRoot; without either only the public Sigstore instance is, by TUF.
type Log struct {
	URL         string `yaml:"url"`
	ReadURL     string `yaml:"readURL"`     // where a v2 log serves checkpoint and tile/…; default URL/api/v2
	Key         string `yaml:"key"`         // PEM file
	Origin      string `yaml:"origin"`      // first line of its checkpoints; default for v2: the URL's host name
	TrustedRoot string `yaml:"trustedRoot"` // trusted_root.json
	TUF         *TUF   `yaml:"tuf"`         // in place of TrustedRoot: a TUF repository that has it
	// Shards are those that follow a v2 log's first one, in their order: when a shard is
	// frozen, deliveries go on to the next. Each is described as a log of its own.
	Shards []Log `yaml:"shards"`
	// Mirrors are other places where the same log is read, as URL is for v1 and ReadURL
	// for v2: whoever follows it compares what they show.
	Mirrors []string `yaml:"mirrors"`
}

// TUF is a TUF repository that has a trusted root as its target trusted_root.json.
type TUF struct {
	URL  string `yaml:"url"`
	Root string `yaml:"root"` // file of its root metadata, version 1 or any later one
}

// OCI is a repository.
type OCI struct {
	Repository string `yaml:"repository"` // registry.example/path
}

// Duration is a time.Duration that YAML writes as 30s, 24h.
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler, which knows the place in the file.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	var text string
	if err := yaml.NodeToValue(node, &text); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	at := node.GetToken().Position
	switch {
	case err != nil:
		return fmt.Errorf("[%d:%d] %.100q: want a time such as 30s, 10m, 24h, of at most 290 years (there is no unit above h)", at.Line, at.Column, text)
	case parsed <= 0:
		return fmt.Errorf("[%d:%d] %s: want a time above 0", at.Line, at.Column, text)
	}
	*d = Duration(parsed)
	return nil
}

// Bounds on what a target may be given: beyond them it is a mistake.
const (
	minRate   = 0.001
	maxSettle = 24 * time.Hour
)

// maxConfig bounds the size of a configuration, in bytes.
const maxConfig = 1 << 20

// LoadConfig reads a configuration and checks it.
func LoadConfig(path string) (Config, error) {
	var c Config
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if len(raw) > maxConfig {
		return c, fmt.Errorf("configuration %s: over %d bytes", path, maxConfig)
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := yaml.UnmarshalWithOptions(raw, &c, yaml.Strict()); err != nil {
			return c, fmt.Errorf("configuration %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, false)))
		}
	}
	c.folder = filepath.Dir(path)
	if err := c.check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if file, local := strings.CutPrefix(c.Store, "sqlite:"); local {
		c.Store = "sqlite:" + c.path(file)
	}
	return c, nil
}

// DefaultConfig reads the configuration at its usual place, $XDG_CONFIG_HOME/lodge/lodge.yaml;
// where there is none it is empty.
func DefaultConfig() (Config, error) {
	if path, err := DefaultConfigPath(); err == nil {
		c, err := LoadConfig(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return Config{}, nil
}

// DefaultConfigPath is the usual place of the configuration.
func DefaultConfigPath() (string, error) {
	folder, err := os.UserConfigDir()
	return filepath.Join(folder, "lodge", "lodge.yaml"), err
}

func (c *Config) check() error {
	if err := c.checkStore(); err != nil {
		return fmt.Errorf("store: %w", err) // which does not repeat what may hold a password
	}
	for _, raw := range c.TSA {
		if u, err := url.Parse(raw); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("tsa: %.200q: want the http(s) URL that takes RFC 3161 queries", raw)
		}
	}
	for i, s := range c.Signers {
		if (s.Key == "") == (s.Identity == "") || (s.Identity == "") != (s.Issuer == "") {
			return fmt.Errorf("signers[%d]: want a key, or an identity with its issuer", i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if err := c.checkTarget(c.Targets[name]); err != nil {
			return fmt.Errorf("targets.%s: %w", name, err)
		}
	}
	for _, name := range c.Deliver {
		if _, ok := c.Targets[name]; !ok {
			return fmt.Errorf("deliver: there is no target %q", name)
		}
	}
	for _, name := range c.Follow {
		if t, ok := c.Targets[name]; !ok || t.Log == nil {
			return fmt.Errorf("follow: there is no log %q", name)
		}
	}
	if from := c.Watch.From; from != "" && from != FromStart && from != FromNow {
		return fmt.Errorf("watch.from: %q: want %s or %s", from, FromStart, FromNow)
	}
	for i, id := range c.Watch.Identities {
		if strings.Trim(id.Identity, "*") == "" {
			return fmt.Errorf("watch.identities[%d]: want an identity", i)
		}
	}
	return c.checkEvents()
}

func (c *Config) checkStore() error {
	scheme, _, _ := strings.Cut(c.Store, ":")
	switch {
	case c.Store == "":
		return nil
	case !slices.Contains([]string{"sqlite", "postgres", "postgresql"}, scheme):
		return errors.New("want " + store.Forms)
	}
	return store.CheckAddress(c.Store)
}

func (c *Config) checkTarget(t Target) error {
	switch {
	case (t.Log == nil) == (t.OCI == nil):
		return errors.New("want either log or oci")
	case t.Log != nil && t.Log.URL == "":
		return errors.New("log: url is missing")
	case t.OCI != nil && t.OCI.Repository == "":
		return errors.New("oci: repository is missing")
	case t.Log != nil && len(t.Requires) > 0:
		return errors.New("requires: a log requires nothing")
	case t.Concurrency < 0:
		return fmt.Errorf("concurrency: %d: want how many requests at a time", t.Concurrency)
	case t.Rate != 0 && !(t.Rate >= minRate && t.Rate <= math.MaxInt32): // NaN is in no range
		return fmt.Errorf("rate: %v: want how many requests a second, at least %v", t.Rate, minRate)
	case time.Duration(t.Settle) > maxSettle:
		return fmt.Errorf("settle: %s: want at most %s: a delivery whose answer was lost waits for so long", time.Duration(t.Settle), maxSettle)
	}
	for _, name := range t.Requires {
		if required, ok := c.Targets[name]; !ok || required.Log == nil {
			return fmt.Errorf("requires: there is no log %q", name)
		}
	}
	return nil
}

// read returns a file that the configuration names.
func (c *Config) read(path string) ([]byte, error) { return os.ReadFile(c.path(path)) }

// path returns where a file is that the configuration names.
func (c *Config) path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.folder, path)
}
