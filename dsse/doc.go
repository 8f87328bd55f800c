// Package dsse is about signed envelopes: reading them, the idempotency key of what is
// in them, and the keys that verify and make their signatures.
//
// It may import the root package and the standard library, and reads and writes nothing
// but its arguments.
package dsse
