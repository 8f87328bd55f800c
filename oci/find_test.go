package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/oci"
)

func TestFindsExisting(t *testing.T) {
	for name, api := range kinds {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, api)
			att := s.attestation(1)
			find := func() []oci.Candidate {
				t.Helper()
				found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			if found := find(); len(found) > 0 {
				t.Errorf("before anything is there: %+v", found)
			}
			r := s.open(oci.Options{})
			intent, err := r.Plan(t.Context(), att, s.image)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Send(t.Context(), att.Key, signer, s.image, intent); err != nil {
				t.Fatal(err)
			}
			if _, err := publish(t.Context(), r, s.attestation(2), s.image); err != nil {
				t.Fatal(err)
			}
			want := []oci.Candidate{{Manifest: intent.Manifest, Bundle: intent.Request}}
			if diff := cmp.Diff(want, find()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s.drop(oci.KeyTag(att.Key, signer, s.image))
			if diff := cmp.Diff(want, find()); diff != "" {
				t.Errorf("without the key tag (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFindsExistingUnlisted: the key tag leads to an artifact that lost its place in the
// index, and adopting it gives it back.
func TestFindsExistingUnlisted(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	s.drop("sha256-" + s.image.Hex())

	r := s.open(oci.Options{})
	found, err := all(r.Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) != 1 || found[0].Manifest != receipt.Digest {
		t.Fatalf("found %+v, %v; want %s unlisted", found, err, receipt.Digest)
	}
	before := len(s.writes())
	adopted, err := r.Adopt(t.Context(), att.Key, signer, s.image, found[0].Manifest)
	if err != nil || adopted != receipt {
		t.Errorf("adopted %+v, %v; want %+v", adopted, err, receipt)
	}
	if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
		t.Errorf("referrers %q", got)
	}
	for _, w := range s.writes()[before:] {
		if !strings.Contains(w, "sha256-") {
			t.Errorf("adopting wrote %q", w)
		}
	}
}

// TestAdoptTags: what was placed before its key tag could be written is tagged when it is
// found by its annotation, so that it is also found where annotations are not shown.
func TestAdoptTags(t *testing.T) {
	for name, api := range kinds {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, api)
			att := s.attestation(1)
			tag := oci.KeyTag(att.Key, signer, s.image)
			receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
			if err != nil {
				t.Fatal(err)
			}
			s.drop(tag)
			r := s.open(oci.Options{})
			adopt := func() {
				t.Helper()
				adopted, err := r.Adopt(t.Context(), att.Key, signer, s.image, receipt.Digest)
				if err != nil || adopted != receipt {
					t.Errorf("adopted %+v, %v; want %+v", adopted, err, receipt)
				}
			}
			s.hook(func(w http.ResponseWriter, req *http.Request) bool {
				readOnly := req.Method == http.MethodPut
				if readOnly {
					w.WriteHeader(http.StatusUnauthorized)
				}
				return readOnly
			})
			adopt() // whoever may only read has it all the same
			s.hook(nil)
			adopt()
			if lodge.DigestOf(s.get(tag)) != receipt.Digest {
				t.Error("the key tag does not lead to the artifact")
			}
			before := len(s.writes())
			adopt()
			if sent := s.writes()[before:]; len(sent) > 0 {
				t.Errorf("adopting again wrote %q", sent)
			}
		})
	}
}

// TestFindsExistingIgnoresOthers: a key tag that was pointed at something else, and artifacts
// that are no bundle for this image, are nobody's.
func TestFindsExistingIgnoresOthers(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	s.put("manifests/"+oci.KeyTag(att.Key, signer, s.image), manifestType, s.get("latest"))
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := s.open(oci.Options{}).Adopt(t.Context(), s.attestation(1).Key, signer, s.image, s.image); lodge.Classify(err).Code != "not-attached" {
		t.Errorf("adopting the image itself: %v", err)
	}
	missing, err := oci.New(s.host+"/nothing", oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := all(missing.Candidates(t.Context(), att.Key, signer, s.image)); err != nil || len(found) > 0 {
		t.Errorf("in a repository that is not there: %+v, %v", found, err)
	}
}

func all(candidates iter.Seq2[oci.Candidate, error]) (found []oci.Candidate, err error) {
	for c, err := range candidates {
		if err != nil {
			return found, err
		}
		found = append(found, c)
	}
	return found, nil
}

// TestFindsExistingWhileIndexIsReplaced: oras and cosign write a new index and delete the
// old one. Whoever reads in between must not take that for "nothing is attached".
func TestFindsExistingWhileIndexIsReplaced(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	if _, err := publish(t.Context(), s.open(oci.Options{Settle: settle}), att, s.image); err != nil {
		t.Fatal(err)
	}
	tag := "manifests/sha256-" + s.image.Hex()
	s.hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/sha256") {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return true
		}
		return false
	})
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if e := lodge.Classify(err); e == nil || e.Class.Final() || errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("with %s vanishing: %d candidates, error %v; want a retry", tag, len(found), err)
	}
}

// TestFindsExistingAmongBroken: artifacts that claim to be ours and are broken do not stand
// in the way of the good one.
func TestFindsExistingAmongBroken(t *testing.T) {
	s := newServer(t, false)
	att := s.attestation(1)
	receipt, err := publish(t.Context(), s.open(oci.Options{Settle: settle}), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
		Manifests     []any  `json:"manifests"`
	}
	if err := json.Unmarshal(s.get("sha256-"+s.image.Hex()), &index); err != nil {
		t.Fatal(err)
	}
	good := s.get(receipt.Digest.String())
	for _, broken := range []string{`"size":1`, `"size":99999999`, `"size":-5`} {
		// A layer whose size is not the blob's, and an entry whose size is not the manifest's.
		var m ocispec.Manifest
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		size := fmt.Sprintf(`"size":%d`, m.Layers[0].Size)
		digest := s.put("manifests/broken", manifestType, bytes.Replace(good, []byte(size), []byte(broken), 1))
		entry := map[string]any{"mediaType": manifestType, "digest": digest.String(), "size": json.RawMessage(strings.TrimPrefix(broken, `"size":`))}
		index.Manifests = append(index.Manifests, entry)
		annotated := maps.Clone(entry)
		annotated["annotations"] = map[string]string{"dev.lodge.key": att.Key.String()}
		index.Manifests = append(index.Manifests, annotated)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	s.put("manifests/sha256-"+s.image.Hex(), "application/vnd.oci.image.index.v1+json", raw)
	found, err := all(s.open(oci.Options{}).Candidates(t.Context(), att.Key, signer, s.image))
	if err != nil || len(found) != 1 || found[0].Manifest != receipt.Digest {
		t.Errorf("found %+v, %v", found, err)
	}
}
