// Package tlog reads what a transparency log signs: checkpoints (C2SP tlog-checkpoint, and
// the form that Rekor v1 gives them), RFC 6962 proofs, and tiles (C2SP tlog-tiles).
//
// Nothing that a log serves is believed: a checkpoint counts once its signature verifies
// under the log's key, and a hash once it is proven under the root of such a checkpoint.
//
// It is pure: bytes come through [Fetcher], never from a network of its own. It may import
// the root package, the standard library, golang.org/x/mod/sumdb, golang.org/x/sync and
// transparency-dev/merkle.
package tlog
