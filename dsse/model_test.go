package dsse_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lodgehq/lodge/dsse"
)

// The model is a second reading of what Canonical promises, made of encoding/json, big.Rat and
// maps: slow, plain, and with nothing in common with the package.

// A number is exact: a fraction in lowest terms.
type number string

// readModel returns the content of a payload, or why RFC 8785 would lose something of it.
func readModel(payload []byte) (any, error) {
	switch {
	case len(payload) > dsse.MaxPayload:
		return nil, errors.New("too large")
	case !utf8.Valid(payload):
		return nil, errors.New("not UTF-8")
	case hasLoneSurrogate(payload):
		return nil, errors.New("lone surrogate")
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	content, err := readValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("trailing data")
	}
	if _, ok := content.(map[string]any); !ok {
		return nil, errors.New("not an object")
	}
	return content, nil
}

// jsonEscape matches one escape, or a pair of them that is one character.
var jsonEscape = regexp.MustCompile(`(?i)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u(d[89a-f][0-9a-f]{2})|\\.`)

func hasLoneSurrogate(payload []byte) bool {
	for _, m := range jsonEscape.FindAllSubmatch(payload, -1) {
		if m[3] != nil {
			return true
		}
	}
	return false
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Number:
		return readNumber(string(token))
	case json.Delim:
		if depth == dsse.MaxDepth {
			return nil, errors.New("too deep")
		}
		if token == '[' {
			return readArray(dec, depth+1)
		}
		return readObject(dec, depth+1)
	}
	return token, nil
}

func readArray(dec *json.Decoder, depth int) (any, error) {
	array := []any{}
	for dec.More() {
		v, err := readValue(dec, depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := dec.Token()
	return array, err
}

func readObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", token)
		}
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("%q twice", name)
		}
		if object[name], err = readValue(dec, depth); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

func readNumber(text string) (any, error) {
	exact, ok := exactly(text)
	if !ok {
		return nil, fmt.Errorf("%s is out of range", text)
	}
	double, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, err
	}
	if kept, _ := exactly(strconv.FormatFloat(double, 'g', -1, 64)); kept != exact {
		return nil, fmt.Errorf("%s is rounded", text)
	}
	return exact, nil
}

// exactly returns the value of a JSON number. It is false for exponents that are absurd.
func exactly(text string) (number, bool) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	if strings.Trim(mantissa, "-0.") == "" {
		return "0", true
	}
	if exp, err := strconv.Atoi(exponent); exponent != "" && (err != nil || exp > 5000 || exp < -5000) {
		return "", false
	}
	rat, ok := new(big.Rat).SetString(text)
	if !ok {
		return "", false
	}
	return number(rat.RatString()), true
}

func equalDecimal(t *testing.T, a, b string) bool {
	t.Helper()
	x, okX := exactly(a)
	y, okY := exactly(b)
	if !okX || !okY {
		t.Fatalf("cannot compare %s and %s", a, b)
	}
	return x == y
}

// rewrite writes the same content in another way: order, white space, escapes, numbers.
func rewrite(b *strings.Builder, content any, rng *rand.Rand) {
	space := func() { b.WriteString([]string{"", "", " ", "\n", "\t\r"}[rng.IntN(5)]) }
	space()
	defer space()
	switch v := content.(type) {
	case map[string]any:
		b.WriteByte('{')
		comma := ""
		names := slices.Sorted(maps.Keys(v))
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			b.WriteString(comma)
			space()
			rewriteString(b, name, rng)
			space()
			b.WriteByte(':')
			rewrite(b, v[name], rng)
			comma = ","
		}
		space()
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, value := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			rewrite(b, value, rng)
		}
		space()
		b.WriteByte(']')
	case string:
		rewriteString(b, v, rng)
	case number:
		rat, _ := new(big.Rat).SetString(string(v))
		double, _ := rat.Float64()
		text := strconv.FormatFloat(double, "efgEG"[rng.IntN(5)], -1, 64)
		if !strings.ContainsAny(text, ".eE") {
			text += []string{"", ".0", "e0", ".00E+00"}[rng.IntN(4)]
		}
		b.WriteString(text)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case nil:
		b.WriteString("null")
	}
}

