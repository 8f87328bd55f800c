package servers

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/bcrypt"
)

// Login is what a registry asks for; the zero value is nothing.
type Login struct{ User, Password string }

// DockerConfig returns a docker config.json with this login for a registry.
func (l Login) DockerConfig(host string) []byte {
	type entry struct {
		Auth string `json:"auth"`
	}
	auth := base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))
	b, err := json.Marshal(map[string]map[string]entry{"auths": {host: {auth}}})
	if err != nil {
		panic(err) // of strings
	}
	return b
}

// A Registry is a running OCI registry. Its methods read and write with a client of
// another make than lodge's.
type Registry struct {
	*Process        // nil for the registry in this process
	Host     string // host:port
	Login    Login

	t   TB
	dir string // storage of distribution
}

// StartRegistry starts a distribution registry: no Referrers API, storage in a folder.
// With a login it asks for it.
func StartRegistry(t TB, login Login) *Registry {
	t.Helper()
	r := &Registry{Host: address(freePort(t)), Login: login, t: t, dir: t.TempDir()}
	etc := t.TempDir()
	config := fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, secret: for tests}
`, r.dir, r.Host)
	if login != (Login{}) {
		hash, err := bcrypt.GenerateFromPassword([]byte(login.Password), bcrypt.MinCost)
		must(t, err, "hashing a password")
		users := filepath.Join(etc, "htpasswd")
		must(t, os.WriteFile(users, fmt.Appendf(nil, "%s:%s\n", login.User, hash), 0o600), "writing %s", users)
		config += fmt.Sprintf("auth: {htpasswd: {realm: tests, path: %q}}\n", users)
	}
	file := filepath.Join(etc, "config.yml")
	must(t, os.WriteFile(file, []byte(config), 0o600), "writing %s", file)
	r.Process = (&Process{
		name:  "registry",
		path:  install(t, Distribution),
		args:  []string{"serve", file},
		env:   environ([]string{"REGISTRY_*", "OTEL_*"}, "OTEL_TRACES_EXPORTER=none"),
		ready: answers("http://" + r.Host + "/"),
	}).start(t)
	return r
}

// StartRegistryWithReferrers serves go-containerregistry's registry from this process: it
// has the Referrers API and keeps everything in memory. The Proxy is what serves it.
func StartRegistryWithReferrers(t TB, login Login) (*Registry, *Proxy) {
	t.Helper()
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	if login != (Login{}) {
		handler = login.required(handler)
	}
	p := StartProxy(t, handler)
	return &Registry{Host: p.Host, Login: login, t: t}, p
}

// required asks for the login before next (RFC 7617).
func (l Login) required(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(l.User+":"+l.Password)) == 0 {
			w.Header().Set("WWW-Authenticate", `Basic realm="tests"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// PushImage pushes a small image under a tag and returns its digest, "sha256:…". The same
// content gives the same digest.
func (r *Registry) PushImage(repository, tag, content string) string {
	r.t.Helper()
	to := r.repository(repository).Tag(tag)
	must(r.t, remote.Write(to, image(r.t, content), r.options()...), "pushing %s", to)
	return ImageDigest(r.t, content)
}

// ImageDigest returns the digest of the image that PushImage makes of content.
func ImageDigest(t TB, content string) string {
	t.Helper()
	digest, err := image(t, content).Digest()
	must(t, err, "computing an image's digest")
	return digest.String()
}

func image(t TB, content string) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(content), types.OCILayer))
	must(t, err, "making an image")
	return mutate.MediaType(mutate.ConfigMediaType(image, types.OCIConfigJSON), types.OCIManifestSchema1)
}

// Referrers lists what refers to an image, by the Referrers API or, where the registry has
// none, by the fallback tag.
func (r *Registry) Referrers(repository, digest string) []v1.Descriptor {
	r.t.Helper()
	of := r.repository(repository).Digest(digest)
	index, err := remote.Referrers(of, r.options()...)
	must(r.t, err, "listing the referrers of %s", of)
	manifest, err := index.IndexManifest()
	must(r.t, err, "listing the referrers of %s", of)
	return manifest.Manifests
}

// Tags lists the tags of a repository.
func (r *Registry) Tags(repository string) []string {
	r.t.Helper()
	tags, err := remote.List(r.repository(repository), r.options()...)
	must(r.t, err, "listing the tags of %s", repository)
	return tags
}

// Manifest returns a manifest by digest or tag.
func (r *Registry) Manifest(repository, reference string) []byte {
	r.t.Helper()
	d, err := remote.Get(r.reference(repository, reference), r.options()...)
	must(r.t, err, "getting %s", reference)
	return d.Manifest
}

// Layer returns the only layer of an artifact.
func (r *Registry) Layer(repository, reference string) []byte {
	r.t.Helper()
	image, err := remote.Image(r.reference(repository, reference), r.options()...)
	must(r.t, err, "getting %s", reference)
	manifest, err := image.Manifest()
	must(r.t, err, "getting %s", reference)
	if len(manifest.Layers) != 1 {
		r.t.Fatalf("%s has %d layers", reference, len(manifest.Layers))
	}
	layer, err := remote.Layer(r.repository(repository).Digest(manifest.Layers[0].Digest.String()), r.options()...)
	must(r.t, err, "getting the layer of %s", reference)
	blob, err := layer.Compressed() // as it is stored
	must(r.t, err, "getting the layer of %s", reference)
	defer func() { _ = blob.Close() }()
	b, err := io.ReadAll(io.LimitReader(blob, 64<<20))
	must(r.t, err, "getting the layer of %s", reference)
	return b
}

// Artifacts returns the digests of all manifests of a repository that a distribution
// registry keeps and that have a subject, whether they are listed for it or not.
func (r *Registry) Artifacts(repository string) []string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "docker", "registry", "v2", "repositories",
		filepath.FromSlash(repository), "_manifests", "revisions", "sha256")
	revisions, err := os.ReadDir(dir)
	must(r.t, err, "reading the storage of %s", repository)
	var found []string
	for _, revision := range revisions {
		if _, err := os.Stat(filepath.Join(dir, revision.Name(), "link")); err != nil {
			continue // the registry was killed while it took this one
		}
		digest := "sha256:" + revision.Name()
		var manifest struct {
			Subject *v1.Descriptor `json:"subject"`
		}
		must(r.t, json.Unmarshal(r.Manifest(repository, digest), &manifest), "reading %s", digest)
		if manifest.Subject != nil {
			found = append(found, digest)
		}
	}
	return found
}

func (r *Registry) repository(repository string) name.Repository {
	r.t.Helper()
	repo, err := name.NewRepository(r.Host+"/"+repository, name.Insecure)
	must(r.t, err, "%s", repository)
	return repo
}

func (r *Registry) reference(repository, reference string) name.Reference {
	r.t.Helper()
	if strings.HasPrefix(reference, "sha256:") {
		return r.repository(repository).Digest(reference)
	}
	return r.repository(repository).Tag(reference)
}

func (r *Registry) options() []remote.Option {
	options := []remote.Option{remote.WithContext(r.t.Context())}
	if r.Login != (Login{}) {
		options = append(options, remote.WithAuth(&authn.Basic{Username: r.Login.User, Password: r.Login.Password}))
	}
	return options
}
