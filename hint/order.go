package hint

import (
	"encoding/binary"
	"slices"
	"strings"
)

// ordered returns values in ascending order of their bytes, without what is there twice.
// It may change values.
func ordered(values []string) []string {
	if ascending(values) {
		return values
	}
	return slices.Compact(sorted(values))
}

// ascending tells whether values are in order, and none is there twice.
func ascending(values []string) bool {
	for i := 1; i < len(values); i++ {
		if values[i-1] >= values[i] {
			return false
		}
	}
	return true
}

// sorted returns values in order. It may change values.
func sorted(values []string) []string {
	if len(values) > fewValues {
		return sortedByKey(values)
	}
	slices.Sort(values)
	return values
}

// fewValues is how many are sorted by comparing them.
const fewValues = 256

// A keyed value has the eight bytes by which it is sorted first.
type keyed struct {
	key   uint64
	index int
}

// sortedByKey sorts by the eight bytes after what all values begin with, and only where those
// are equal by the rest. It is several times as quick as comparing long strings that are alike.
func sortedByKey(values []string) []string {
	common := values[0]
	for _, v := range values {
		n := min(len(common), len(v))
		for v[:n] != common[:n] {
			n--
		}
		common = common[:n]
	}
	all := make([]keyed, len(values), 2*len(values))
	for i, v := range values {
		all[i] = keyed{keyOf(v[len(common):]), i}
	}
	all = radixSort(all, all[len(values):2*len(values)])
	inOrder := make([]string, len(values))
	for i := range all {
		inOrder[i] = values[all[i].index]
	}
	for start := 0; start < len(all); {
		end := start + 1
		for end < len(all) && all[end].key == all[start].key {
			end++
		}
		if run := inOrder[start:end]; len(run) > fewValues && len(run) < len(all) {
			copy(run, sortedByKey(run)) // they have more in common, so that the next bytes tell
		} else if len(run) > 1 {
			slices.Sort(run)
		}
		start = end
	}
	return inOrder
}

// keyOf is the first eight bytes, with zeros where there are less.
func keyOf(s string) uint64 {
	var key [8]byte
	copy(key[:], s)
	return binary.BigEndian.Uint64(key[:])
}

// radixSort sorts by key, with a buffer of the same size, and returns the one that holds the
// result. It goes from the last byte of the keys to the first.
func radixSort(all, buffer []keyed) []keyed {
	for shift := 0; shift < 64; shift += 8 {
		var ends [256]int
		for i := range all {
			ends[byte(all[i].key>>shift)]++
		}
		if ends[byte(all[0].key>>shift)] == len(all) {
			continue // all alike
		}
		sum := 0
		for b, n := range ends {
			ends[b] = sum
			sum += n
		}
		for i := range all {
			b := byte(all[i].key >> shift)
			buffer[ends[b]] = all[i]
			ends[b]++
		}
		all, buffer = buffer, all
	}
	return all
}

// A scopeList makes scopes, all in one piece of memory.
type scopeList struct {
	text strings.Builder
	ends []int
}

// grow makes room for lists of values.
func (l *scopeList) grow(lists ...[]string) {
	n, size := 0, 0
	for _, values := range lists {
		n += len(values)
		for _, v := range values {
			size += len("component:") + len(v)
		}
	}
	l.ends = make([]int, 0, n)
	l.text.Grow(size)
}

func (l *scopeList) add(kind string, values ...string) {
	for _, v := range values {
		if v = upperEscapes(escape(v)); len(kind)+1+len(v) > MaxScope {
			l.text.WriteString(scope(kind, v))
		} else {
			l.text.WriteString(kind)
			l.text.WriteByte(':')
			l.text.WriteString(v)
		}
		l.ends = append(l.ends, l.text.Len())
	}
}

// scopes returns them, in order.
func (l *scopeList) scopes() []string {
	text, start := l.text.String(), 0
	scopes := make([]string, len(l.ends))
	for i, end := range l.ends {
		scopes[i] = text[start:end]
		start = end
	}
	return ordered(scopes)
}
