// Package rekor speaks with Rekor transparency logs: v2 (rekor-tiles) and v1. It plans an
// entry offline, looks for it in the log, submits it, and returns nothing as an entry that
// it did not verify: leaf equality, inclusion proof and checkpoint signature (promise 6).
//
// Its clients are small ones of its own over net/http, since every answer has to be told
// apart: not applied, applied, or unknown. It may import the root package, dsse, bundle and
// tlog. What it remembers of a log's leaves is kept behind [Leaves].
package rekor
