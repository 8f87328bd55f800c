package dsse_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	v1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

func privateKey(t *testing.T, name string) *dsse.PrivateKey {
	t.Helper()
	key, err := dsse.ParsePrivateKey(read(t, "testdata/keys/"+name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return key
}

var hello = dsse.PAE("http://example.com/HelloWorld", []byte("hello world"))

// TestVerifyOpenSSL verifies signatures that OpenSSL made over the PAE above.
func TestVerifyOpenSSL(t *testing.T) {
	var vectors []struct {
		Key       string
		Algorithm dsse.Algorithm
		Sig       []byte
	}
	if err := json.Unmarshal(read(t, "testdata/signatures.json"), &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		pub := privateKey(t, v.Key).Public()
		if got, err := pub.Verify(hello, v.Sig); got != v.Algorithm || err != nil {
			t.Errorf("%s: got %s, %v", v.Algorithm, got, err)
		}
		if _, known := v1.PublicKeyDetails_value[string(v.Algorithm)]; !known {
			t.Errorf("%s is no name of PublicKeyDetails", v.Algorithm)
		}
		if v.Algorithm.Hash() == 0 != (v.Algorithm == dsse.Ed25519) {
			t.Errorf("%s: hash %v", v.Algorithm, v.Algorithm.Hash())
		}
		spoiled := bytes.Clone(v.Sig)
		spoiled[len(spoiled)/2] ^= 1
		for name, sig := range map[string][]byte{"spoiled": spoiled, "cut": v.Sig[:len(v.Sig)-1], "empty": nil} {
			if got, err := pub.Verify(hello, sig); got != "" || !errors.Is(err, lodge.ErrSignature) {
				t.Errorf("%s, %s: got %q, %v", v.Algorithm, name, got, err)
			}
		}
		if _, err := pub.Verify(append(bytes.Clone(hello), 0), v.Sig); !errors.Is(err, lodge.ErrSignature) {
			t.Errorf("%s, another message: %v", v.Algorithm, err)
		}
	}
	if len(vectors) != 12 {
		t.Errorf("%d vectors, want 12", len(vectors))
	}
	if hash := dsse.Algorithm("PKIX_UNHEARD_OF").Hash(); hash != 0 {
		t.Errorf("an unknown algorithm has the hash %v", hash)
	}
}

// RFC 8032 section 7.3: Ed25519ph.
func TestVerifyEd25519ph(t *testing.T) {
	seed, err := hex.DecodeString("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
	if err != nil {
		t.Fatal(err)
	}
	key := marshal(t, ed25519.NewKeyFromSeed(seed))
	const want = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
	ph, err := key.Use(dsse.Ed25519ph)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ph.Sign([]byte("abc"))
	if err != nil || hex.EncodeToString(sig) != want {
		t.Errorf("got %x, %v, want %s", sig, err, want)
	}
	if got, err := key.Public().Verify([]byte("abc"), sig); got != dsse.Ed25519ph || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

// marshal gives a key the way through PKCS #8.
func marshal(t *testing.T, key crypto.Signer) *dsse.PrivateKey {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := dsse.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// The DSSE protocol's own vector and RFC 6979 appendix A.2: ECDSA signatures as r and s.
func TestSignVectors(t *testing.T) {
	number := func(text string, base int) *big.Int {
		n, ok := new(big.Int).SetString(text, base)
		if !ok {
			t.Fatal(text)
		}
		return n
	}
	protocol, err := base64.StdEncoding.DecodeString("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		curve elliptic.Curve
		d     *big.Int
		msg   []byte
		want  string
	}{
		{"DSSE protocol", elliptic.P256(), number("97358161215184420915383655311931858321456579547487070936769975997791359926199", 10), hello, hex.EncodeToString(protocol)},
		{"P-256", elliptic.P256(), number("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721", 16), []byte("sample"),
			"efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"},
		{"P-384", elliptic.P384(), number("6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5", 16), []byte("sample"),
			"94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe4699ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"},
	} {
		size := (tc.curve.Params().BitSize + 7) / 8
		key, err := ecdsa.ParseRawPrivateKey(tc.curve, tc.d.FillBytes(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := marshal(t, key).Sign(tc.msg)
		if err != nil {
			t.Fatal(err)
		}
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(sig, &rs); err != nil {
			t.Fatal(err)
		}
		raw := append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
		if got := hex.EncodeToString(raw); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSignEnvelope(t *testing.T) {
	payload := []byte("{\"a\": 1}\n\x00\xff")
	for _, tc := range []struct {
		key  string
		want dsse.Algorithm
		use  dsse.Algorithm // where it is not the usual one
	}{
		{key: "p256.pem", want: dsse.ECDSAP256SHA256},
		{key: "p256-sec1.pem", want: dsse.ECDSAP256SHA256},
		{key: "p256-params.pem", want: dsse.ECDSAP256SHA256},
		{key: "p384.pem", want: dsse.ECDSAP384SHA384},
		{key: "p384.pem", want: dsse.ECDSAP384SHA256, use: dsse.ECDSAP384SHA256},
		{key: "p521.pem", want: dsse.ECDSAP521SHA512},
		{key: "p521.pem", want: dsse.ECDSAP521SHA256, use: dsse.ECDSAP521SHA256},
		{key: "ed25519.pem", want: dsse.Ed25519},
		{key: "ed25519.pem", want: dsse.Ed25519ph, use: dsse.Ed25519ph},
		{key: "rsa2048.pem", want: dsse.RSA2048PKCS1},
		{key: "rsa2048-pkcs1.pem", want: dsse.RSA2048PKCS1},
		{key: "rsa3072.pem", want: dsse.RSA3072PKCS1},
		{key: "rsa4096.pem", want: dsse.RSA4096PKCS1},
	} {
		key := privateKey(t, tc.key)
		if tc.use != "" {
			used, err := key.Use(tc.use)
			if err != nil {
				t.Fatal(err)
			}
			key = used
		}
		if key.Algorithm() != tc.want {
			t.Errorf("%s signs by %s, want %s", tc.key, key.Algorithm(), tc.want)
		}
		raw, err := dsse.Sign("text/x;a=\"<\u2028>\"", payload, key)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := dsse.Sign("text/x;a=\"<\u2028>\"", payload, key); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s: signed again: %s, %v, before %s", tc.key, again, err, raw)
		}
		env, err := dsse.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if env.PayloadType != "text/x;a=\"<\u2028>\"" || !bytes.Equal(env.Payload, payload) || env.Signatures[0].KeyID != "" {
			t.Errorf("%s: got %+v", tc.key, env)
		}
		got, err := key.Public().Verify(dsse.PAE(env.PayloadType, env.Payload), env.Signatures[0].Sig)
		if got != tc.want || err != nil {
			t.Errorf("%s: verified as %s, %v, want %s", tc.key, got, err, tc.want)
		}
	}
}

func TestSignBytes(t *testing.T) {
	raw, err := dsse.Sign("http://example.com/HelloWorld", []byte("hello world"), privateKey(t, "ed25519.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/signed.json"
	if *update {
		if err := writeFile(file, raw); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, file); !bytes.Equal(raw, want) {
		t.Errorf("got %s, want %s", raw, want)
	}
}

func TestSignRefuses(t *testing.T) {
	key := privateKey(t, "p256.pem")
	for _, tc := range []struct {
		name, payloadType string
		payload           []byte
		want              error
	}{
		{"no type", "", nil, lodge.ErrMalformed},
		{"a type that is not UTF-8", "\xff", nil, lodge.ErrMalformed},
		{"a type too long", strings.Repeat("x", 4097), nil, lodge.ErrLimit},
		{"a payload too large", "text/plain", make([]byte, dsse.MaxPayload+1), lodge.ErrLimit},
	} {
		if raw, err := dsse.Sign(tc.payloadType, tc.payload, key); raw != nil || !errors.Is(err, tc.want) {
			t.Errorf("%s: got %d bytes, %v", tc.name, len(raw), err)
		}
	}
}

func TestUseRefuses(t *testing.T) {
	for name, algorithm := range map[string]dsse.Algorithm{
		"p256.pem":    dsse.ECDSAP384SHA256,
		"p384.pem":    dsse.ECDSAP521SHA512,
		"ed25519.pem": dsse.ECDSAP256SHA256,
		"rsa2048.pem": dsse.RSA2048PSS,
		"rsa3072.pem": dsse.RSA4096PKCS1,
	} {
		if _, err := privateKey(t, name).Use(algorithm); err == nil {
			t.Errorf("%s signs by %s", name, algorithm)
		}
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	encrypted := "malformed private key: it is encrypted; decrypt it first (openssl pkey -in KEY -out PLAIN)"
	for _, tc := range []struct{ name, pem, want string }{
		{"PKCS #8, encrypted", string(read(t, "testdata/keys/p256-encrypted.pem")), encrypted},
		{"SEC 1, encrypted", string(read(t, "testdata/keys/p256-encrypted-sec1.pem")), encrypted},
		{"cosign's", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
			"malformed private key: it is encrypted in cosign's own way; give it unencrypted (PKCS #8)"},
		{"OpenSSH's", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
			`malformed private key: PEM block of type "OPENSSH PRIVATE KEY" (want "PRIVATE KEY")`},
		{"a public key", string(read(t, "testdata/keys/p256.pub")), `malformed private key: PEM block of type "PUBLIC KEY" (want "PRIVATE KEY")`},
		{"nothing", "", "malformed private key: no PEM block"},
		{"parameters alone", "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n", "malformed private key: no PEM block"},
		{"rubbish", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "malformed private key: "},
		{"P-224", string(read(t, "testdata/keys/p224.pem")), "ECDSA on the curve P-224 is not taken (P-256, P-384 or P-521 is)"},
		{"RSA of 1024 bits", string(read(t, "testdata/keys/rsa1024.pem")), "RSA of 1024 bits is not taken (2048, 3072 or 4096 is)"},
		{"X25519", string(read(t, "testdata/keys/x25519.pem")), "a private key of type *ecdh.PrivateKey is not taken (ECDSA, RSA or Ed25519 is)"},
		{"too large", strings.Repeat(" ", 1<<20), "over the limit: a private key of 1048576 bytes (at most 262144)"},
	} {
		_, err := dsse.ParsePrivateKey([]byte(tc.pem))
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

func TestParsePublicKey(t *testing.T) {
	p256, rsa2048 := privateKey(t, "p256.pem").Public(), privateKey(t, "rsa2048.pem").Public()
	crt := read(t, "testdata/keys/p256.crt")
	for _, tc := range []struct {
		name string
		raw  []byte
		want *dsse.PublicKey
	}{
		{"PEM", read(t, "testdata/keys/p256.pub"), p256},
		{"DER", read(t, "testdata/keys/p256.der"), p256},
		{"a certificate", crt, p256},
		{"a chain", append(bytes.Clone(crt), crt...), p256},
		{"PEM after a comment", append([]byte("# release key\n"), read(t, "testdata/keys/p256.pub")...), p256},
		{"PKCS #1", read(t, "testdata/keys/rsa2048-pkcs1.pub"), rsa2048},
	} {
		got, err := dsse.ParsePublicKey(tc.raw)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if !bytes.Equal(got.SPKI, tc.want.SPKI) || got.Signer() != tc.want.Signer() {
			t.Errorf("%s: another key", tc.name)
		}
	}
	if der := read(t, "testdata/keys/p256.der"); p256.Signer() != lodge.KeySigner(der) {
		t.Errorf("the signer %s is not the digest of the SPKI", p256.Signer())
	}
}

func TestParsePublicKeys(t *testing.T) {
	raw := append(read(t, "testdata/keys/p256.pub"), read(t, "testdata/keys/rsa2048-pkcs1.pub")...)
	keys, err := dsse.ParsePublicKeys(raw)
	if err != nil || len(keys) != 2 || keys[0].Signer() == keys[1].Signer() {
		t.Errorf("got %v, %v", keys, err)
	}
	if keys, err := dsse.ParsePublicKeys(append(raw, read(t, "testdata/keys/p256.pem")...)); err == nil || keys != nil {
		t.Errorf("with a private key: got %v, %v", keys, err)
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	pub := string(read(t, "testdata/keys/p256.pub"))
	for _, tc := range []struct{ name, raw, want string }{
		{"nothing", "", "malformed public key: neither PEM nor DER"},
		{"rubbish", "ssh-ed25519 AAAA", "malformed public key: neither PEM nor DER"},
		{"a private key", string(read(t, "testdata/keys/p256.pem")), "malformed public key: this is a private key"},
		{"two keys", pub + pub, "malformed public key: there are 2 in one file"},
		{"the second cut off", pub + pub[:100], "malformed public key: a broken PEM block"},
		{"the first broken", strings.Replace(pub, "\n", "\n*", 1) + pub, "malformed public key: a broken PEM block"},
		{"DER cut off", string(read(t, "testdata/keys/p256.der")[:50]), "malformed public key: "},
		{"a certificate request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", `malformed public key: PEM block of type "CERTIFICATE REQUEST"`},
		{"X25519", string(read(t, "testdata/keys/x25519.pub")), "a key of type *ecdh.PublicKey is not taken (ECDSA, RSA or Ed25519 is)"},
		{"too large", strings.Repeat(" ", 1<<20), "over the limit: a public key of 1048576 bytes (at most 262144)"},
	} {
		got, err := dsse.ParsePublicKey([]byte(tc.raw))
		if err == nil || got != nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}
