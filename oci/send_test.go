package oci_test

import (
	"slices"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/oci"
)

func TestSend(t *testing.T) {
	for name, api := range kinds {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, api)
			att := s.attestation(1)
			receipt, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
			if err != nil {
				t.Fatal(err)
			}
			if want := s.host + "/app@" + receipt.Digest.String(); receipt.Reference != want || receipt.Subject != s.image {
				t.Errorf("receipt %+v, want the reference %s", receipt, want)
			}
			if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
				t.Errorf("referrers %q, want only %s", got, receipt.Digest)
			}
			if lodge.DigestOf(s.get(oci.KeyTag(att.Key, signer, s.image))) != receipt.Digest {
				t.Error("the key tag does not lead to the artifact")
			}

			before := len(s.writes())
			again, err := publish(t.Context(), s.open(oci.Options{}), att, s.image)
			if err != nil || again != receipt {
				t.Errorf("again: %+v, %v; want %+v", again, err, receipt)
			}
			if sent := s.writes()[before:]; len(sent) > 0 {
				t.Errorf("sending again wrote %q", sent)
			}
		})
	}
}

// TestFaults loses every request that writes, before and after it is applied. The class must
// be right, and whatever happened, sending again ends with one artifact.
func TestFaults(t *testing.T) {
	for name, api := range kinds {
		for _, kind := range []fault{lostBefore, lostAfter, busyBefore, busyAfter} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				nth := 1
				for ; ; nth++ {
					s := newServer(t, api)
					att := s.attestation(1)
					transport := &faults{nth: nth, kind: kind}
					r := s.open(oci.Options{Transport: transport})
					_, err := publish(t.Context(), r, att, s.image)
					if transport.seen < nth {
						break
					}
					if err != nil {
						class := lodge.Classify(err).Class
						placed := s.get(oci.KeyTag(att.Key, signer, s.image)) != nil || len(s.referrers()) > 0
						if class != lodge.ClassRetry && class != lodge.ClassUnknown || placed && class != lodge.ClassUnknown {
							t.Errorf("request %d: class %s of %v", nth, class, err)
						}
					}
					receipt, err := publish(t.Context(), r, att, s.image)
					if err != nil {
						t.Fatalf("request %d, sent again: %v", nth, err)
					}
					if got := s.referrers(); !slices.Equal(got, []string{receipt.Digest.String()}) {
						t.Errorf("request %d: referrers %q", nth, got)
					}
				}
				if nth < 6 {
					t.Errorf("only %d requests write", nth-1)
				}
			})
		}
	}
}

func TestSendRefusesStalePlan(t *testing.T) {
	s := newServer(t, true)
	att := s.attestation(1)
	r := s.open(oci.Options{})
	intent, err := r.Plan(t.Context(), att, s.image)
	if err != nil {
		t.Fatal(err)
	}
	intent.Manifest = lodge.DigestOf([]byte("another"))
	_, err = r.Send(t.Context(), att.Key, signer, s.image, intent)
	if e := lodge.Classify(err); e == nil || e.Code != "plan-stale" || len(s.writes()) > 0 {
		t.Errorf("error %v, writes %q", err, s.writes())
	}
}
