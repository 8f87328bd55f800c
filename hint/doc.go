// Package hint reads what an attestation is about: vulnerability ids, VEX claims, product
// keys, components, digests and repositories, and the scopes by which policies find it.
//
// Hints are a pure function of a payload's bytes and this package's Version: no clock, no
// database, no configuration. What cannot be read makes them wider, never narrower: the
// scope all:* touches every policy.
//
// It may import the root package, dsse and pure libraries for JSON and purls.
package hint
