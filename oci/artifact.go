package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// Annotations of an artifact.
const (
	AnnotationKey           = "dev.lodge.key" // the idempotency key
	annotationContent       = "dev.sigstore.bundle.content"
	annotationPredicateType = "dev.sigstore.bundle.predicateType"
)

// created is the same for every artifact: a clock in the manifest would give the same bundle
// another digest each time.
const created = "1970-01-01T00:00:00Z"

// maxManifest is what registries take as a manifest, in bytes (distribution specification,
// "Pushing Manifests").
const maxManifest = 4 << 20

// KeyTag returns the tag that leads to the artifact of (key, signer, subject), so that a
// store that knows nothing finds what another one published: "lodge-" and the hex digits of
//
//	SHA-256(key "\n" signer "\n" subject)
//
// with key and subject in their text form ("sha256:<hex>"). Neither of the three can hold a
// line feed.
func KeyTag(key lodge.Key, signer lodge.Signer, subject lodge.Digest) string {
	return "lodge-" + lodge.DigestOf([]byte(key.String()+"\n"+string(signer)+"\n"+subject.String())).Hex()
}

// Plan says what Send will place for the subject: the bundle with the entries given, and the
// digest of its manifest. The same attestation, entries and subject give the same plan
// everywhere. The network is needed once for each subject, for its media type and size.
func (r *Repository) Plan(ctx context.Context, att *bundle.Attestation, subject lodge.Digest, entries ...lodge.Entry) (lodge.Intent, error) {
	raw, err := att.Encode(entries...)
	if err != nil {
		return lodge.Intent{}, lodge.Errorf(lodge.ClassPermanent, "bundle", "%w", err)
	}
	a, err := r.artifact(ctx, att.Key, subject, raw, att.Statement.PredicateType)
	if err != nil {
		return lodge.Intent{}, err
	}
	return lodge.Intent{Request: raw, Manifest: a.digest()}, nil
}

// artifact is what is pushed: two blobs and the manifest that names them.
type artifact struct {
	bundle   []byte
	layer    ocispec.Descriptor
	manifest []byte
	desc     ocispec.Descriptor // of the manifest, as a referrers list shows it
}

func (a artifact) digest() lodge.Digest { return lodge.DigestOf(a.manifest) }

// artifact builds the artifact of a bundle, byte for byte the same each time. cosign looks
// for the type in the manifest and in its config descriptor, and so do older registries.
func (r *Repository) artifact(ctx context.Context, key lodge.Key, subject lodge.Digest, raw []byte, predicateType string) (artifact, error) {
	target, err := r.resolveSubject(ctx, subject)
	if err != nil {
		return artifact{}, err
	}
	annotations := map[string]string{
		AnnotationKey:             key.String(),
		annotationContent:         "dsse-envelope",
		ocispec.AnnotationCreated: created,
	}
	if predicateType != "" {
		annotations[annotationPredicateType] = predicateType
	}
	config := ocispec.DescriptorEmptyJSON
	config.Data = nil
	config.ArtifactType = bundle.MediaType
	layer := content.NewDescriptorFromBytes(bundle.MediaType, raw)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: bundle.MediaType,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &target,
		Annotations:  annotations,
	})
	if err != nil {
		return artifact{}, fmt.Errorf("encoding the manifest: %w", err)
	}
	if len(manifest) > maxManifest {
		return artifact{}, lodge.Errorf(lodge.ClassPermanent, "too-large", "the manifest has %d bytes (at most %d)", len(manifest), maxManifest)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, manifest)
	desc.ArtifactType, desc.Annotations = bundle.MediaType, annotations
	return artifact{bundle: raw, layer: layer, manifest: manifest, desc: desc}, nil
}

// Candidate is an artifact that may be the one looked for. Its bundle is as found: whoever
// takes it verifies it first.
type Candidate struct {
	Manifest lodge.Digest
	Bundle   []byte
}

// Limits on what one look takes from a registry where anybody may have pushed anything.
const (
	maxCandidates = 64 // artifacts that are annotated with the key
	maxUnlabelled = 64 // artifacts that are listed without annotations and have to be opened
)

