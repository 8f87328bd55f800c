package node

import (
	"context"
	"path/filepath"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/evidence"
)

// Evidence says where archives go.
type Evidence struct {
	// Directory gets the archive of each key whose deliveries are all verified, written by one
	// of the nodes that share the store: give all of them the same folder.
	Directory string `yaml:"directory"`
}

// Evidence returns the archive of the envelopes with that key: everything that proves what
// became of them, in one file. The error wraps lodge.ErrNotFound where there is no such
// envelope, and evidence.ErrPending where one is still on its way.
func (n *Node) Evidence(ctx context.Context, key lodge.Key) ([]byte, error) {
	return evidence.Collect(ctx, n.store, key)
}

func (n *Node) archiver() *evidence.Archiver {
	directory := n.config.Evidence.Directory
	if !filepath.IsAbs(directory) {
		directory = filepath.Join(n.config.folder, directory)
	}
	return &evidence.Archiver{Store: n.store, Directory: directory}
}
