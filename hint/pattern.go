package hint

import "strings"

// A form is how the id of a database goes on after its prefix: 9 stands for digits, Y for
// four of them, x for four letters or digits, anything else for itself.
type form struct {
	rest   string
	folded bool // the rest is written in lower case
}

// forms are the vulnerability ids that are known wherever they stand, by what is before the
// first hyphen. Ids of advisories (RHSA, USN, …) are not among them: documents refer to many
// that they are not about.
var forms = map[string]form{
	"CGA": {"x-x-x", true}, "CVE": {"Y-9", false}, "EUVD": {"Y-9", false}, "GHSA": {"x-x-x", true},
	"GHSL": {"Y-9", false}, "GMS": {"Y-9", false}, "GO": {"Y-9", false}, "HSEC": {"Y-9", false},
	"MAL": {"Y-9", false}, "OSV": {"Y-9", false}, "PYSEC": {"Y-9", false}, "RUSTSEC": {"Y-9", false},
}

// longest is the longest prefix.
const longest = len("RUSTSEC")

// maxSerial is how many digits a CVE's number has at most.
const maxSerial = 19

// vulnAt reads the id that stands in s at position i. It returns its normal form and how
// many bytes it takes, 0 where there is none.
func vulnAt(s string, i int) (id string, n int) {
	end := i
	for end < len(s) && end-i <= longest && isAlnum(s[end]) {
		end++
	}
	if end == i || end >= len(s) || s[end] != '-' {
		return "", 0
	}
	prefix := upper(s[i:end])
	if prefix == "SNYK" {
		return snykAt(s, i, end)
	}
	f, ok := forms[prefix]
	if !ok {
		return "", 0
	}
	size := matchForm(f.rest, s[end+1:])
	if size == 0 || prefix == "CVE" && (size < len("2024-1234") || size > len("2024-")+maxSerial) {
		return "", 0
	}
	next := end + 1 + size
	if next < len(s) && isAlnum(s[next]) {
		return "", 0
	}
	rest := upper(s[end+1 : next])
	if f.folded {
		rest = lower(rest)
	}
	return prefix + "-" + rest, next - i
}

// matchForm returns how many bytes of s have the form, 0 where it does not begin with it.
func matchForm(form, s string) int {
	i := 0
	for _, f := range []byte(form) {
		start := i
		switch f {
		case '9':
			for i < len(s) && isDigit(s[i]) {
				i++
			}
			if i == start {
				return 0
			}
		case 'Y':
			if i += 4; i > len(s) || !isDigits(s[start:i]) {
				return 0
			}
		case 'x':
			for i < len(s) && i < start+4 && isAlnum(s[i]) {
				i++
			}
			if i < start+4 {
				return 0
			}
		default:
			if i == len(s) || s[i] != f {
				return 0
			}
			i++
		}
	}
	return i
}

// maxSnyk is the size of such an id, with room to spare.
const maxSnyk = 128

// snykAt reads an id such as SNYK-DEBIAN12-APT-1541449, whose hyphen after the prefix is at
// dash: parts of letters and digits, the last of them all digits.
func snykAt(s string, i, dash int) (string, int) {
	end := dash
	for end < len(s) && end-i <= maxSnyk && (isAlnum(s[end]) || s[end] == '-' || s[end] == '_') {
		end++
	}
	id := strings.TrimRight(s[i:end], "-_")
	_, last, _ := cutLast(id, "-")
	if len(id) > maxSnyk || strings.Count(id, "-") < 2 || !isDigits(last) || id != upper(id) {
		return "", 0
	}
	return id, len(id)
}

// scanVulns calls found for each known id in a text. Each is looked for at a hyphen, so that
// a text without any costs no more than a search for one byte.
func scanVulns(text string, found func(id string)) {
	for from := 0; ; {
		i := strings.IndexByte(text[from:], '-')
		if i < 0 {
			return
		}
		dash := from + i
		start := dash
		for start > from && dash-start <= longest && isAlnum(text[start-1]) {
			start--
		}
		from = dash + 1
		if start == dash || start > 0 && isAlnum(text[start-1]) {
			continue
		}
		if id, n := vulnAt(text, start); n > 0 {
			found(id)
			from = start + n
		}
	}
}

// scanDigests calls found for each "sha256:<hex>" in a text.
func scanDigests(text string, found func(digest string)) {
	const prefix, size = "sha256:", 64
	for {
		i := strings.Index(text, prefix)
		if i < 0 {
			return
		}
		blob := strings.HasSuffix(text[:i], "gitoid:blob:") // over more than the content
		text = text[i+len(prefix):]
		if blob || len(text) < size || len(text) > size && isAlnum(text[size]) {
			continue
		}
		if d, ok := normalDigest("sha256", text[:size]); ok {
			found(d)
			text = text[size:]
		}
	}
}

// scanPurls calls found for each "pkg:…" in a text, up to white space or a character that
// no purl has.
func scanPurls(text string, found func(purl string)) {
	const prefix = "pkg:"
	for at := 0; ; {
		i := strings.Index(text[at:], prefix)
		if i < 0 {
			return
		}
		start := at + i
		at = start + len(prefix)
		if start > 0 && isAlnum(text[start-1]) {
			continue
		}
		for at < len(text) && text[at] > ' ' && text[at] < 0x7f && strings.IndexByte("\"'<>\\^`{|}()[],;", text[at]) < 0 {
			at++
		}
		if s := strings.TrimRight(text[start:at], ".:!?"); strings.Contains(s, "/") {
			found(s)
		}
	}
}
