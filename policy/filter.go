package policy

import "hash/maphash"

// filter is a Bloom filter: it tells quickly, from memory that fits a processor's cache,
// that a string is not among many. Nearly every scope of a large event is in no policy.
// The zero value knows nothing and lets everything through.
type filter struct {
	seed maphash.Seed
	bits []uint64 // a power of two of them
}

// bitsPerKey makes one in fifty strings pass that is not there.
const bitsPerKey = 16

// newFilter makes a filter for n keys.
func newFilter(n int) filter {
	words := 1
	for words*64 < n*bitsPerKey {
		words *= 2
	}
	return filter{maphash.MakeSeed(), make([]uint64, words)}
}

func (f *filter) add(key string) {
	h := maphash.String(f.seed, key)
	for _, bit := range [2]uint64{h, h >> 32} {
		f.bits[bit/64&uint64(len(f.bits)-1)] |= 1 << (bit % 64)
	}
}

// may tells whether key may have been added.
func (f *filter) may(key string) bool {
	if f.bits == nil {
		return true
	}
	h := maphash.String(f.seed, key)
	mask := uint64(len(f.bits) - 1)
	return f.bits[h/64&mask]&(1<<(h%64)) != 0 && f.bits[h>>32/64&mask]&(1<<(h>>32%64)) != 0
}
