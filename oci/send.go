package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// passes is how often an artifact that vanished from the list is put back before others are
// let through: then something else than a race is at work.
const passes = 20

// Send places the artifact of a plan and returns once it is listed for its subject. It may
// be called again at any time: what is there already is not sent again.
//
// The order makes every crash mendable: blobs, then the manifest by digest, then the key tag
// that leads a store that knows nothing to it, then the list.
func (r *Repository) Send(ctx context.Context, key lodge.Key, signer lodge.Signer, subject lodge.Digest, intent lodge.Intent) (lodge.OCIReceipt, error) {
	b, err := bundle.Parse(intent.Request)
	if err != nil {
		return lodge.OCIReceipt{}, lodge.Errorf(lodge.ClassPermanent, "bundle", "the planned bundle: %w", err)
	}
	predicateType := bundle.ParseStatement(b.Envelope.PayloadType, b.Envelope.Payload).PredicateType
	a, err := r.artifact(ctx, key, subject, intent.Request, predicateType)
	if err != nil {
		return lodge.OCIReceipt{}, err
	}
	if a.digest() != intent.Manifest {
		return lodge.OCIReceipt{}, lodge.Errorf(lodge.ClassRetry, "plan-stale",
			"%s was planned for %s, and the same bundle gives %s now: does %s show the subject as another media type than before?",
			intent.Manifest, r, a.digest(), r)
	}
	if err := r.place(ctx, a); err != nil {
		return lodge.OCIReceipt{}, err
	}
	if err := r.tag(ctx, a, KeyTag(key, signer, subject)); err != nil {
		return lodge.OCIReceipt{}, inDoubt(err)
	}
	if err := r.list(ctx, subject, a.desc, false); err != nil {
		return lodge.OCIReceipt{}, inDoubt(err)
	}
	return r.receipt(subject, a.digest()), nil
}

// Adopt makes sure that an artifact that is in the repository is listed for its subject and
// that the key tag leads to it: a candidate whose writer stopped half-way, or lost the race
// for the index. Who may not write tags adopts all the same.
func (r *Repository) Adopt(ctx context.Context, key lodge.Key, signer lodge.Signer, subject, manifest lodge.Digest) (lodge.OCIReceipt, error) {
	a, err := r.attached(ctx, subject, manifest)
	if err != nil {
		return lodge.OCIReceipt{}, err
	}
	if err := r.tag(ctx, a, KeyTag(key, signer, subject)); err != nil && lodge.Classify(err).Class != lodge.ClassHeld {
		return lodge.OCIReceipt{}, err
	}
	if err := r.list(ctx, subject, a.desc, true); err != nil {
		return lodge.OCIReceipt{}, err
	}
	return r.receipt(subject, manifest), nil
}

