package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/lodgehq/lodge"
)

// index is the list of one subject's referrers on a registry without the Referrers API: an
// OCI index under the tag `sha256-<hex>` (distribution specification v1.1, "Referrers Tag
// Schema"). Anybody may write it at any time, and the last one wins.
type index struct {
	repo    *Repository
	subject lodge.Digest
	users   int // guarded by repo.mu

	turn chan struct{} // holds a token while nobody in this process writes

	mu      sync.Mutex
	pending map[digest.Digest]ocispec.Descriptor // to be added by the next writer; guarded by mu
	last    *indexPage                           // as last seen; guarded by mu
}

// index returns the subject's index. It is forgotten when its last user releases it.
func (r *Repository) index(subject lodge.Digest) (x *index, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x = r.indexes[subject]
	if x == nil {
		x = &index{repo: r, subject: subject, turn: make(chan struct{}, 1), pending: make(map[digest.Digest]ocispec.Descriptor)}
		x.turn <- struct{}{}
		r.indexes[subject] = x
	}
	x.users++
	return x, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if x.users--; x.users == 0 {
			delete(r.indexes, subject)
		}
	}
}

func (x *index) tag() string { return "sha256-" + x.subject.Hex() }

// add puts desc into the index if it is not in it. Several callers' additions go into one
// write.
func (x *index) add(ctx context.Context, desc ocispec.Descriptor) error {
	x.mu.Lock()
	x.pending[desc.Digest] = desc
	x.mu.Unlock()

	select {
	case <-x.turn:
		defer func() { x.turn <- struct{}{} }()
	case <-ctx.Done(): // the one who writes may have taken it along all the same
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.pending, desc.Digest)
		return x.repo.classify(writing, ctx.Err())
	}
	x.mu.Lock()
	_, waits := x.pending[desc.Digest]
	batch := slices.Collect(maps.Values(x.pending))
	x.mu.Unlock()
	if !waits {
		return nil // the writer before took it along
	}
	err := x.write(ctx, batch)

	// A failed batch stays pending for its owners, who are waiting for their turn; this
	// caller's own part is answered for.
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pending, desc.Digest)
	if err == nil {
		for _, d := range batch {
			delete(x.pending, d.Digest)
		}
	}
	return err
}

// write adds the batch to the index as it is now, and what others wrote at the same moment.
func (x *index) write(ctx context.Context, batch []ocispec.Descriptor) error {
	ctx, release, err := x.repo.lease(ctx, x.repo.Address()+"@"+x.subject.String())
	if err != nil {
		return lodge.Errorf(lodge.ClassRetry, "index-busy", "another process writes the referrers index of %s: %w", x.subject, err)
	}
	defer release()
	slices.SortFunc(batch, func(a, b ocispec.Descriptor) int { return bytes.Compare([]byte(a.Digest), []byte(b.Digest)) })
	for range passes {
		page, err := x.read(ctx)
		if err != nil {
			return err
		}
		raw, changed, err := page.with(batch)
		if err != nil || !changed {
			return err
		}
		if len(raw) > maxManifest {
			return x.full(int64(len(raw)))
		}
		others, err := x.replace(ctx, page, raw)
		if err != nil {
			return x.repo.classify(writing, err)
		}
		if len(others) == 0 {
			return nil
		}
		batch = append(batch, others...)
	}
	return nil // whether this batch is listed is looked at anyway
}

// replace writes raw over the page that was read. A registry can't be told to do so only if
// nobody was faster, and a long index takes it a while: so the index is looked at until it is
// written, and what others wrote in that time and is lost now is returned.
func (x *index) replace(ctx context.Context, page *indexPage, raw []byte) (others []ocispec.Descriptor, err error) {
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageIndex, raw)
	watching, written := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		known := []digest.Digest{page.digest, desc.Digest}
		for sleep(watching, watchEvery) == nil {
			now, err := x.read(ctx)
			if err == nil && !slices.Contains(known, now.digest) {
				known = append(known, now.digest)
				others = append(others, now.list...)
			}
		}
	})
	err = x.repo.remote.Manifests().PushReference(ctx, desc, bytes.NewReader(raw), x.tag())
	written()
	watch.Wait()
	return others, err
}

