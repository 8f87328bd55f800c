package rekor

import (
	"context"
	"errors"
	"net/http"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/tlog"
)

var errTODO = errors.New("not yet")

// Version is the version of the protocol that a log speaks.
type Version int

// The versions.
const (
	Version1 Version = 1
	Version2 Version = 2
)

// Detect finds out which version the log at url speaks.
func Detect(ctx context.Context, client *http.Client, url, readURL string) (Version, error) {
	return 0, errTODO
}

// Options say where a log is and what it is verified with.
type Options struct {
	URL       string
	ReadURL   string       // v2: where checkpoint and tile/… are; default URL/api/v2
	HTTP      *http.Client // default http.DefaultClient
	Keys      []tlog.Key   // v2: exactly one; v1: of the active shard first, then of the others
	Leaves    Leaves       // v2: required
	MaxLeaves int64        // v2: a log with more leaves at first contact is not read from 0; default 1,000,000
}

// Leaves is the local leaf index.
type Leaves interface {
	LeafRange(ctx context.Context, logID string) (from, size int64, err error)
	AddLeaves(ctx context.Context, logID string, at int64, hashes []lodge.Digest) error
	FindLeaf(ctx context.Context, logID string, hash lodge.Digest) ([]int64, error)
}

// Found is what a search found.
type Found struct {
	Entry       *lodge.Entry
	Attestation *bundle.Attestation
	TreeSize    int64
}

// V1 is a client of a Rekor v1 log.
type V1 struct{}

// V2 is a client of one shard of a Rekor v2 log.
type V2 struct{}

// NewV1 returns a client; it connects to nothing.
func NewV1(o Options) (*V1, error) { return nil, errTODO }

// NewV2 returns a client; it connects to nothing.
func NewV2(o Options) (*V2, error) { return nil, errTODO }

// LogID is the id in hex of the shard that is written to.
func (c *V1) LogID() string { return "" }

// LogID is the id in hex of the shard.
func (c *V2) LogID() string { return "" }

// Plan prepares a submission offline.
func (c *V1) Plan(att *bundle.Attestation) (lodge.Intent, error) { return lodge.Intent{}, errTODO }

// Plan prepares a submission offline.
func (c *V2) Plan(att *bundle.Attestation) (lodge.Intent, error) { return lodge.Intent{}, errTODO }

// Adopt returns the entry of att.Entries that is this log's, or lodge.ErrNotFound.
func (c *V1) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	return nil, errTODO
}

// Adopt returns the entry of att.Entries that is this log's, or lodge.ErrNotFound.
func (c *V2) Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error) {
	return nil, errTODO
}

// Find looks for the entry.
func (c *V1) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (Found, error) {
	return Found{}, errTODO
}

// Find looks for the entry.
func (c *V2) Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (Found, error) {
	return Found{}, errTODO
}

// Send submits the recorded request.
func (c *V1) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	return nil, errTODO
}

// Send submits the recorded request.
func (c *V2) Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error) {
	return nil, errTODO
}
