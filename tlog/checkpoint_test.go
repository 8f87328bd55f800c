package tlog_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/tlog"
)

// A checkpoint of a public log, with a witness's cosignature, and the log's key.
const (
	publicLog = "log2025-1.rekor.sigstore.dev"
	publicKey = "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244="
	witnessed = `log2025-1.rekor.sigstore.dev
139911860
EliTHtnx44DhEBH+5qIXBtQsSpc54Avam7mIYEvxnTA=

— log2025-1.rekor.sigstore.dev zxGZFcOra4Y7QpuiQen+CmnUvDZbxSXfBOXJzL+HKIeR9aC58QTfao58ABqkhVyBhQDseS+TZdDNpcnZhoRxkh7IbQ0=
— witness.stagemole.eu Z/euoAAAAABqxF18wrJCADsJ1G5Lc2JaRjZqqBwjpNqH24yQse4iJ4rKS6b5MtvHP+IbKYXwaWuWokdGA+BubLFi+TrwK7xpKr6XBw==
`
)

func publicLogKey(t testing.TB) tlog.Key {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tlog.ParsePublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tlog.NewV2Key(publicLog, public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestOpenWitnessed(t *testing.T) {
	key := publicLogKey(t)
	cp, err := key.Open([]byte(witnessed))
	if err != nil {
		t.Fatal(err)
	}
	if cp.Origin != publicLog || cp.Size != 139911860 || cp.Note != witnessed ||
		cp.Root.Hex() != "1258931ed9f1e380e11011fee6a21706d42c4a9739e00bda9bb988604bf19d30" {
		t.Errorf("got %+v", cp)
	}
	if got := key.LogID(); !strings.HasPrefix(got, "cf119915") {
		t.Errorf("log id %s does not begin with its key hash", got)
	}
}

// sign returns a signed note by hand: a line per signature given.
func sign(text string, lines ...string) string { return text + "\n" + strings.Join(lines, "") }

func line(name string, hash uint32, sig []byte) string {
	raw := append(binary.BigEndian.AppendUint32(nil, hash), sig...)
	return fmt.Sprintf("— %s %s\n", name, base64.StdEncoding.EncodeToString(raw))
}

type ecdsaLog struct {
	private *ecdsa.PrivateKey
	hash    uint32
}

func newECDSALog(t testing.TB) ecdsaLog {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return ecdsaLog{private, binary.BigEndian.Uint32(sum[:])}
}

func (l ecdsaLog) line(t testing.TB, name, text string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, l.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return line(name, l.hash, sig)
}

func TestOpenV1(t *testing.T) {
	log, other := newECDSALog(t), newECDSALog(t)
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	text := "rekor.test - 1234567\n42\n" + root + "\n"
	foreign := "other.test - 1234567\n42\n" + root + "\n"
	plain := "rekor.test\n42\n" + root + "\n"

	for _, c := range []struct {
		name, origin, note string
		want               error
	}{
		{"any origin", "", sign(text, log.line(t, "rekor.test", text)), nil},
		{"its origin", "rekor.test - 1234567", sign(text, log.line(t, "rekor.test", text)), nil},
		{"extension lines", "", sign(text+"Timestamp: 1\n", log.line(t, "rekor.test", text+"Timestamp: 1\n")), nil},
		{"another shard", "rekor.test - 7", sign(text, log.line(t, "rekor.test", text)), lodge.ErrSignature},
		{"another key", "", sign(text, other.line(t, "rekor.test", text)), lodge.ErrSignature},
		{"another text", "", sign(text, log.line(t, "rekor.test", foreign)), lodge.ErrSignature},
		{"another host than its signer", "", sign(foreign, log.line(t, "rekor.test", foreign)), lodge.ErrSignature},
		{"no tree id", "", sign(plain, log.line(t, "rekor.test", plain)), lodge.ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := tlog.NewV1Key(c.origin, log.private.Public())
			if err != nil {
				t.Fatal(err)
			}
			cp, err := key.Open([]byte(c.note))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("got error %v, want %v", err, c.want)
			}
			if tree, ok := cp.TreeID(); err == nil && (!ok || tree != 1234567) {
				t.Errorf("tree id %d", tree)
			}
		})
	}
}

