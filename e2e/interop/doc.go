// Package interop holds the end-to-end tests that need more than Go: Rekor v1, which runs
// over MariaDB and Redis, and cosign, which takes minutes to build. `make interop` runs
// them; `make test` does not.
//
// It has tests only.
package interop
