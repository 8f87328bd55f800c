package hint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// maxValue is the size of a value in bytes; a longer one is hashed.
const maxValue = 2048

// escape percent-encodes what is not in A-Za-z0-9._~-/:@+*%, so that all hints are ASCII.
func escape(s string) string {
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, escapeByte(c)...)
		}
	}
	return string(out)
}

// escapeByte is one byte, percent-encoded.
func escapeByte(c byte) string {
	const hexDigits = "0123456789ABCDEF"
	return string([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
}

// upperEscapes writes %2c as %2C: an escape has one spelling, also in what is lower case.
func upperEscapes(s string) string {
	var out []byte
	for i := strings.IndexByte(s, '%'); i >= 0 && i+2 < len(s); i++ {
		if s[i] == '%' && hexClass[s[i+1]]|hexClass[s[i+2]] < noHex && s[i+1:i+3] != upper(s[i+1:i+3]) {
			if out == nil {
				out = []byte(s)
			}
			copy(out[i+1:], upper(s[i+1:i+3]))
		}
	}
	if out == nil {
		return s
	}
	return string(out)
}

func plain(c byte) bool { return isPlain[c] }

// isPlain are the characters that stand for themselves in a scope.
var isPlain = charset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-/:@+*%")

func charset(chars string) (set [256]bool) {
	for i := range len(chars) {
		set[chars[i]] = true
	}
	return set
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// bounded hashes what is longer than limit.
func bounded(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "~sha256:" + hex.EncodeToString(sum[:])
}

// lower is ASCII lower case: the same in every locale and Unicode version.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			out := []byte(s)
			for j := i; j < len(out); j++ {
				if c := out[j]; 'A' <= c && c <= 'Z' {
					out[j] = c + 'a' - 'A'
				}
			}
			return string(out)
		}
	}
	return s
}

func upper(s string) string {
	out := []byte(s)
	for i, c := range out {
		if 'a' <= c && c <= 'z' {
			out[i] = c - ('a' - 'A')
		}
	}
	return string(out)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && lower(s[:len(prefix)]) == prefix
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// normalVuln is for a value that means a vulnerability id. URLs are none.
func normalVuln(id string) (string, bool) {
	id = trim(id)
	if id == "" || strings.Contains(id, "://") {
		return "", false
	}
	if known, n := vulnAt(id, 0); n == len(id) {
		return known, true
	}
	return bounded(escape(id), maxValue), true
}

// vulnKind is the kind of scope for an id.
func vulnKind(id string) string {
	if strings.HasPrefix(id, "CVE-") {
		if known, n := vulnAt(id, 0); n == len(id) && known == id {
			return "cve"
		}
	}
	return "vuln"
}

// normalName is for a component's name.
func normalName(name string) string {
	return bounded(upperEscapes(escape(lower(trim(name)))), maxValue)
}

// An algorithm is one of those that digests are kept of.
type algorithm struct {
	name string
	size [2]int // hex digits; git objects are of SHA-1 or SHA-256
}

// algorithms are known by their folded names and, to be quick, by the usual spellings.
var algorithms = spelled(
	algorithm{"md5", [2]int{32}}, algorithm{"sha1", [2]int{40}}, algorithm{"sha224", [2]int{56}}, algorithm{"sha256", [2]int{64}},
	algorithm{"sha384", [2]int{96}}, algorithm{"sha512", [2]int{128}},
	algorithm{"gitCommit", [2]int{40, 64}}, algorithm{"gitTag", [2]int{40, 64}}, algorithm{"gitBlob", [2]int{40, 64}}, algorithm{"gitTree", [2]int{40, 64}},
)

func spelled(all ...algorithm) map[string]algorithm {
	byName := map[string]algorithm{}
	for _, a := range all {
		byName[a.name], byName[lower(a.name)], byName[upper(a.name)] = a, a, a
		byName[strings.Replace(upper(a.name), "SHA", "SHA-", 1)] = a
	}
	return byName
}

// normalDigest returns "alg:hex".
func normalDigest(alg, value string) (string, bool) {
	name, upperCase, ok := digestName(alg, value)
	if !ok {
		return "", false
	}
	if upperCase {
		value = lower(value)
	}
	return name + ":" + value, true
}

// digestName returns the name of the algorithm of what is a digest, and whether its value
// has letters in upper case. The algorithm may be spelled SHA-256, sha256 or
// checksumAlgorithm_sha256.
func digestName[T string | []byte](alg, value T) (name string, upperCase, ok bool) {
	known, ok := algorithms[string(alg)]
	if !ok && len(alg) <= maxAlgorithm {
		folded := strings.TrimPrefix(lower(string(alg)), "checksumalgorithm_")
		known, ok = algorithms[strings.ReplaceAll(strings.ReplaceAll(folded, "-", ""), "_", "")]
	}
	if !ok || len(value) == 0 || len(value) != known.size[0] && len(value) != known.size[1] {
		return "", false, false
	}
	class := byte(0)
	for i := range len(value) {
		class |= hexClass[value[i]]
	}
	return known.name, class&upperHex != 0, class < noHex
}

// The classes of characters in a digest.
const (
	lowerHex = 1 << iota // and digits
	upperHex
	noHex
)

var hexClass = func() (class [256]byte) {
	for i := range class {
		switch c := byte(i); {
		case isDigit(c) || 'a' <= c && c <= 'f':
			class[i] = lowerHex
		case 'A' <= c && c <= 'F':
			class[i] = upperHex
		default:
			class[i] = noHex
		}
	}
	return class
}()

// maxAlgorithm is the size of the longest spelling.
const maxAlgorithm = len("checksumAlgorithm_sha-256")

// forges are hosts whose every path is a repository.
var forges = []string{"github.com/", "gitlab.com/", "bitbucket.org/", "codeberg.org/"}

// isRepo tells whether a URI of any use is one of a source repository.
func isRepo(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(uri, "ssh://")
	}
	if !ok {
		return strings.HasPrefix(uri, "git://") || strings.HasPrefix(uri, "git@")
	}
	for _, host := range forges {
		if path, ok := strings.CutPrefix(rest, host); ok {
			path, _, _ = strings.Cut(path, "@")
			return strings.Count(strings.TrimSuffix(path, "/"), "/") == 1
		}
	}
	path, _, _ := strings.Cut(rest, "@")
	return strings.HasSuffix(path, ".git")
}

