// Package bench measures delivery to a real Rekor v2 log against a bare HTTP load generator
// that keeps as many requests in flight. `make bench` runs it and adds what it says to
// bench/RESULTS.md; the end-to-end tests run it once and small, so that it stays whole.
//
// It is for developers alone, and may import the packages that a program which embeds lodge
// imports, and e2e/servers.
package bench
