package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// signingConfig reads a Sigstore SigningConfig v0.2 (sigstore_trustroot.proto) and returns the
// URLs of the logs and timestamp authorities that it selects at a time.
func (a *app) signingConfig(path string, now time.Time) (logs, tsa []string, err error) {
	raw, err := a.readSmall("--signing-config", path)
	if err != nil {
		return nil, nil, err
	}
	config, err := root.NewSigningConfigFromJSON(raw)
	if err != nil {
		return nil, nil, unreadable(fmt.Errorf("--signing-config %s: %w", path, err))
	}
	// The highest version that is spoken comes first: Rekor's are 1 and 2.
	logs, err = choose(config.RekorLogURLs(), config.RekorLogURLsConfig(), now, 2, 1)
	if err != nil {
		return nil, nil, unreadable(fmt.Errorf("--signing-config %s: logs: %w", path, err))
	}
	if tsa, err = choose(config.TimestampAuthorityURLs(), config.TimestampAuthorityURLsConfig(), now, 1); err != nil {
		return nil, nil, unreadable(fmt.Errorf("--signing-config %s: timestamp authorities: %w", path, err))
	}
	return logs, tsa, nil
}

// choose selects services as the specification says: of the highest version that has any, at
// most one of each operator, the newest. Where it leaves the choice, it is the newest and not a
// random one, for another log would be another entry.
func choose(services []root.Service, how root.ServiceConfiguration, now time.Time, versions ...uint32) ([]string, error) {
	if len(services) == 0 {
		return nil, nil
	}
	services = slices.SortedFunc(slices.Values(services), func(a, b root.Service) int {
		return cmp.Or(b.ValidityPeriodStart.Compare(a.ValidityPeriodStart), cmp.Compare(a.URL, b.URL))
	})
	var urls []string
	for _, version := range versions {
		operators := map[string]bool{}
		for _, s := range services {
			if s.MajorAPIVersion == version && s.ValidAtTime(now) && !operators[s.Operator] {
				operators[s.Operator] = true
				urls = append(urls, s.URL)
			}
		}
		if len(urls) > 0 {
			break
		}
	}
	want := len(urls)
	switch how.Selector {
	case prototrustroot.ServiceSelector_ALL:
	case prototrustroot.ServiceSelector_ANY:
		want = 1
	case prototrustroot.ServiceSelector_EXACT:
		want = int(how.Count)
	default:
		return nil, fmt.Errorf("an unknown selector %s", how.Selector)
	}
	if want == 0 || want > len(urls) {
		return nil, fmt.Errorf("%d are wanted, and %d are valid now in a version that lodge speaks", max(want, 1), len(urls))
	}
	return urls[:want], nil
}
