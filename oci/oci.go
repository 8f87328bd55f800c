// Package oci attaches Sigstore bundles to images in OCI registries, each one once, and
// finds those that are attached already.
//
// A bundle becomes one artifact in the shape that cosign 3 looks for: an image manifest with
// the bundle as its one layer and the image as its subject (OCI image specification v1.1).
// The manifest depends on nothing but the bundle, the key and the subject, so its digest is
// known before anything is sent, and pushing again changes nothing.
//
// An artifact counts as there once it is listed for its subject: by the Referrers API
// (distribution specification v1.1, "Listing Referrers"), or in the index under the tag
// `sha256-<hex>` where the registry has no such API. Registries have no compare-and-swap for
// that index: lodge's own writers take turns by a lease, and because of others it is read again
// after a while, until the artifact is still in it (ADR 0013).
//
// Floor 2: it may import the root package, bundle, lease, and oras-go with the types of OCI.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
)

// Options adjust a Repository. The zero value is right outside of tests.
type Options struct {
	Transport http.RoundTripper // nil: one with time limits on dialling, TLS and response headers
	Settle    time.Duration     // how long other writers of a referrers index get before it is read again; 0: 500 ms

	// Leases keep other processes out while a referrers index is written; without any, only
	// this Repository's own writers take turns.
	Leases lease.Store
}

// Repository is one repository of a registry. It is safe for concurrent use. What a
// registry answers comes as a *lodge.Error; nothing is retried here.
type Repository struct {
	remote *remote.Repository
	settle time.Duration
	leases lease.Store  // nil: there are no other processes
	api    atomic.Int32 // whether the registry lists referrers itself: apiUnknown, apiThere, apiAbsent

	mu       sync.Mutex
	subjects map[lodge.Digest]ocispec.Descriptor // resolved; guarded by mu
	indexes  map[lodge.Digest]*index             // in use; guarded by mu
}

const (
	apiUnknown = iota
	apiThere
	apiAbsent
)

// maxSubjects bounds the memory that resolved subjects take.
const maxSubjects = 10_000

// New returns the repository named, as in "registry.example/team/app", with or without
// "oci://" before it. It contacts nobody. Credentials come from the docker configuration
// ($DOCKER_CONFIG or ~/.docker/config.json) and its helpers whenever the registry asks for
// them, so `docker login` takes effect at once. Loopback hosts are spoken to in plain HTTP.
func New(repository string, o Options) (*Repository, error) {
	name := strings.TrimPrefix(repository, "oci://")
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, fmt.Errorf("not a repository: %.200q (want HOST/PATH): %w", repository, err)
	}
	if ref.Reference != "" {
		return nil, fmt.Errorf("not a repository: %.200q has a tag or digest (want HOST/PATH)", repository)
	}
	settle := o.Settle
	if settle == 0 {
		settle = 500 * time.Millisecond
	}
	r := &remote.Repository{
		Client:               newClient(o),
		Reference:            ref,
		PlainHTTP:            isLoopback(ref.Host()),
		SkipReferrersGC:      true, // deleting old indexes breaks other writers
		ReferrerListMaxPages: maxReferrerPages,
	}
	// Whatever the registry can do, this package keeps the referrers index itself, for oras
	// neither reads it again nor knows when it is full.
	if err := r.SetReferrersCapability(true); err != nil {
		return nil, err
	}
	return &Repository{
		remote:   r,
		settle:   settle,
		leases:   o.Leases,
		subjects: make(map[lodge.Digest]ocispec.Descriptor),
		indexes:  make(map[lodge.Digest]*index),
	}, nil
}

// String returns the name, "registry.example/team/app".
func (r *Repository) String() string {
	return r.remote.Reference.Registry + "/" + r.remote.Reference.Repository
}

// Address returns the target address, "oci://registry.example/team/app".
func (r *Repository) Address() string { return "oci://" + r.String() }

// Limit says how many attestations are attached at a time. Where the registry lists no
// referrers, most of that time is spent waiting for others to write the index, and costs
// nobody anything.
func (r *Repository) Limit() int {
	if r.api.Load() == apiAbsent {
		return 64
	}
	return 16
}

