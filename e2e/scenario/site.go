// Package scenario holds the end-to-end tests of what lodge promises, each written once and
// run against both versions of Rekor: by package e2e against v2, by e2e/interop against v1.
//
// What is in a log or a registry is read by other means than lodge's: package servers.
//
// It may import anything. Of lodge it uses the command, and package node where a test has
// to be inside of the process.
package scenario

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// A Log is a running log. Both versions of Rekor in package servers satisfy it.
type Log interface {
	Version() int
	Trust() (key, origin string)
	CosignFlag() string
	Front(t servers.TB) *servers.Proxy // a new one each time
	Size() int64
	Bodies() [][]byte
	Stop()
	Start()
	Restart()
}

// A Site is what a scenario plays on: a log, perhaps a repository with an image, and somebody
// who signs statements about that image. Lodge reaches both through proxies.
type Site struct {
	t      *testing.T
	Log    Log
	Front  *servers.Proxy // of the log
	Signer servers.KeyPair
	Image  string // digest
	about  string // what makes its statements differ from those of other sites

	Registry *servers.Registry // nil where there is none
	Door     *servers.Proxy    // of the registry
}

// settle is how long lodge waits after a lost answer. The logs here are fast.
const settle = "2s"

// repository is the only one of a registry.
const repository = "app"

// noImage is what statements are about where there is no registry.
var noImage = "sha256:" + strings.Repeat("ab", 32)

// NewSite returns a site without a registry.
func NewSite(t *testing.T, log Log) *Site {
	t.Helper()
	return &Site{t: t, Log: log, Front: log.Front(t), Signer: newSigner(t), Image: noImage, about: rand.Text()}
}

// in returns the site as a subtest sees it.
func (s *Site) in(t *testing.T) *Site {
	same := *s
	same.t = t
	return &same
}

// beside returns a site of the same log for a subtest, with a proxy and a signer of its own.
func (s *Site) beside(t *testing.T) *Site {
	t.Helper()
	return NewSite(t, s.Log)
}

// A Registry starts a registry with a login, or without one, and what lodge reaches it by.
type Registry struct {
	Name  string
	Start func(t *testing.T, login servers.Login) (*servers.Registry, *servers.Proxy)
}

// Registries are those that every scenario about artifacts is run with: one without the
// Referrers API and one with it.
var Registries = []Registry{
	{"distribution", func(t *testing.T, login servers.Login) (*servers.Registry, *servers.Proxy) {
		r := servers.StartRegistry(t, login)
		return r, servers.StartProxy(t, servers.Forward("http://"+r.Host))
	}},
	{"referrers", func(t *testing.T, login servers.Login) (*servers.Registry, *servers.Proxy) {
		return servers.StartRegistryWithReferrers(t, login)
	}},
}

// With adds a registry to a site, and an image that the statements are about from now on.
func (s *Site) With(r Registry, login servers.Login) *Site {
	s.t.Helper()
	s.Registry, s.Door = r.Start(s.t, login)
	s.Image = s.Registry.PushImage(repository, "v1", "an application")
	return s
}

// config is a lodge.yaml, which is JSON here.
type config struct {
	TrustedRoot string            `json:"trustedRoot,omitempty"`
	TSA         []string          `json:"tsa,omitempty"`
	Evidence    *evidenceConfig   `json:"evidence,omitempty"`
	Targets     map[string]target `json:"targets"`
	Deliver     []string          `json:"deliver"`
	Follow      []string          `json:"follow,omitempty"`
	Watch       *watchList        `json:"watch,omitempty"`
}

type watchList struct {
	Every    string   `json:"every,omitempty"`
	Patience string   `json:"patience,omitempty"`
	Keys     []string `json:"keys,omitempty"`
	Ours     bool     `json:"ours,omitempty"`
}

type evidenceConfig struct {
	Directory string `json:"directory"`
}

type target struct {
	Log         *logTarget        `json:"log,omitempty"`
	OCI         map[string]string `json:"oci,omitempty"`
	Concurrency int               `json:"concurrency,omitempty"`
	Settle      string            `json:"settle,omitempty"`
}

type logTarget struct {
	URL    string `json:"url"`
	Key    string `json:"key"`
	Origin string `json:"origin"`

	Mirrors []string `json:"mirrors,omitempty"`
}

// Names of the targets.
const (
	theLog    = "log"
	theImages = "images"
)

// config names the site's log and, where it has one, its registry.
func (s *Site) config() config {
	key, origin := s.Log.Trust()
	log := target{Log: &logTarget{URL: s.Front.URL, Key: key, Origin: origin}, Settle: settle}
	if s.Log.Version() == 1 {
		log.Concurrency = 64 // more at a time make it slower, down to where it answers none in time
	}
	c := config{Targets: map[string]target{theLog: log}, Deliver: []string{theLog}}
	if s.Door != nil {
		c.Targets[theImages] = target{OCI: map[string]string{"repository": s.Door.Host + "/" + repository}}
		c.Deliver = append(c.Deliver, theImages)
	}
	return c
}

// write writes a file into a new temporary folder and returns its path.
func (s *Site) write(name string, content []byte) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *Site) encode(v any) []byte {
	s.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// entries counts the entries of the log about a content.
func (s *Site) entries(hash contentHash) int {
	s.t.Helper()
	n := 0
	for _, body := range s.Log.Bodies() {
		if s.content(body) == hash {
			n++
		}
	}
	return n
}

// wantEntry fails the test unless the log has exactly one entry of that payload, signed
// over SHA-256.
func (s *Site) wantEntry(payload []byte) {
	s.t.Helper()
	if n := s.entries(s.hashOf(payload, sha256Opts)); n != 1 {
		s.t.Errorf("the log has %d entries of it, want 1", n)
	}
}

// wantSize fails the test unless the log has n entries in all.
func (s *Site) wantSize(n int64) {
	s.t.Helper()
	if size := s.Log.Size(); size != n {
		s.t.Errorf("the log has %d entries, want %d", size, n)
	}
}

// submissions matches the requests by which something is added to the log.
func (s *Site) submissions() servers.Match {
	return func(method, path string) bool { return method == "POST" && strings.HasSuffix(path, "/log/entries") }
}

// sent counts the requests so far by which something was added to the log.
func (s *Site) sent() int { return s.Front.Count(s.submissions()) }
