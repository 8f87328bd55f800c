package dsse_test

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

var update = flag.Bool("update", false, "write the golden files anew")

const inToto = "application/vnd.in-toto+json"

// canonical returns the canonical form of JSON text.
func canonical(text string) string { return string(dsse.Canonical(inToto, []byte(text))) }

func key(text string) lodge.Key { return dsse.Key(inToto, []byte(text)) }

// A vector is one golden key. Payload is base64 where it begins with "base64:".
type vector struct {
	Name        string    `json:"name"`
	PayloadType string    `json:"payloadType"`
	Payload     string    `json:"payload"`
	Canonical   string    `json:"canonical"` // "=" where it is the payload itself
	Key         lodge.Key `json:"key"`
}

func (v *vector) payload(t *testing.T) []byte {
	t.Helper()
	encoded, ok := strings.CutPrefix(v.Payload, "base64:")
	if !ok {
		return []byte(v.Payload)
	}
	payload, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestKeyVectors(t *testing.T) {
	const file = "testdata/keys.json"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for i := range vectors {
		v := &vectors[i]
		payload := v.payload(t)
		got, id := string(dsse.Canonical(v.PayloadType, payload)), dsse.Key(v.PayloadType, payload)
		if got == string(payload) {
			got = "="
		}
		if *update {
			v.Canonical, v.Key = got, id
		}
		if got != v.Canonical {
			t.Errorf("%s: canonical form %s, want %s", v.Name, got, v.Canonical)
		}
		if id != v.Key {
			t.Errorf("%s: key %s, want %s", v.Name, id, v.Key)
		}
	}
	if len(vectors) < 30 {
		t.Errorf("%d vectors, want at least 30", len(vectors))
	}
	if *update {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(vectors); err != nil {
			t.Fatal(err)
		}
		if err := writeFile(file, []byte(b.String())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeySameContent(t *testing.T) {
	for _, group := range [][]string{
		{`{"a":1,"b":[true,null]}`, " {\n\t\"b\" : [ true , null ] ,\r\n \"a\" : 1 } ", `{"b":[true,null],"a":1}`},
		{`{"a":1}`, `{"a":1.0}`, `{"a":1e0}`, `{"a":10E-1}`, `{"a":0.1e+01}`, `{"a":1` + strings.Repeat("0", 400) + `e-400}`, `{"\u0061":1}`},
		{`{"a":0}`, `{"a":-0}`, `{"a":0.000}`, `{"a":-0e5}`, `{"a":0e99999999999999999999}`},
		{`{"a":"é😂/"}`, `{"a":"\u00e9\uD83D\uDE02\/"}`, `{"a":"é\ud83d\ude02\u002F"}`},
		{`{"a":"\u0000\n\u007f\"\\"}`, "{\"a\":\"\\u0000\\u000a\x7f\\u0022\\u005C\"}"},
		{`{"é":1,"e":{"b":{},"a":[]}}`, `{"e":{"a":[ ],"b":{ }},"\u00e9":1}`},
		{`{"a":9007199254740992}`, `{"a":9.007199254740992e15}`},
		{`{"a":123456789012345680000}`, `{"a":1.2345678901234568e20}`},
	} {
		for _, text := range group[1:] {
			if key(text) != key(group[0]) {
				t.Errorf("%s and %s have different keys", group[0], text)
			}
		}
	}
}

// TestKeyTraps has pairs of contents that a careless canonical form would make equal.
func TestKeyTraps(t *testing.T) {
	for _, pair := range [][2]string{
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`{"a":1,"a":1}`, `{"a":1}`},
		{`{"a":1,"\u0061":2}`, `{"a":1}`},
		{`{"x":[{"a":1,"b":3,"a":2}]}`, `{"x":[{"a":2,"b":3}]}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`},
		{`{"a":0.1}`, `{"a":0.1000000000000000055511151231257827}`},
		{`{"a":333333333.33333329}`, `{"a":333333333.3333333}`},
		{`{"a":1e400}`, `{"a":1e401}`},
		{`{"a":-1e400}`, `{"a":1e400}`},
		{`{"a":1e-400}`, `{"a":0}`},
		{`{"a":4.9e-324}`, `{"a":5e-324}`},
		{`{"a":1e4294967297}`, `{"a":10}`},
		{`{"a":1e18446744073709551616}`, `{"a":1}`},
		{`{"a":1}`, `{"a":-1}`},
		{`{"a":1}`, `{"a":"1"}`},
		{`{"a":null}`, `{"a":"null"}`},
		{`{"a":null}`, `{}`},
		{`{"a":[]}`, `{"a":{}}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`},
		{`{"a":"\ud800"}`, `{"a":"\ufffd"}`},
		{`{"a":"\ud800"}`, `{"a":"\udbff"}`},
		{`{"a":"\udc00\ud800"}`, `{"a":"\udc00\udc00"}`},
		{"{\"a\":\"\xff\"}", "{\"a\":\"\ufffd\"}"},
		{"{\"a\":\"\xff\"}", "{\"a\":\"\xfe\"}"},
		{"{\"a\":\"\xed\xa0\x80\"}", `{"a":"\ud800"}`},
		{"{\"a\":\"\xc0\xaf\"}", `{"a":"/"}`},
		{"\ufeff{}", `{}`},
		{`{} {}`, `{}`},
		{"{}\x00", `{}`},
		{`{"a":01}`, `{"a":1}`},
		{`{"a":+1}`, `{"a":1}`},
		{`{"a":1.}`, `{"a":1}`},
		{`{"a":.5}`, `{"a":0.5}`},
		{`{"a":1,}`, `{"a":1}`},
		{`[1, 2]`, `[1,2]`},
		{`"a" `, `"a"`},
		{`1.0`, `1`},
		{``, `{}`},
		{`{"a":"\u00e9"}`, `{"a":"e\u0301"}`}, // composed, decomposed
		{`{"a":"A"}`, `{"a":"a"}`},
		{"{\"a\":\"\t\"}", `{"a":"\t"}`},
		{`{"a":"\u00"}`, `{"a":"\u0000"}`},
		{`{"a":"\x"}`, `{"a":"x"}`},
		{`{"a":"\"`, `{"a":"\""}`},
		{"{\"a\":\"\\n\t\"}", `{"a":"\n\t"}`},
		{`{"a":"\ud83d\ude0"}`, `{"a":"\ud83d\ude00"}`},
		{`{"a":-}`, `{"a":0}`},
		{`{"a":1e}`, `{"a":1}`},
		{`{"a":1e+}`, `{"a":1}`},
		{`{"a":tru}`, `{"a":true}`},
		{`{'a':1}`, `{"a":1}`},
		{`{"a":1/**/}`, `{"a":1}`},
		{`{"a":NaN}`, `{"a":null}`},
	} {
		if key(pair[0]) == key(pair[1]) {
			t.Errorf("%q and %q have one key", pair[0], pair[1])
		}
	}
}

// TestKeyNotCanonical lists what is its own canonical form, since RFC 8785 would lose
// something of it or does not apply. Each has white space that a form would drop.
func TestKeyNotCanonical(t *testing.T) {
	deep := func(levels int) string {
		return `{"a": ` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`
	}
	sized := func(size int) string {
		const frame = `{"a": ""}`
		return `{"a": "` + strings.Repeat("x", size-len(frame)) + `"}`
	}
	for _, tc := range []struct {
		name, payloadType, payload string
		kept                       bool
	}{
		{"an object", "application/json", `{ }`, false},
		{"parameters", "application/json; charset=utf-8", `{ }`, false},
		{"parameters after a suffix", inToto + " ;v=1", `{ }`, false},
		{"any suffix", "application/vnd.cyclonedx+json", `{ }`, false},
		{"Statement v1", "https://in-toto.io/Statement/v1", `{ }`, false},
		{"Statement v0.1", "https://in-toto.io/Statement/v0.1", `{ }`, false},
		{"text", "text/plain", `{ }`, true},
		{"no type", "", `{ }`, true},
		{"another URI", "https://witness.testifysec.com/policy/v0.1", `{ }`, true},
		{"a type with +json inside", "application/x+jsonl", `{ }`, true},
		{"another case", "application/JSON", `{ }`, true},
		{"a suffix in a parameter", "text/plain; type=a+json", `{ }`, true},
		{"an array", inToto, `[ ]`, true},
		{"deepest", inToto, deep(dsse.MaxDepth), false},
		{"too deep", inToto, deep(dsse.MaxDepth + 1), true},
		{"bottomless", inToto, strings.Repeat(`{"a": `, 1<<20), true},
		{"largest", inToto, sized(dsse.MaxPayload), false},
		{"too large", inToto, sized(dsse.MaxPayload + 1), true},
		{"a duplicate out of order", inToto, `{"b": 1, "c": 2, "a": 3, "b": 1}`, true},
		{"a duplicate in order", inToto, `{"a": 1, "a": 1}`, true},
		{"a number of 18 digits", inToto, `{"a": 123456789012345678}`, true},
		{"truncated", inToto, `{"a": [`, true},
	} {
		form := string(dsse.Canonical(tc.payloadType, []byte(tc.payload)))
		if kept := form == tc.payload; kept != tc.kept {
			t.Errorf("%s: kept as it is: %v, want %v", tc.name, kept, tc.kept)
		}
		if want := lodge.DigestOf(dsse.PAE(tc.payloadType, []byte(form))); dsse.Key(tc.payloadType, []byte(tc.payload)) != want {
			t.Errorf("%s: the key is not the digest of the PAE", tc.name)
		}
	}
}

func TestKeyOfPayloadType(t *testing.T) {
	types := []string{"application/json", "application/json;a=b", inToto, "text/plain", ""}
	seen := map[lodge.Key]string{}
	for _, payloadType := range types {
		k := dsse.Key(payloadType, []byte("{}"))
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have one key", payloadType, other)
		}
		seen[k] = payloadType
	}
}

// RFC 8785 section 3.2.2 and 3.2.3, but for its one number that a double rounds.
func TestCanonicalRFC8785(t *testing.T) {
	const in = `{
  "numbers": [333333333.3333333, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`
	const want = `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`
	if got := canonical(in); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	const unsorted = `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`
	const sorted = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"
	if got := canonical(unsorted); got != sorted {
		t.Errorf("got  %s\nwant %s", got, sorted)
	}
}

// RFC 8785 appendix B: doubles by their bits. Each is read in its shortest form and, where
// this is another decimal number, must not be read in its 20 digits.
func TestCanonicalNumbers(t *testing.T) {
	for _, tc := range []struct {
		bits uint64
		want string
	}{
		{0x0000000000000000, "0"},
		{0x8000000000000000, "0"},
		{0x0000000000000001, "5e-324"},
		{0x8000000000000001, "-5e-324"},
		{0x7fefffffffffffff, "1.7976931348623157e+308"},
		{0xffefffffffffffff, "-1.7976931348623157e+308"},
		{0x4340000000000000, "9007199254740992"},
		{0xc340000000000000, "-9007199254740992"},
		{0x4430000000000000, "295147905179352830000"},
		{0x44b52d02c7e14af5, "9.999999999999997e+22"},
		{0x44b52d02c7e14af6, "1e+23"},
		{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
		{0x444b1ae4d6e2ef4e, "999999999999999700000"},
		{0x444b1ae4d6e2ef4f, "999999999999999900000"},
		{0x444b1ae4d6e2ef50, "1e+21"},
		{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
		{0x3eb0c6f7a0b5ed8d, "0.000001"},
		{0x41b3de4355555553, "333333333.3333332"},
		{0x41b3de4355555554, "333333333.33333325"},
		{0x41b3de4355555555, "333333333.3333333"},
		{0x41b3de4355555556, "333333333.3333334"},
		{0x41b3de4355555557, "333333333.33333343"},
		{0xbecbf647612f3696, "-0.0000033333333333333333"},
		{0x43143ff3c1cb0959, "1424953923781206.2"},
	} {
		double := math.Float64frombits(tc.bits)
		for _, text := range []string{
			tc.want,
			strconv.FormatFloat(double, 'e', -1, 64),
			strconv.FormatFloat(double, 'f', -1, 64),
		} {
			if got, want := canonical(`{"a": `+text+`}`), `{"a":`+tc.want+`}`; got != want {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
		long := strconv.FormatFloat(double, 'e', 19, 64)
		text := `{"a": ` + long + `}`
		if same := equalDecimal(t, long, tc.want); same != (canonical(text) != text) {
			t.Errorf("%s for %s: the same number: %v, but %s", long, tc.want, same, canonical(text))
		}
	}
}

// Around the border between doubles that are told by 15 digits and those that are not.
func TestCanonicalNumberLimits(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"1.7976931348623157e308", "1.7976931348623157e+308"},
		{"1.7976931348623158e308", ""},
		{"1.8e308", ""},
		{"9.99999999999999e307", "9.99999999999999e+307"},
		{"2.2250738585072014e-308", "2.2250738585072014e-308"},
		{"2.2250738585072011e-308", "2.225073858507201e-308"}, // another number: kept
		{"1.23456789012345e-310", ""},
		{"1.23456789012345e-320", ""},
		{"1e-323", "1e-323"},
		{"3e-324", ""},
		{"0.1e-323", ""},
		{"999999999999999", "999999999999999"},
		{"9999999999999999", ""},
		{"99999999999999999", ""},
		{"0.000001", "0.000001"},
		{"0.0000001", "1e-7"},
		{"-1.5e-7", "-1.5e-7"},
		{"100000000000000000000", "100000000000000000000"},
		{"1000000000000000000000", "1e+21"},
		{"12345.67890", "12345.6789"},
	} {
		text := `{"a": ` + tc.in + `}`
		want := `{"a":` + tc.want + `}`
		if tc.want == "" || !equalDecimal(t, tc.in, tc.want) {
			want = text
		}
		if got := canonical(text); got != want {
			t.Errorf("%s: got %s, want %s", tc.in, got, want)
		}
	}
}

// Doubles of all sizes, in their shortest form and with one digit more or less.
func TestCanonicalRandomNumbers(t *testing.T) {
	rng := rand.New(rand.NewPCG(8785, 0))
	for range 2000 {
		double := math.Float64frombits(rng.Uint64())
		if rng.IntN(2) == 0 {
			double = (rng.Float64() - 0.5) * math.Pow10(rng.IntN(50)-25)
		}
		if math.IsNaN(double) || math.IsInf(double, 0) {
			continue
		}
		for _, digits := range []int{-1, rng.IntN(20)} {
			text := strconv.FormatFloat(double, 'e', digits, 64)
			checkOracle(t, []byte(`{"a": `+text+`, "b": `+text+`1}`))
			checkOracle(t, []byte(`{"a": `+text+`}`))
		}
	}
}

// Of all samples, decoded and as files: whatever gowebpki/jcs also takes it writes alike.
func TestCanonicalSamples(t *testing.T) {
	files, _ := filepath.Glob("../../shared/samples/files/*.json")
	if len(files) == 0 {
		t.Skip("no samples beside the repository")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		payloads := [][]byte{raw}
		if env, err := dsse.Parse(raw); err == nil {
			payloads = append(payloads, env.Payload)
		}
		for _, payload := range payloads {
			checkOracle(t, payload)
		}
	}
}

// checkOracle compares with gowebpki/jcs, where the payload has a form that loses nothing.
func checkOracle(t *testing.T, payload []byte) {
	t.Helper()
	form := dsse.Canonical(inToto, payload)
	if _, err := readModel(payload); err != nil {
		if string(form) != string(payload) {
			t.Errorf("%.200q: got %.200q, want it as it is: %v", payload, form, err)
		}
		return
	}
	want, err := jcs.Transform(payload)
	if err != nil || string(want) != string(form) {
		t.Errorf("%.200q: got %.200q, jcs gives %.200q, %v", payload, form, want, err)
	}
	if !utf8.Valid(form) || string(dsse.Canonical(inToto, form)) != string(form) {
		t.Errorf("%.200q: the form %.200q is not its own form", payload, form)
	}
}

func BenchmarkKey(b *testing.B) {
	for _, bm := range []struct{ name, element string }{
		{"sbom", `{"type": "library", "bom-ref": "pkg:golang/github.com/a/b@v1.2.3?package-id=%d", "name": "github.com/a/b", "version": "v1.2.3", "hashes": [{"alg": "SHA-256", "content": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}], "description": "one\ntwo", "score": 7.5}`},
		{"numbers", `[%d, 1.5e10, 0.3333333333333333, 12345678901234567000]`},
	} {
		var text strings.Builder
		text.WriteString(`{"components": [`)
		for i := 0; text.Len() < 10<<20; i++ {
			if i > 0 {
				text.WriteString(",\n")
			}
			fmt.Fprintf(&text, bm.element, i)
		}
		text.WriteString(`]}`)
		payload := []byte(text.String())
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				dsse.Key(inToto, payload)
			}
		})
	}
}
