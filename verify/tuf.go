package verify

import (
	"context"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
)

// TUFRoot fetches the trusted root (the target trusted_root.json) of the TUF repository at url,
// whose first root metadata is initial. What it had last is kept in the user's home, in
// the cache that Sigstore's clients share, so that the repository can't go back behind that.
func TUFRoot(ctx context.Context, url string, initial []byte) (*Root, error) {
	options := tuf.DefaultOptions().WithRepositoryBaseURL(url).WithRoot(initial).WithContext(ctx)
	material, err := root.FetchTrustedRootWithOptions(options)
	if err != nil {
		return nil, fmt.Errorf("the trusted root of the TUF repository %s: %w", url, err)
	}
	return NewRoot(material), nil
}