func TestOpenV2ECDSA(t *testing.T) {
	log := newECDSALog(t)
	text := "rekor.test\n42\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	key, err := tlog.NewV2Key("rekor.test", log.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Open([]byte(sign(text, log.line(t, "rekor.test", text)))); err != nil {
		t.Error(err)
	}
	if _, err := key.Open([]byte(sign(text, log.line(t, "other.test", text)))); !errors.Is(err, lodge.ErrSignature) {
		t.Errorf("signed as another: got %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "rekor.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tlog.ParsePublicKey([]byte(vkey))
	if err != nil {
		t.Fatal(err)
	}
	key, err := tlog.NewV2Key("rekor.test", public)
	if err != nil {
		t.Fatal(err)
	}
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	empty := sha256.Sum256(nil)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"well", "rekor.test\n42\n" + root + "\n", nil},
		{"empty tree", "rekor.test\n0\n" + base64.StdEncoding.EncodeToString(empty[:]) + "\n", nil},
		{"extension", "rekor.test\n42\n" + root + "\nmore\n", nil},
		{"empty tree, some root", "rekor.test\n0\n" + root + "\n", lodge.ErrMalformed},
		{"origin of another", "other.test\n42\n" + root + "\n", lodge.ErrSignature},
		{"no origin", "42\n" + root + "\n", lodge.ErrMalformed},
		{"no size", "rekor.test\n" + root + "\n", lodge.ErrMalformed},
		{"empty line", "rekor.test\n42\n" + root + "\n\nx\n", lodge.ErrMalformed},
		{"leading zero", "rekor.test\n042\n" + root + "\n", lodge.ErrMalformed},
		{"sign", "rekor.test\n+42\n" + root + "\n", lodge.ErrMalformed},
		{"negative", "rekor.test\n-42\n" + root + "\n", lodge.ErrMalformed},
		{"as large as it gets", "rekor.test\n281474976710656\n" + root + "\n", nil},
		{"absurdly large", "rekor.test\n281474976710657\n" + root + "\n", lodge.ErrMalformed},
		{"largest int64", "rekor.test\n9223372036854775807\n" + root + "\n", lodge.ErrMalformed},
		{"over int64", "rekor.test\n9223372036854775808\n" + root + "\n", lodge.ErrMalformed},
		{"short root", "rekor.test\n42\nAAAA\n", lodge.ErrMalformed},
		{"long root", "rekor.test\n42\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n", lodge.ErrMalformed},
		{"loose base64", "rekor.test\n42\n" + root[:42] + "B=\n", lodge.ErrMalformed},
		{"too long", "rekor.test\n42\n" + root + "\n" + strings.Repeat("x", tlog.MaxCheckpoint) + "\n", lodge.ErrLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			signed, err := note.Sign(&note.Note{Text: c.text}, signer)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := key.Open(signed); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got error %v, want %v", err, c.want)
			}
		})
	}
	if _, err := key.Open([]byte("<html>")); !errors.Is(err, lodge.ErrMalformed) {
		t.Errorf("a web page: got %v", err)
	}
	if _, err := (tlog.Key{}).Open([]byte(witnessed)); !errors.Is(err, lodge.ErrSignature) {
		t.Errorf("the zero key: got %v", err)
	}
}

func TestParsePublicKey(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pluses := ed25519.PublicKey(bytes.Repeat([]byte("+"), ed25519.PublicKeySize)) // what separates a verifier key's parts
	plusDER, err := x509.MarshalPKIXPublicKey(pluses)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tlog.ParsePublicKey(plusDER); err != nil || !pluses.Equal(got) {
		t.Errorf("DER full of plus signs: got %v, %v", got, err)
	}
	vkey, err := note.NewEd25519VerifierKey("rekor.test", public)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "DER": der, "verifier key": []byte(vkey + "\n"),
	} {
		if got, err := tlog.ParsePublicKey(raw); err != nil || !public.Equal(got) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "another block": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"broken verifier key": []byte(vkey + "A"),
	} {
		if _, err := tlog.ParsePublicKey(raw); !errors.Is(err, lodge.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.NewV2Key("rekor.test", private.Public()); err == nil {
		t.Error("an RSA key was taken")
	}
	if _, err := tlog.NewV2Key("two words", public); err == nil {
		t.Error("an origin with a space was taken")
	}
	if _, err := tlog.NewV1Key("rekor.test", public); err == nil {
		t.Error("a v1 origin without tree id was taken")
	}
}

// FuzzOpen checks that what opens is what was signed: no other bytes open under the key.
func FuzzOpen(f *testing.F) {
	key := publicLogKey(f)
	f.Add(witnessed)
	f.Add(strings.Split(witnessed, "— witness")[0])
	f.Add(strings.Replace(witnessed, "139911860", "139911861", 1))
	f.Fuzz(func(t *testing.T, signed string) {
		cp, err := key.Open([]byte(signed))
		if err != nil {
			if !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrSignature) && !errors.Is(err, lodge.ErrLimit) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		text, _, _ := strings.Cut(witnessed, "\n\n")
		if !strings.HasPrefix(signed, text+"\n\n") || cp.Size != 139911860 || cp.Note != signed {
			t.Errorf("opened as %+v: %q", cp, signed)
		}
	})
}

// FuzzParsePublicKey checks that what is taken as a key can be one or is refused.
func FuzzParsePublicKey(f *testing.F) {
	f.Add([]byte(publicKey))
	f.Fuzz(func(t *testing.T, raw []byte) {
		public, err := tlog.ParsePublicKey(raw)
		if (err == nil) == (public == nil) {
			t.Errorf("got %v, %v", public, err)
		}
	})
}
