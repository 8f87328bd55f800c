package dsse_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

func TestPAE(t *testing.T) {
	for _, tc := range []struct{ payloadType, payload, want string }{
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"},
		{"", "", "DSSEv1 0  0 "},
		{"é", "\x00\n", "DSSEv1 2 é 2 \x00\n"},
	} {
		if got := string(dsse.PAE(tc.payloadType, []byte(tc.payload))); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestParse(t *testing.T) {
	hello := &dsse.Envelope{
		PayloadType: "text/plain",
		Payload:     []byte("hello>>>???"), // in base64 it has both + and /, and one =
		Signatures:  []dsse.Signature{{KeyID: "k", Sig: []byte("\xff\xfe\xfd\xfc")}},
	}
	anonymous := &dsse.Envelope{PayloadType: "text/plain", Payload: []byte{}, Signatures: []dsse.Signature{{Sig: []byte{1}}}}
	for _, tc := range []struct {
		name, raw string
		want      *dsse.Envelope
	}{
		{"standard base64", `{"payloadType":"text/plain","payload":"aGVsbG8+Pj4/Pz8=","signatures":[{"keyid":"k","sig":"//79/A=="}]}`, hello},
		{"URL-safe base64", `{"payloadType":"text/plain","payload":"aGVsbG8-Pj4_Pz8=","signatures":[{"keyid":"k","sig":"__79_A=="}]}`, hello},
		{"no padding", `{"payloadType":"text/plain","payload":"aGVsbG8+Pj4/Pz8","signatures":[{"keyid":"k","sig":"//79/A"}]}`, hello},
		{"URL-safe, no padding", `{"payloadType":"text/plain","payload":"aGVsbG8-Pj4_Pz8","signatures":[{"keyid":"k","sig":"__79_A"}]}`, hello},
		{"escapes", `{"payload\u0054ype":"text\/plain","payload":"aGVsbG8+Pj4\/Pz8=","signatures":[{"keyid":"\u006b","sig":"\/\/79\/A=="}]}`, hello},
		{"base64 in lines", `{"payloadType":"text/plain","payload":"aGVsbG8+\r\nPj4/Pz8=\n","signatures":[{"keyid":"k","sig":"//79/A=="}]}`, hello},
		{"other order, white space", " {\n \"signatures\" : [ { \"sig\" : \"//79/A==\" , \"keyid\" : \"k\" } ] ,\t\"payload\":\"aGVsbG8+Pj4/Pz8=\",\r\n\"payloadType\":\"text/plain\" } \n", hello},
		{"unknown members", `{"x":[{"y":null,"y":-1.5e3}],"payloadType":"text/plain","payload":"aGVsbG8+Pj4/Pz8=","signatures":[{"keyid":"k","sig":"//79/A==","cert":"PEM","extension":{"kind":true}}]}`, hello},
		{"no keyid, nothing signed", `{"payloadType":"text/plain","payload":"","signatures":[{"sig":"AQ=="}]}`, anonymous},
		{"empty keyid", `{"payloadType":"text/plain","payload":"","signatures":[{"keyid":"","sig":"AQ=="}]}`, anonymous},
		{"null keyid", `{"payloadType":"text/plain","payload":"","signatures":[{"keyid":null,"sig":"AQ=="}]}`, anonymous},
	} {
		got, err := dsse.Parse([]byte(tc.raw))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tc.name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const head, sigs = `{"payloadType":"text/plain","payload":"aGk=",`, `"signatures":[{"sig":"AQ=="}]`
	many := strings.TrimSuffix(strings.Repeat(`{"sig":"AQ=="},`, dsse.MaxSignatures+1), ",")
	deep := strings.Repeat("[", dsse.MaxDepth) + strings.Repeat("]", dsse.MaxDepth)
	var members strings.Builder
	for i := range 62 {
		fmt.Fprintf(&members, `"m%d":0,`, i)
	}
	for _, tc := range []struct{ name, raw, want string }{
		{"nothing", " \n", "malformed envelope: it is empty"},
		{"not JSON", "%PDF-1.7", "malformed envelope: it is not a JSON object"},
		{"an array", "[]", "malformed envelope: it is not a JSON object"},
		{"byte order mark", "\ufeff{}", "malformed envelope: it begins with a byte order mark"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "malformed envelope: it is not UTF-8"},
		{"truncated", head + `"signatures":[{"sig":"AQ`, "malformed JSON: it ends too early, after 69 bytes"},
		{"truncated escape", `{"a":"\`, "malformed JSON: it ends too early, after 7 bytes"},
		{"truncated hex", `{"a":"\u00`, "malformed JSON: it ends too early, after 10 bytes"},
		{"a comma too many", head + sigs + `,}`, "malformed JSON: unexpected '}' at byte 76"},
		{"two envelopes", head + sigs + "}\n{}", "malformed JSON: more data after its end, at byte 77"},
		{"a lone surrogate", `{"payloadType":"\ud800"}`, "malformed JSON: a lone surrogate at byte 17"},
		{"a control character", "{\"a\":\"\n\"}", `malformed JSON: unexpected '\n' at byte 7`},
		{"no payload", `{"payloadType":"text/plain",` + sigs + `}`, `malformed envelope: it has no "payload"`},
		{"no payloadType", `{"payload":"aGk=",` + sigs + `}`, `malformed envelope: it has no "payloadType"`},
		{"empty payloadType", `{"payloadType":"","payload":"aGk=",` + sigs + `}`, `malformed envelope: it has no "payloadType"`},
		{"no signatures member", `{"payloadType":"text/plain","payload":"aGk="}`, "malformed envelope: it has no signatures"},
		{"no signatures", head + `"signatures":[]}`, "malformed envelope: it has no signatures"},
		{"null signatures", head + `"signatures":null}`, "malformed envelope: it has no signatures"},
		{"signatures of another kind", head + `"signatures":{}}`, `malformed envelope: "signatures" is not an array`},
		{"a signature of another kind", head + `"signatures":["AQ=="]}`, "malformed envelope: a signature is not a JSON object"},
		{"a signature without sig", head + `"signatures":[{"sig":"AQ=="},{"keyid":"k"}]}`, `malformed envelope: signature 2 has no "sig"`},
		{"a payload of another kind", `{"payloadType":"text/plain","payload":{}}`, "malformed envelope: payload is not a string"},
		{"a null payload", `{"payloadType":"text/plain","payload":null}`, "malformed envelope: payload is not a string"},
		{"payload twice", head + `"payload":"aG8=",` + sigs + `}`, "malformed envelope: the member \"payload\" is there twice"},
		{"payload twice, escaped", head + `"p\u0061yload":"aG8=",` + sigs + `}`, "malformed envelope: the member \"payload\" is there twice"},
		{"sig twice", head + `"signatures":[{"sig":"AQ==","sig":"Ag=="}]}`, "malformed envelope: the member \"sig\" is there twice"},
		{"an unknown member twice", `{"x":1,"x":1}`, "malformed envelope: the member \"x\" is there twice"},
		{"another case", head + `"Payload":"aG8=",` + sigs + `}`, `malformed envelope: the member "Payload" must be spelled "payload"`},
		{"another case, folded", head + `"\u017fig":0,"\u017fignatures":[],` + sigs + `}`, `malformed envelope: the member "ſignatures" must be spelled "signatures"`},
		{"not base64", `{"payloadType":"text/plain","payload":"aGk*"}`, "malformed envelope: payload is not base64: illegal base64 data at input byte 3"},
		{"two alphabets", `{"payloadType":"text/plain","payload":"+-+-"}`, "malformed envelope: payload is not base64: illegal base64 data at input byte 0"},
		{"base64 cut off", `{"payloadType":"text/plain","payload":"aGkxM"}`, "malformed envelope: payload is not base64: illegal base64 data at input byte 4"},
		{"too many signatures", head + `"signatures":[` + many + `]}`, "over the limit: more than 16 signatures"},
		{"too deep", head + `"x":` + deep + `,` + sigs + `}`, "over the limit: JSON nested deeper than 64 at byte 113"},
		{"too many members", `{` + members.String() + head[1:] + sigs + `}`, "over the limit: more than 64 members in one object of the envelope"},
		{"a payloadType too long", `{"payloadType":"` + strings.Repeat("x", 4097) + `"}`, "over the limit: a payloadType of 4097 bytes (at most 4096)"},
		{"a keyid too long", head + `"signatures":[{"keyid":"` + strings.Repeat("x", 4097) + `"}]}`, "over the limit: a keyid of 4097 bytes (at most 4096)"},
		{"a signature too long", head + `"signatures":[{"sig":"` + strings.Repeat("A", 87384) + `"}]}`, "over the limit: a sig of 65538 bytes (at most 65536)"},
		{"too large", strings.Repeat(" ", dsse.MaxEnvelope+1), "over the limit: an envelope of 50331649 bytes (at most 50331648)"},
	} {
		env, err := dsse.Parse([]byte(tc.raw))
		if err == nil || env != nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, %v, want %s", tc.name, env, err, tc.want)
			continue
		}
		sentinel := lodge.ErrMalformed
		if strings.HasPrefix(tc.want, "over the limit") {
			sentinel = lodge.ErrLimit
		}
		if !errors.Is(err, sentinel) {
			t.Errorf("%s: the error does not wrap %q", tc.name, sentinel)
		}
	}
}

func TestParseLargest(t *testing.T) {
	envelope := func(size int) []byte {
		payload := base64.StdEncoding.EncodeToString(make([]byte, size))
		return []byte(`{"payloadType":"text/plain","payload":"` + payload + `","signatures":[{"sig":"AQ=="}]}`)
	}
	env, err := dsse.Parse(envelope(dsse.MaxPayload))
	if err != nil || len(env.Payload) != dsse.MaxPayload {
		t.Errorf("a payload of MaxPayload: %v", err)
	}
	_, err = dsse.Parse(envelope(dsse.MaxPayload + 1))
	if !errors.Is(err, lodge.ErrLimit) || err.Error() != "over the limit: a payload of 33554433 bytes (at most 33554432)" {
		t.Errorf("a payload of one byte more: %v", err)
	}
}

func TestParseTruncated(t *testing.T) {
	raw, err := dsse.Sign("text/plain", []byte("hello \x00"), privateKey(t, "p256.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for size := range raw {
		if env, err := dsse.Parse(raw[:size]); err == nil || env != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, %v", raw[:size], env, err)
		}
	}
}

// TestSamples verifies real envelopes with their real keys.
func TestSamples(t *testing.T) {
	keys, _ := filepath.Glob("../../shared/samples/files/keys/*.pem")
	if len(keys) == 0 {
		t.Skip("no samples beside the repository")
	}
	for _, file := range keys {
		id := strings.TrimSuffix(filepath.Base(file), ".pem")
		t.Run(id, func(t *testing.T) {
			keys, err := dsse.ParsePublicKeys(read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			found, err := filepath.Glob("../../shared/samples/files/" + id + "-*")
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			env, err := dsse.Parse(read(t, found[0]))
			if err != nil {
				t.Fatal(err)
			}
			verified := 0
			for _, pub := range keys {
				sig := env.Signatures[0].Sig
				algorithm, err := pub.Verify(dsse.PAE(env.PayloadType, env.Payload), sig)
				if err != nil {
					continue
				}
				verified++
				t.Log(algorithm)
				if _, err := pub.Verify(dsse.PAE(env.PayloadType+" ", env.Payload), sig); !errors.Is(err, lodge.ErrSignature) {
					t.Errorf("under another type: %v", err)
				}
			}
			if verified != 1 {
				t.Errorf("it verifies under %d of %d keys, want 1", verified, len(keys))
			}
		})
	}
}

// FuzzParse: what is taken is within the limits, is read by encoding/json alike, and is
// the same after it was written again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"payloadType":"text/plain","payload":"aGVsbG8+Pj4/Pz8=","signatures":[{"keyid":"k","sig":"//79/A=="}]}`,
		`{"payloadType":"text/plain","payload":"aGVsbG8-Pj4_Pz8","signatures":[{"sig":"__79_A","x":[{}]},{"keyid":null,"sig":"AQ"}],"y":-1.5e3}`,
		`{"payload\u0054ype":"\ud83d\ude02","payload":"","signatures":[{"sig":"AQ=="}]}`,
		`{"payload":"","payload":""}`, `{"payloadType":"\ud800"}`, `{"signatures":null}`, `[`, "\ufeff{}", ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		env, err := dsse.Parse(raw)
		if err != nil {
			if env != nil || strings.Contains(err.Error(), "\n") ||
				errors.Is(err, lodge.ErrMalformed) == errors.Is(err, lodge.ErrLimit) {
				t.Errorf("%q: %v, %q", raw, env, err)
			}
			return
		}
		if len(env.Signatures) == 0 || len(env.Signatures) > dsse.MaxSignatures || len(env.Payload) > dsse.MaxPayload {
			t.Errorf("%q: beyond the limits: %v", raw, env)
		}
		type signature struct {
			KeyID string `json:"keyid"`
			Sig   string `json:"sig"`
		}
		var std struct {
			PayloadType string      `json:"payloadType"`
			Payload     string      `json:"payload"`
			Signatures  []signature `json:"signatures"`
		}
		if err := json.Unmarshal(raw, &std); err != nil || std.PayloadType != env.PayloadType || len(std.Signatures) != len(env.Signatures) {
			t.Fatalf("%q: encoding/json reads %v, %v", raw, std, err)
		}
		if payload, err := base64.StdEncoding.DecodeString(std.Payload); err == nil && !bytes.Equal(payload, env.Payload) {
			t.Errorf("%q: encoding/json reads the payload %q", raw, payload)
		}
		std.Payload = base64.RawURLEncoding.EncodeToString(env.Payload)
		for i, sig := range env.Signatures {
			if std.Signatures[i].KeyID != sig.KeyID {
				t.Errorf("%q: encoding/json reads the keyid %q", raw, std.Signatures[i].KeyID)
			}
			std.Signatures[i].Sig = base64.URLEncoding.EncodeToString(sig.Sig)
		}
		again, err := json.Marshal(std)
		if err != nil {
			t.Fatal(err)
		}
		reread, err := dsse.Parse(again)
		if err != nil || !cmp.Equal(reread, env) {
			t.Errorf("%q, written again as %q: %v, %v", raw, again, reread, err)
		}
	})
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func writeFile(file string, raw []byte) error { return os.WriteFile(file, raw, 0o644) }