// attached returns an artifact, as far as its manifest says, that is attached to the subject.
func (r *Repository) attached(ctx context.Context, subject, manifest lodge.Digest) (artifact, error) {
	raw, err := r.fetch(ctx, r.remote.Manifests(), manifest, maxManifest)
	if err != nil {
		return artifact{}, err
	}
	var m ocispec.Manifest
	if raw == nil || json.Unmarshal(raw, &m) != nil || m.Subject == nil || m.Subject.Digest != ociDigest(subject) {
		return artifact{}, lodge.Errorf(lodge.ClassPermanent, "not-attached", "%s@%s is not there, or not attached to %s", r, manifest, subject)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
	return artifact{manifest: raw, desc: desc}, nil
}

// Relist lists those of the manifests again that are attached to the subject and are not
// listed any more, and returns them: on a registry without the Referrers API anybody's
// write can drop them from the index, and its garbage collection would then delete them.
// Where the registry lists referrers itself there is nothing to mend.
func (r *Repository) Relist(ctx context.Context, subject lodge.Digest, manifests []lodge.Digest) (lost []lodge.Digest, err error) {
	list, err := r.referrers(ctx, subject)
	if err != nil || r.api.Load() == apiThere {
		return nil, err
	}
	listed := make(map[string]bool, len(list))
	for _, d := range list {
		listed[d.Digest.String()] = true
	}
	var g errgroup.Group
	g.SetLimit(relisters)
	failures := make([]error, len(manifests))
	for i, m := range manifests {
		if !listed[m.String()] {
			g.Go(func() error {
				failures[i] = r.relist(ctx, subject, m)
				return nil // the others may be mended all the same
			})
		}
	}
	_ = g.Wait() // always nil
	for i, m := range manifests {
		if !listed[m.String()] && failures[i] == nil {
			lost = append(lost, m)
		}
	}
	return lost, errors.Join(failures...)
}

func (r *Repository) relist(ctx context.Context, subject, manifest lodge.Digest) error {
	a, err := r.attached(ctx, subject, manifest)
	if err != nil {
		return err
	}
	return r.list(ctx, subject, a.desc, true)
}

// relisters is how many artifacts are listed again at a time: they share the writes of the
// index, and the time that others get to write it.
const relisters = 64

func (r *Repository) receipt(subject, manifest lodge.Digest) lodge.OCIReceipt {
	return lodge.OCIReceipt{Reference: r.String() + "@" + manifest.String(), Digest: manifest, Subject: subject}
}

// place puts blobs and manifest there, unless the manifest is.
func (r *Repository) place(ctx context.Context, a artifact) error {
	manifests := r.remote.Manifests()
	there, err := manifests.Exists(ctx, a.desc)
	if err != nil {
		return r.classify(reading, err)
	}
	if there {
		return nil
	}
	if err := r.placeBlobs(ctx, a); err != nil {
		return err
	}
	pushed := manifests.Push(ctx, a.desc, bytes.NewReader(a.manifest))
	if pushed == nil {
		return nil
	}
	// The answer may be wrong in both directions; the registry's state is not.
	there, unseen := manifests.Exists(ctx, a.desc)
	if unseen == nil && there {
		return nil
	}
	e := r.classify(writing, pushed)
	answer := (*errcode.ErrorResponse)(nil)
	switch final := lodge.Classify(e).Class.Final(); {
	case unseen != nil && (final || errors.As(pushed, &answer)):
		return inDoubt(e)
	case final && !r.hasBlobs(ctx, a):
		// Registries collect garbage, and some call what is missing then an invalid manifest.
		return lodge.Errorf(lodge.ClassRetry, "blob-missing", "%w", pushed)
	}
	return e
}

// placeBlobs uploads what is missing. An upload may fail after it succeeded, and its session
// is gone then: what counts is whether the blob is there. Blobs alone are no artifact, so a
// failure here never leaves doubt.
func (r *Repository) placeBlobs(ctx context.Context, a artifact) error {
	for _, blob := range a.blobs() {
		blobs := r.remote.Blobs()
		there, err := blobs.Exists(ctx, blob.desc)
		if err != nil {
			return r.classify(reading, err)
		}
		if there {
			continue
		}
		pushed := blobs.Push(ctx, blob.desc, bytes.NewReader(blob.content))
		if pushed == nil {
			continue
		}
		if there, err := blobs.Exists(ctx, blob.desc); err != nil || !there {
			return r.classify(uploading, pushed)
		}
	}
	return nil
}

type blob struct {
	desc    ocispec.Descriptor
	content []byte
}

func (a artifact) blobs() []blob {
	return []blob{{ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data}, {a.layer, a.bundle}}
}

func (r *Repository) hasBlobs(ctx context.Context, a artifact) bool {
	for _, b := range a.blobs() {
		if there, err := r.remote.Blobs().Exists(ctx, b.desc); err == nil && !there {
			return false
		}
	}
	return true
}

// tag points the key tag at the artifact. Where the registry refuses, tags are immutable and
// this one exists, or tags are not for this user: the artifact is found by its annotation.
func (r *Repository) tag(ctx context.Context, a artifact, name string) error {
	desc, err := r.remote.Resolve(ctx, name)
	if err == nil && desc.Digest == a.desc.Digest {
		return nil
	}
	if err != nil && !isMissing(err) {
		return r.classify(reading, err)
	}
	err = r.remote.Manifests().PushReference(ctx, a.desc, bytes.NewReader(a.manifest), name)
	if err == nil || isRefusedTag(err) {
		return nil
	}
	return r.classify(writing, err)
}

func isRefusedTag(err error) bool {
	var answer *errcode.ErrorResponse
	if !errors.As(err, &answer) {
		return false
	}
	s := answer.StatusCode // those that say "not now" are no such answers
	return s >= 400 && s < 500 && s != http.StatusUnauthorized && s != http.StatusNotFound
}

// list returns once desc is listed for the subject: at once where the registry does it, and
// where it is an index that anybody overwrites, when desc is still in it after the others
// had time to write. An artifact that was placed long ago is settled: one look will do.
func (r *Repository) list(ctx context.Context, subject lodge.Digest, desc ocispec.Descriptor, settled bool) error {
	manifest, err := lodge.ParseDigest(desc.Digest.String())
	if err != nil {
		return fmt.Errorf("%w: %w", lodge.ErrMalformed, err)
	}
	x, release := r.index(subject) // held, so that each pass fetches what is new only
	defer release()
	for pass := range passes {
		if pass > 0 {
			if err := sleep(ctx, r.settle); err != nil {
				return r.classify(writing, err)
			}
		}
		listed, err := r.listed(ctx, subject, manifest)
		if err != nil {
			return err
		}
		byAPI := r.api.Load() == apiThere
		if listed && (byAPI || settled || pass > 0) {
			return nil
		}
		if listed || byAPI {
			continue
		}
		settled = false
		if err := x.add(ctx, desc); err != nil {
			// The answer may be wrong in both directions; what is listed is not.
			listed, unseen := r.listed(ctx, subject, manifest)
			switch {
			case unseen != nil:
				return err
			case !listed:
				return &unlistedError{err}
			}
		}
	}
	return lodge.Errorf(lodge.ClassUnknown, "unlisted", "%s has %s and does not list it for %s", r, desc.Digest, subject)
}

// unlistedError is why a registry does not list what it is proven not to list.
type unlistedError struct{ error }

func (u *unlistedError) Unwrap() error { return u.error }

// Unlisted tells whether err is a refusal for good to list what is proven not to be listed.
func Unlisted(err error) bool {
	_, ok := errors.AsType[*unlistedError](err)
	return ok && lodge.Classify(err).Class.Final()
}

// inDoubt turns "not applied" into "perhaps applied": the manifest is there by now, and a
// registry with the Referrers API lists it. A refusal is the end of it only where the list is
// known not to have it.
func inDoubt(err error) error {
	e := *lodge.Classify(err)
	known := Unlisted(err) || e.Code == codeIndexFull || e.Code == codeIndexInvalid
	if e.Class == lodge.ClassRetry || e.Class.Final() && !known {
		e.Class = lodge.ClassUnknown
	}
	return &e
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
