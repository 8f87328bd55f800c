package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Config is a node's configuration: lodge.yaml. Unknown fields are refused. Relative
// paths of files in it are relative to the folder it is in.
type Config struct {
	// Store is where envelopes, deliveries and receipts are kept: sqlite:PATH, or
	// postgres://… for several nodes that share the work.
	Store string `yaml:"store"`
	// Signers are whose envelopes are accepted besides those under a key given with the
	// envelope. With none, an envelope needs such a key, or a certificate.
	Signers []Signer `yaml:"signers"`
	// TrustedRoot is a Sigstore trusted_root.json that certificates are judged by.
	TrustedRoot string `yaml:"trustedRoot"`
	// Cache bounds the receipt cache.
	Cache Cache `yaml:"cache"`
	// Targets are the logs and repositories, by name.
	Targets map[string]Target `yaml:"targets"`
	// Deliver names the targets of an envelope that comes without any.
	Deliver []string `yaml:"deliver"`

	folder string
}

// Signer is a public key, or the identity and issuer of certificates.
type Signer struct {
	Key      string `yaml:"key"` // PEM file
	Identity string `yaml:"identity"`
	Issuer   string `yaml:"issuer"`
}

// Cache bounds the receipt cache. The zero value means 24 hours and 100,000 receipts.
type Cache struct {
	TTL     Duration `yaml:"ttl"`
	Entries int      `yaml:"entries"`
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
}

// Log is a transparency log: Rekor v1 or v2, which is found out. It is verified with Key,
// or with TrustedRoot; without either only the public Sigstore instance is, by TUF.
type Log struct {
	URL         string `yaml:"url"`
	ReadURL     string `yaml:"readURL"`     // where a v2 log serves checkpoint and tile/…; default URL/api/v2
	Key         string `yaml:"key"`         // PEM file
	Origin      string `yaml:"origin"`      // first line of its checkpoints; default for v2: the URL's host name
	TrustedRoot string `yaml:"trustedRoot"` // trusted_root.json
	// Shards are those that follow a v2 log's first one, in their order: when a shard is
	// frozen, deliveries go on to the next. Each is described as a log of its own.
	Shards []Log `yaml:"shards"`
}

// OCI is a repository.
type OCI struct {
	Repository string `yaml:"repository"` // registry.example/path
}

// Duration is a time.Duration that YAML writes as 30s, 24h.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed <= 0 {
		err = fmt.Errorf("%s: want a time above 0", text)
	}
	*d = Duration(parsed)
	return err
}

const storeForms = "sqlite:PATH or postgres://USER@HOST/DATABASE"

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
	return c, nil
}

// DefaultConfig reads the configuration at its usual place, $XDG_CONFIG_HOME/lodge/lodge.yaml;
// where there is none it is empty.
func DefaultConfig() (Config, error) {
	if folder, err := os.UserConfigDir(); err == nil {
		c, err := LoadConfig(filepath.Join(folder, "lodge", "lodge.yaml"))
		if !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return Config{}, nil
}

func (c *Config) check() error {
	if scheme, _, _ := strings.Cut(c.Store, ":"); c.Store != "" && !slices.Contains([]string{"sqlite", "postgres", "postgresql"}, scheme) {
		return fmt.Errorf("store: want %s", storeForms) // what is there may hold a password
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
	return nil
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
	}
	for _, name := range t.Requires {
		if required, ok := c.Targets[name]; !ok || required.Log == nil {
			return fmt.Errorf("requires: there is no log %q", name)
		}
	}
	return nil
}

// read returns a file that the configuration names.
func (c *Config) read(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.folder, path)
	}
	return os.ReadFile(path)
}
