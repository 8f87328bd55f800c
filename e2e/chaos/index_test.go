package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/e2e/servers"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/store"
)

// TestFallbackIndexRace has three processes attach to the same image on a registry without
// the Referrers API, where the list of what is attached is a tag that the last writer wins.
func TestFallbackIndexRace(t *testing.T) {
	registry := servers.StartRegistry(t, servers.Login{})
	at := func(t *testing.T, repository string) *place {
		p := newPlace(t, nil, registry)
		p.repository = repository
		p.pushImages(1)
		return p
	}
	t.Run("SQLite", func(t *testing.T) {
		p := at(t, "sqlite")
		p.race(nil)
		p.wantOnce()
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		p := at(t, "postgres")
		p.store = newPostgres(t).URL
		p.race(nil)
		p.wantOnce()
	})
	t.Run("outside writer", func(t *testing.T) {
		p := at(t, "outside")
		door := servers.StartProxy(t, servers.Forward("http://"+registry.Host))
		p.host = door.Host
		o := newOutsider(p, door)
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan error)
		go func() { written <- o.run(ctx) }()
		p.race(func() {
			stop()
			if err := <-written; err != nil {
				t.Fatal(err)
			}
		})
		p.wantVerified()
		p.wantEvents()
		t.Logf("the outside writer added %d, and wrote %d times more, for it had lost the race; it dropped %d of ours",
			o.added, o.lost, len(p.envelopes)-len(o.keys(p)))
		p.relist(func() bool { return len(o.keys(p)) == len(p.envelopes) })
		o.wantListed(p)
	})
	t.Run("full", func(t *testing.T) { at(t, "full").full() })
}

// race has three processes push 200 envelopes each, all about one image. after is called,
// if it is given, when they have ended.
func (p *place) race(after func()) {
	p.t.Helper()
	const processes, each = 3, 200
	start := time.Now()
	var pushes []*servers.Process
	for range processes {
		pushes = append(pushes, p.push(p.batch(each), "--wait", "5m"))
	}
	for _, push := range pushes {
		p.wantCode(push, 0, 5*time.Minute)
	}
	took := time.Since(start)
	p.t.Logf("%d attestations of one image by %d processes in %s, %.0f/s",
		processes*each, processes, took.Round(time.Millisecond), processes*each/took.Seconds())
	if after != nil {
		after()
	}
}

