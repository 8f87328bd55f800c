// Package e2e holds the end-to-end tests against real servers that need Go alone: Rekor v2
// and two registries. `make test` runs them.
//
// It has tests only; what they do is in package scenario.
package e2e