// normalRepo returns "host/path" of a source repository: without scheme, user, ref, query,
// fragment and ".git". The host is lower case, the path as it is.
func normalRepo(s string) (string, bool) {
	s = strings.TrimPrefix(trim(s), "git+")
	if rest, ok := strings.CutPrefix(s, "git@"); ok && !strings.Contains(s, "://") { // scp form
		host, path, _ := strings.Cut(rest, ":")
		s = host + "/" + path
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok && !strings.Contains(scheme, "/") {
		s = rest
	}
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	host, path, _ := strings.Cut(s, "/")
	if _, after, ok := cutLast(host, "@"); ok {
		host = after
	}
	path, _, _ = strings.Cut(path, "@")
	for end := ""; path != end; { // until there is nothing to take away
		end = path
		path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	}
	if path == "" || !strings.ContainsAny(host, ".:") || strings.Contains(host, "+") {
		return "", false
	}
	value := upperEscapes(escape(lower(host))) + "/" + escape(path)
	return bounded(strings.ReplaceAll(value, "*", "%2A"), maxValue), true // for a * at the end of a scope is any
}

// normalCPE returns a CPE's 2.3 formatted string in lower case, and its base
// "part:vendor:product" (NISTIR 7695, sections 6.1 and 6.2).
func normalCPE(s string) (full, base string, ok bool) {
	if base, ok := baseOfCPE(s); ok {
		return s, base, true
	}
	s = lower(trim(s))
	var parts []string
	if rest, v23 := strings.CutPrefix(s, "cpe:2.3:"); v23 {
		parts = splitCPE(rest)
	} else if rest, v22 := strings.CutPrefix(s, "cpe:/"); v22 {
		parts = fromURI(rest)
	}
	if len(parts) < 3 || len(parts) > 11 || len(parts[0]) != 1 || !strings.Contains("aoh*-", parts[0]) || len(s) > maxValue {
		return "", "", false
	}
	for len(parts) < 11 {
		parts = append(parts, "*")
	}
	for i, p := range parts {
		parts[i] = cmp.Or(p, "*")
	}
	base = basePart(parts[0]) + ":" + basePart(parts[1]) + ":" + basePart(parts[2])
	for i, p := range parts {
		parts[i] = quoteCPE(p)
	}
	return "cpe:2.3:" + strings.Join(parts, ":"), base, true
}

// basePart writes a part of a CPE for a scope: without quotes, with other punctuation as
// %XX. What stands in a scope already has such escapes.
func basePart(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c, quoted := p[i], false
		if c == '\\' && i+1 < len(p) {
			i++
			c, quoted = p[i], true
		}
		if isAlnum(c) || strings.IndexByte("._~-", c) >= 0 || !quoted && (c == '*' || isEscape(p[i:])) {
			b.WriteByte(c)
		} else {
			b.WriteString(escapeByte(c))
		}
	}
	return upperEscapes(b.String())
}

