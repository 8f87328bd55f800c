// Package logtest is a transparency log for tests: a real Merkle tree, real signed
// checkpoints and tiles, and the HTTP interface of Rekor v2 or the needed part of v1. It
// can be told to fail in the ways that real logs do: to lose a reply after the entry
// landed, to refuse, to stall, to fork, to roll back.
//
// A [Log] is an http.Handler and an http.RoundTripper; as the latter it needs no socket, keeps no
// goroutine, and follows the fake clock of testing/synctest. It may import any package that
// is not a test's own.
package logtest