// Candidates yields what the key tag and the referrers annotated with the key lead to, the
// tagged one first, the others by digest; none is no error. Artifacts of other shape than a
// bundle's for this subject are passed over: nobody can block the way to a good one. After
// an error it ends: what was not seen is not proven absent.
func (r *Repository) Candidates(ctx context.Context, key lodge.Key, signer lodge.Signer, subject lodge.Digest) iter.Seq2[Candidate, error] {
	return func(yield func(Candidate, error) bool) {
		leads, err := r.leads(ctx, key, signer, subject)
		if err != nil {
			yield(Candidate{}, err)
			return
		}
		for _, lead := range leads {
			raw, err := r.open(ctx, lead, key, subject)
			if raw == nil && err == nil {
				continue
			}
			if !yield(Candidate{Manifest: lead, Bundle: raw}, err) || err != nil {
				return
			}
		}
	}
}

// leads returns the manifests that may be the one looked for.
func (r *Repository) leads(ctx context.Context, key lodge.Key, signer lodge.Signer, subject lodge.Digest) ([]lodge.Digest, error) {
	listed, err := r.referrers(ctx, subject)
	if isMissing(err) {
		return nil, nil // no repository, no artifact
	}
	if err != nil {
		return nil, err
	}
	leads := annotated(listed, key)
	tagged, err := r.remote.Resolve(ctx, KeyTag(key, signer, subject))
	if err != nil && !isMissing(err) {
		return nil, r.classify(reading, err)
	}
	if err == nil {
		leads = slices.Insert(slices.DeleteFunc(leads, func(d ocispec.Descriptor) bool { return d.Digest == tagged.Digest }), 0, tagged)
	}
	var digests []lodge.Digest
	for _, d := range leads {
		if parsed, err := lodge.ParseDigest(d.Digest.String()); err == nil {
			digests = append(digests, parsed)
		}
	}
	return digests, nil
}

// annotated picks the referrers that carry the key, and those of which the registry shows no
// annotations at all and that may carry it.
func annotated(list []ocispec.Descriptor, key lodge.Key) []ocispec.Descriptor {
	var sure, perhaps []ocispec.Descriptor
	for _, d := range list {
		switch {
		case d.Annotations[AnnotationKey] == key.String():
			sure = append(sure, d)
		case len(d.Annotations) == 0 && d.MediaType == ocispec.MediaTypeImageManifest:
			perhaps = append(perhaps, d)
		}
	}
	byDigest := func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) }
	slices.SortFunc(sure, byDigest)
	slices.SortFunc(perhaps, byDigest)
	return append(sure[:min(len(sure), maxCandidates)], perhaps[:min(len(perhaps), maxUnlabelled)]...)
}

// open returns the bundle of an artifact, or nil where it is not one of ours for this key
// and subject, or gone.
func (r *Repository) open(ctx context.Context, artifact lodge.Digest, key lodge.Key, subject lodge.Digest) ([]byte, error) {
	raw, err := r.fetch(ctx, r.remote.Manifests(), artifact, maxManifest)
	if raw == nil || err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if json.Unmarshal(raw, &m) != nil || m.Subject == nil || m.Subject.Digest != ociDigest(subject) ||
		m.Annotations[AnnotationKey] != key.String() || m.ArtifactType != bundle.MediaType ||
		len(m.Layers) != 1 || m.Layers[0].MediaType != bundle.MediaType {
		return nil, nil //nolint:nilerr // what can't be read is not ours
	}
	layer, err := lodge.ParseDigest(m.Layers[0].Digest.String())
	if err != nil {
		return nil, nil //nolint:nilerr // it leads nowhere
	}
	b, err := r.fetch(ctx, r.remote.Blobs(), layer, bundle.MaxSize)
	if err != nil || int64(len(b)) != m.Layers[0].Size {
		return nil, err
	}
	return b, nil
}

// fetcher is what manifests and blobs are read from.
type fetcher interface {
	FetchReference(ctx context.Context, reference string) (ocispec.Descriptor, io.ReadCloser, error)
}

// fetch returns the content of that digest, or nil where it is not there, is larger than
// limit, or is something else: then it is not what it was said to be.
func (r *Repository) fetch(ctx context.Context, from fetcher, d lodge.Digest, limit int64) ([]byte, error) {
	_, content, err := from.FetchReference(ctx, d.String())
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, r.classify(reading, err)
	}
	defer func() { _ = content.Close() }()
	raw, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err != nil {
		return nil, r.classify(reading, err)
	}
	if int64(len(raw)) > limit || lodge.DigestOf(raw) != d {
		return nil, nil
	}
	return raw, nil
}