// isEscape tells whether s begins with %XX.
func isEscape(s string) bool {
	return len(s) > 2 && s[0] == '%' && hexClass[s[1]]|hexClass[s[2]] < noHex
}

// isPlainCPE are the characters that need no quoting in a formatted string, and the colon.
var isPlainCPE = charset("abcdefghijklmnopqrstuvwxyz0123456789._-*:")

// baseOfCPE returns the base of a formatted string that is normal as it is, as most are.
func baseOfCPE(s string) (base string, ok bool) {
	const prefix = "cpe:2.3:"
	if len(s) > maxValue || !strings.HasPrefix(s, prefix) {
		return "", false
	}
	parts, end := 0, 0
	for i := len(prefix) - 1; i < len(s); i++ {
		if !isPlainCPE[s[i]] {
			return "", false
		}
		if s[i] == ':' {
			if i+1 == len(s) || s[i+1] == ':' {
				return "", false
			}
			if parts++; parts == 4 {
				end = i
			}
		}
	}
	rest := s[len(prefix):]
	if parts != 11 || rest[1] != ':' || !strings.Contains("aoh*-", rest[:1]) {
		return "", false
	}
	return s[len(prefix):end], true
}

// splitCPE splits a formatted string at the colons that are not quoted.
func splitCPE(s string) (parts []string) {
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ':':
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// fromURI reads the parts of a 2.2 URI; the edition may hold five, packed with "~".
func fromURI(s string) (parts []string) {
	for i, p := range strings.Split(s, ":") {
		if i == 5 && strings.HasPrefix(p, "~") {
			packed := strings.Split(p[1:], "~")
			for len(packed) < 5 {
				packed = append(packed, "")
			}
			// The language is the sixth part of a URI, but comes before the rest in 2.3.
			language := ""
			if all := strings.Split(s, ":"); len(all) > 6 {
				language = all[6]
			}
			for _, q := range append([]string{packed[0], language}, packed[1:]...) {
				parts = append(parts, partOfURI(q))
			}
			return parts
		}
		parts = append(parts, partOfURI(p))
	}
	return parts
}

func partOfURI(p string) string {
	switch p {
	case "":
		return "*"
	case "-":
		return "-"
	}
	p = strings.NewReplacer("%01", "?", "%02", "*").Replace(quoteStars(p))
	if decoded, err := url.PathUnescape(p); err == nil {
		p = lower(decoded)
	}
	return p
}

// quoteStars quotes what would be a wildcard in a formatted string, or begin an escape.
func quoteStars(p string) string {
	return strings.NewReplacer("*", `\*`, "?", `\?`, "%2a", `\*`, "%3f", `\?`, "%25", `\%25`).Replace(p)
}

// quoteCPE quotes all punctuation but period, hyphen, underscore and wildcards. What is no
// printable ASCII is percent-encoded, and may be already.
func quoteCPE(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c, quoted := p[i], false
		if c == '\\' && i+1 < len(p) {
			i++
			c, quoted = p[i], true
		}
		bare := isAlnum(c) || strings.IndexByte("._-", c) >= 0 || !quoted && (c == '*' || c == '?' || isEscape(p[i:]))
		if !bare && c > ' ' && c <= '~' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return upperEscapes(escapeASCII(b.String()))
}

// escapeASCII percent-encodes what is not printable ASCII.
func escapeASCII(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			b.WriteString(escapeByte(c))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