func rewriteString(b *strings.Builder, s string, rng *rand.Rand) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r > 0xFFFF && rng.IntN(2) == 0:
			fmt.Fprintf(b, `\u%04x\u%04X`, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		case r <= 0xFFFF && (r < ' ' || r == '"' || r == '\\' || rng.IntN(4) == 0):
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// change returns a content that differs from content in one place, by as little as can be.
func change(content any, rng *rand.Rand) any {
	switch v := content.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		changed := maps.Clone(v)
		if len(names) == 0 {
			changed["\x00"] = nil
			return changed
		}
		name := names[rng.IntN(len(names))]
		switch rng.IntN(4) {
		case 0:
			delete(changed, name)
		case 1:
			changed[name+"\x00"] = nil
		default:
			changed[name] = change(v[name], rng)
		}
		return changed
	case []any:
		if len(v) == 0 || rng.IntN(4) == 0 {
			return append(slices.Clone(v), nil)
		}
		changed, i := slices.Clone(v), rng.IntN(len(v))
		changed[i] = change(v[i], rng)
		return changed
	case string:
		return v + " "
	case number:
		rat, _ := new(big.Rat).SetString(string(v))
		double, _ := rat.Float64()
		next, _ := exactly(strconv.FormatFloat(math.Nextafter(double, 0.5), 'g', -1, 64))
		if next == v { // 0.5
			return number("0")
		}
		return next
	case bool:
		return !v
	}
	return false
}

// FuzzKey checks the two promises of the key: the same content written in another way has
// the same key; different contents, even if hardly different, have different ones.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1.0,"b":[1e0,-0,0.1,1e21,1e-7,5e-324,1.7976931348623157e308]}`,
		`{"é😂":"\ud83d\ude02\u0000\"","\ufb33":null,"e":{"b":{},"a":[true,false]}}`,
		`{"a":1,"\u0061":2}`, `{"a":9007199254740993}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `[1]`, `{"a":1e400}`,
		`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x","digest":{"sha256":"00"}}],"predicate":{"n":12345678901234567000}}`,
		strings.Repeat(`{"a":`, dsse.MaxDepth) + "1" + strings.Repeat("}", dsse.MaxDepth),
	} {
		f.Add([]byte(seed), []byte(`{"a":1}`), uint64(1))
		f.Add([]byte(seed), []byte(" "+seed), uint64(2))
	}
	f.Fuzz(func(t *testing.T, payload, other []byte, seed uint64) {
		checkOracle(t, payload)
		content, err := readModel(payload)
		otherContent, otherErr := readModel(other)
		same := bytes.Equal(payload, other) || err == nil && otherErr == nil && reflect.DeepEqual(content, otherContent)
		if got := dsse.Key(inToto, payload) == dsse.Key(inToto, other); got != same {
			t.Errorf("%q and %q: same key: %v, same content: %v (%v, %v)", payload, other, got, same, err, otherErr)
		}
		if text := dsse.Canonical("text/plain", payload); !bytes.Equal(text, payload) {
			t.Errorf("%q as text gives %q", payload, text)
		}
		if err != nil {
			return
		}
		form, formErr := readModel(dsse.Canonical(inToto, payload))
		if formErr != nil || !reflect.DeepEqual(form, content) {
			t.Errorf("%q: its form means something else: %v", payload, formErr)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		var again, changed strings.Builder
		rewrite(&again, content, rng)
		if dsse.Key(inToto, []byte(again.String())) != dsse.Key(inToto, payload) {
			t.Errorf("%q written as %q has another key", payload, again.String())
		}
		rewrite(&changed, change(content, rng), rng)
		if dsse.Key(inToto, []byte(changed.String())) == dsse.Key(inToto, payload) {
			t.Errorf("%q and %q have one key", payload, changed.String())
		}
	})
}
