package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

const (
	origin = "log.example"
	issuer = "https://issuer.example"
	every  = 10_000 // entries to one that is on the watch list
)

func identity(i int) string { return fmt.Sprintf("https://ci.example/project-%d@refs/heads/main", i) }

// write writes a log of that many entries, unless it is there.
func write(dir string, entries int64) error {
	if _, err := os.Stat(filepath.Join(dir, "checkpoint")); err == nil {
		return nil
	}
	var certs [][]byte
	for i := range 16 {
		cert, err := certificate(identity(i))
		if err != nil {
			return err
		}
		certs = append(certs, cert)
	}
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	var levels [][]byte // of tiles that are not full
	var bundle []byte
	for i := range entries {
		cert := certs[1+i%15]
		if i%every == 0 {
			cert = certs[0]
		}
		b := body(cert)
		hash := tlog.LeafHash(b)
		if err := r.Append(hash[:], nil); err != nil {
			return err
		}
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(b))), b...)
		if n := i + 1; n%256 == 0 || n == entries {
			if err := put(dir, merkle.Tile{H: 8, L: -1, N: i / 256, W: int((n-1)%256 + 1)}, bundle); err != nil {
				return err
			}
			bundle = bundle[:0]
		}
		if err := grow(dir, &levels, 0, i, hash[:]); err != nil {
			return err
		}
	}
	for l, data := range levels {
		if len(data) > 0 {
			if err := put(dir, merkle.Tile{H: 8, L: l, N: entries >> (8 * (l + 1)), W: len(data) / sha256.Size}, data); err != nil {
				return err
			}
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return err
	}
	return sign(dir, entries, root)
}

// grow adds a hash to the tile of a level, and writes that when it is full.
func grow(dir string, levels *[][]byte, level int, index int64, hash []byte) error {
	if len(*levels) == level {
		*levels = append(*levels, nil)
	}
	(*levels)[level] = append((*levels)[level], hash...)
	if len((*levels)[level]) < 256*sha256.Size {
		return nil
	}
	data := (*levels)[level]
	if err := put(dir, merkle.Tile{H: 8, L: level, N: index / 256, W: 256}, data); err != nil {
		return err
	}
	root := tileRoot(data)
	(*levels)[level] = data[:0]
	return grow(dir, levels, level+1, index/256, root[:])
}

// tileRoot returns the root over the hashes of a full tile.
func tileRoot(tile []byte) (root [sha256.Size]byte) {
	const size = sha256.Size
	var level [256 * size]byte
	var node [1 + 2*size]byte
	node[0] = 1
	copy(level[:], tile)
	for width := 256; width > 1; width /= 2 {
		for i := range width / 2 {
			copy(node[1:], level[2*i*size:(2*i+2)*size])
			sum := sha256.Sum256(node[:])
			copy(level[i*size:], sum[:])
		}
	}
	copy(root[:], level[:])
	return root
}

func put(dir string, tile merkle.Tile, data []byte) error {
	path := "tile/" + tile.Path()[len("tile/8/"):]
	if tile.L < 0 {
		path = "tile/entries/" + tile.Path()[len("tile/8/data/"):]
	}
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	_, err = w.Write(data)
	return errors.Join(err, w.Flush(), f.Close())
}

// body is the entry of a signature under a certificate: what nearly all entries of public logs are.
func body(cert []byte) []byte {
	var digest [32]byte
	var sig [71]byte
	_, _ = rand.Read(digest[:]) // it never fails
	_, _ = rand.Read(sig[:])
	b := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},`+
		`"signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"%s"}}}}}}`, b(digest[:]), b(sig[:]), b(cert))
}

func certificate(identity string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name, err := url.Parse(identity)
	if err != nil {
		return nil, err
	}
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"sigstore.dev"}}, NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{name},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: make([]byte, 200)}, // as long as an SCT and what else is in there
		},
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

func sign(dir string, size int64, root []byte) error {
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "key"), []byte(public), 0o600), os.WriteFile(filepath.Join(dir, "checkpoint"), signed, 0o600))
}

// folder is where tiles are. It implements tlog.Fetcher.
type folder string

// Fetch implements tlog.Fetcher.
func (f folder) Fetch(_ context.Context, path string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(string(f), path))
	if errors.Is(err, fs.ErrNotExist) {
		err = lodge.ErrNotFound
	}
	return raw, err
}

// log is the log in a folder. It implements watch.Log.
type log struct {
	dir   string
	key   tlog.Key
	head  tlog.Checkpoint
	tiles *tlog.Tiles
}

func openLog(dir string) (*log, error) {
	l := &log{dir: dir, tiles: tlog.NewTiles(folder(dir))}
	raw, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	public, err := tlog.ParsePublicKey(raw)
	if err != nil {
		return nil, err
	}
	if l.key, err = tlog.NewV2Key(origin, public); err != nil {
		return nil, err
	}
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return nil, err
	}
	l.head, err = l.key.Open(signed)
	return l, err
}

func (l *log) URL() string                               { return l.dir }
func (l *log) Open(note string) (tlog.Checkpoint, error) { return l.key.Open([]byte(note)) }

func (l *log) Heads(context.Context, bool) ([]tlog.Checkpoint, error) {
	return []tlog.Checkpoint{l.head}, nil
}

func (l *log) Extends(ctx context.Context, older, newer tlog.Checkpoint) error {
	return l.tiles.Consistency(ctx, older, newer)
}

func (l *log) Include(context.Context, tlog.Checkpoint, int64) (rekor.Inclusion, error) {
	return rekor.Inclusion{}, errors.ErrUnsupported
}

func (l *log) Read(ctx context.Context, head tlog.Checkpoint, from, to int64, work func([]tlog.Leaf)) iter.Seq2[[]tlog.Leaf, error] {
	return l.tiles.Stream(ctx, head, from, to, true, work)
}