// Subjects returns those of the digests that are manifests in the repository, in the order
// given. A repository that is not there has none.
func (r *Repository) Subjects(ctx context.Context, digests []lodge.Digest) ([]lodge.Digest, error) {
	there := make([]bool, len(digests))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, d := range digests {
		g.Go(func() error {
			_, err := r.resolveSubject(ctx, d)
			if e := lodge.Classify(err); e != nil && e.Code == codeSubjectMissing {
				return nil
			}
			there[i] = err == nil
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var found []lodge.Digest
	for i, d := range digests {
		if there[i] {
			found = append(found, d)
		}
	}
	return found, nil
}

// resolveSubject returns the descriptor of a manifest in the repository. Content under a
// digest never changes, so it is asked for once.
func (r *Repository) resolveSubject(ctx context.Context, subject lodge.Digest) (ocispec.Descriptor, error) {
	r.mu.Lock()
	desc, ok := r.subjects[subject]
	r.mu.Unlock()
	if ok {
		return desc, nil
	}
	desc, err := r.remote.Resolve(ctx, subject.String())
	if errors.Is(err, errdef.ErrNotFound) {
		return desc, lodge.Errorf(lodge.ClassPermanent, codeSubjectMissing,
			"%s is not in %s: push the image first, or name the repository that it is in", subject, r)
	}
	if err != nil {
		return desc, r.classify(reading, err)
	}
	// Only what goes into the manifest: the rest may differ from answer to answer.
	desc = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.subjects) >= maxSubjects {
		clear(r.subjects)
	}
	r.subjects[subject] = desc
	return desc, nil
}

// listed tells whether a manifest is listed for the subject.
func (r *Repository) listed(ctx context.Context, subject, manifest lodge.Digest) (bool, error) {
	list, err := r.referrers(ctx, subject)
	if err != nil {
		return false, err
	}
	for _, d := range list {
		if d.Digest == ociDigest(manifest) {
			return true, nil
		}
	}
	return false, nil
}

// referrers returns everything that is listed for the subject, by whomever.
func (r *Repository) referrers(ctx context.Context, subject lodge.Digest) ([]ocispec.Descriptor, error) {
	if r.api.Load() != apiAbsent {
		list, err := r.referrersByAPI(ctx, subject)
		if err == nil || !isNoReferrersAPI(err) {
			return list, r.classify(reading, err)
		}
		if r.api.Load() == apiThere {
			return nil, lodge.Errorf(lodge.ClassRetry, "referrers", "%s listed referrers before and does not now: %w", r, err)
		}
		r.api.Store(apiAbsent)
	}
	x, release := r.index(subject)
	defer release()
	page, err := x.read(ctx)
	if err != nil {
		return nil, err
	}
	return page.list, nil
}

// Limits on a list of referrers, which anybody may add to.
const (
	maxReferrerPages = 200
	maxReferrerBytes = 32 << 20 // of what is kept of them; a page has 4 MiB at most
)

func (r *Repository) referrersByAPI(ctx context.Context, subject lodge.Digest) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	size := 0
	err := r.remote.Referrers(ctx, ocispec.Descriptor{Digest: ociDigest(subject)}, "",
		func(page []ocispec.Descriptor) error {
			for _, d := range page {
				size += weight(d)
			}
			if size > maxReferrerBytes {
				return lodge.Errorf(lodge.ClassPermanent, "referrers-full",
					"the list of what is attached to %s in %s is longer than %d MiB: delete some: %w", subject, r, maxReferrerBytes>>20, lodge.ErrLimit)
			}
			list = append(list, page...)
			return nil
		})
	if err == nil {
		r.api.Store(apiThere)
	}
	return list, err
}

// weight is about how many bytes a descriptor takes.
func weight(d ocispec.Descriptor) int {
	n := 256 + len(d.MediaType) + len(d.Digest) + len(d.ArtifactType) + len(d.Data)
	for name, value := range d.Annotations {
		n += len(name) + len(value)
	}
	for _, url := range d.URLs {
		n += len(url)
	}
	return n
}

func ociDigest(d lodge.Digest) digest.Digest { return digest.Digest(d.String()) }