// relist runs an engine that looks at the lists at once and often, until done.
func (p *place) relist(done func() bool) {
	p.t.Helper()
	s, err := store.Open(p.t.Context(), p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	repository, err := oci.New(p.host+"/"+p.repository, oci.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	engine, err := deliver.New(deliver.Config{ // nothing is left to be delivered, so it needs no more
		Store: s,
		Targets: []deliver.Target{{
			Target:     lodge.Target{Kind: lodge.KindRepository, Name: "images", Address: repository.Address()},
			Repository: repository,
			Relist:     200 * time.Millisecond,
		}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(p.t.Context())
	ended := make(chan error)
	go func() { ended <- engine.Run(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			p.t.Error(err)
		}
	}()
	start := time.Now()
	p.until(3*time.Minute, "all is listed again", done)
	p.t.Logf("all listed again after %s", time.Since(start).Round(time.Millisecond))
}

// outsideType is the type of what the outside writer attaches.
const outsideType = "application/vnd.example.outside"

// An outsider attaches to the same image by oras-go, which writes the list as others do: it
// reads, adds, writes, and does not look again. Some of its writes are slow.
type outsider struct {
	repo  *remote.Repository
	image ocispec.Descriptor
	door  *servers.Proxy // of lodge

	added, lost int
}

func newOutsider(p *place, door *servers.Proxy) *outsider {
	p.t.Helper()
	own := servers.StartProxy(p.t, servers.Forward("http://"+p.registry.Host))
	for range 5 {
		quick := func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }
		own.On(indexWrites, 5, quick)
		own.On(indexWrites, 1, servers.Delay(1500*time.Millisecond)) // longer than lodge waits for others
	}
	repo, err := remote.NewRepository(own.Host + "/" + p.repository)
	if err != nil {
		p.t.Fatal(err)
	}
	repo.PlainHTTP = true
	image, err := repo.Resolve(p.t.Context(), p.images[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return &outsider{repo: repo, image: image, door: door}
}

var indexWrites = servers.Requests("PUT", "/manifests/sha256-")

// run attaches one after another until ctx ends. Registries have no compare-and-swap: what
// somebody writes between the moment that lodge reads the list and the one that it writes it
// is lost, whoever lodge is. So a careful writer looks whether its own has lasted a write of
// lodge that began later, and else writes it again. What has lasted so long must stay.
func (o *outsider) run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		name := fmt.Sprintf("n%d", o.added)
		o.added++
		for lasted := false; !lasted; {
			if err := o.attach(background, name); err != nil {
				return err
			}
			o.awaitWrites(ctx, 2) // the first may have begun earlier
			listed, err := o.listed(background)
			if err != nil {
				return err
			}
			if lasted = listed[name]; !lasted {
				o.lost++
			}
		}
	}
	return nil
}

// awaitWrites waits until lodge has written the list so often, or ctx ends.
func (o *outsider) awaitWrites(ctx context.Context, n int) {
	before := o.door.Count(indexWrites)
	_ = servers.Await(ctx, time.Minute, func(context.Context) error {
		if o.door.Count(indexWrites) < before+n {
			return errors.New("lodge has not written yet")
		}
		return nil
	})
}

func (o *outsider) attach(ctx context.Context, name string) error {
	_, err := oras.PackManifest(ctx, o.repo, oras.PackManifestVersion1_1, outsideType, oras.PackManifestOptions{
		Subject: &o.image,
		ManifestAnnotations: map[string]string{
			"name": name, ocispec.AnnotationCreated: "2026-01-01T00:00:00Z", // the same each time
		},
	})
	return err
}

// listed returns the names of its attachments that are listed.
func (o *outsider) listed(ctx context.Context) (map[string]bool, error) {
	names := map[string]bool{}
	err := o.repo.Referrers(ctx, o.image, outsideType, func(page []ocispec.Descriptor) error {
		for _, d := range page {
			names[d.Annotations["name"]] = true
		}
		return nil
	})
	return names, err
}

// wantListed fails the test unless everything that the outsider added is listed.
func (o *outsider) wantListed(p *place) {
	p.t.Helper()
	listed, err := o.listed(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if len(listed) != o.added {
		p.t.Errorf("%d of the outside writer's are listed, want %d", len(listed), o.added)
	}
	if o.added < 5 {
		p.t.Errorf("the outside writer added only %d", o.added)
	}
}

// keys returns the keys of lodge's artifacts that are listed.
func (*outsider) keys(p *place) map[string]bool {
	p.t.Helper()
	keys := map[string]bool{}
	for _, r := range p.registry.Referrers(p.repository, p.images[0]) {
		if key := r.Annotations["dev.lodge.key"]; key != "" {
			keys[key] = true
		}
	}
	return keys
}

// full attaches to an image whose list has no room for another.
func (p *place) full() {
	p.t.Helper()
	const limit = 4 << 20 // of a manifest, distribution specification v1.1
	ctx := p.t.Context()
	repo, err := remote.NewRepository(p.registry.Host + "/" + p.repository)
	if err != nil {
		p.t.Fatal(err)
	}
	repo.PlainHTTP = true
	image, err := repo.Resolve(ctx, p.images[0])
	if err != nil {
		p.t.Fatal(err)
	}
	image.Annotations = map[string]string{"long": strings.Repeat("x", limit-600)}
	raw, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{image}})
	if err != nil {
		p.t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	tag := strings.Replace(p.images[0], ":", "-", 1)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := repo.PushReference(ctx, desc, bytes.NewReader(raw), tag); err != nil {
		p.t.Fatal(err)
	}

	push := p.push(p.batch(1), "--wait", "1m")
	p.wantCode(push, 1, time.Minute)
	if said := push.Log(); !strings.Contains(said, `"class":"permanent","code":"index-full"`) || !strings.Contains(said, "has no room for another attestation of "+p.images[0]) {
		p.t.Errorf("lodge said %s", said)
	}
	if now := p.registry.Manifest(p.repository, tag); !bytes.Equal(now, raw) {
		p.t.Errorf("the list was changed")
	}
}