// watchEvery is how often an index is looked at that is being written.
const watchEvery = 5 * time.Millisecond

func (x *index) full(size int64) error {
	return lodge.Errorf(lodge.ClassPermanent, codeIndexFull,
		"%s has no room for another attestation of %s: the index %s would have %d bytes (at most %d, about 10,000 referrers); "+
			"delete some, or use a registry with the Referrers API", x.repo, x.subject, x.tag(), size, maxManifest)
}

// read returns the index as it is now. It is fetched only where its digest is another than
// that of the last one seen, for it may have megabytes.
func (x *index) read(ctx context.Context) (*indexPage, error) {
	manifests := x.repo.remote.Manifests()
	desc, err := manifests.Resolve(ctx, x.tag())
	if errors.Is(err, errdef.ErrNotFound) || err == nil && desc.Digest == ociDigest(x.subject) {
		// Some registries take the tag for the digest and answer with the subject itself.
		return &indexPage{}, nil
	}
	if err != nil {
		return nil, x.repo.classify(reading, err)
	}
	x.mu.Lock()
	last := x.last
	x.mu.Unlock()
	if last != nil && last.digest == desc.Digest {
		return last, nil
	}
	if desc.MediaType != ocispec.MediaTypeImageIndex {
		return nil, lodge.Errorf(lodge.ClassPermanent, codeIndexInvalid,
			"the tag %s of %s is no referrers index but %s: it is left alone; remove it to attach anything to %s",
			x.tag(), x.repo, desc.MediaType, x.subject)
	}
	// By the tag, for others replace the index at any time, and some delete the old one then.
	_, body, err := manifests.FetchReference(ctx, x.tag())
	if isMissing(err) {
		return nil, lodge.Errorf(lodge.ClassRetry, "index-replaced", "the referrers index %s of %s was replaced while it was read: %v", x.tag(), x.repo, err)
	}
	if err != nil {
		return nil, x.repo.classify(reading, err)
	}
	defer func() { _ = body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err != nil {
		return nil, x.repo.classify(reading, err)
	}
	if len(raw) > maxManifest {
		return nil, x.full(int64(len(raw)))
	}
	page := &indexPage{digest: digest.FromBytes(raw)}
	if err := page.parse(raw); err != nil {
		return nil, lodge.Errorf(lodge.ClassPermanent, codeIndexInvalid, "the referrers index %s of %s: %w", x.tag(), x.repo, err)
	}
	x.mu.Lock()
	x.last = page
	x.mu.Unlock()
	return page, nil
}

// indexPage is one state of an index. What others wrote stays as they wrote it, unknown
// members and all.
type indexPage struct {
	digest    digest.Digest
	members   map[string]json.RawMessage
	manifests []json.RawMessage
	list      []ocispec.Descriptor // of manifests, those that are descriptors
}

func (p *indexPage) parse(raw []byte) error {
	if err := json.Unmarshal(raw, &p.members); err != nil {
		return err
	}
	if manifests, ok := p.members["manifests"]; ok {
		if err := json.Unmarshal(manifests, &p.manifests); err != nil {
			return err
		}
	}
	for _, m := range p.manifests {
		var d ocispec.Descriptor
		if json.Unmarshal(m, &d) == nil {
			p.list = append(p.list, d)
		}
	}
	return nil
}

// with returns the index with the batch in it, and whether that is anything new.
func (p *indexPage) with(batch []ocispec.Descriptor) (raw []byte, changed bool, err error) {
	there := make(map[digest.Digest]bool, len(p.list))
	for _, d := range p.list {
		there[d.Digest] = true
	}
	manifests := slices.Clone(p.manifests)
	for _, d := range batch {
		if there[d.Digest] {
			continue
		}
		there[d.Digest] = true
		entry, err := json.Marshal(d)
		if err != nil {
			return nil, false, err
		}
		manifests = append(manifests, entry)
	}
	if len(manifests) == len(p.manifests) {
		return nil, false, nil
	}
	members := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage(`2`),
		"mediaType":     json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`),
	}
	maps.Copy(members, p.members)
	if members["manifests"], err = json.Marshal(manifests); err != nil {
		return nil, false, err
	}
	raw, err = json.Marshal(members)
	return raw, true, err
}
