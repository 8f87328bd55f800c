package evidence_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/evidence"
	"github.com/lodgehq/lodge/verify"
)

// TestSparse: a file of holes, of which a few hundred bytes stand for a gigabyte, is refused
// before anything is unpacked.
func TestSparse(t *testing.T) {
	const size = 1 << 30
	var pax bytes.Buffer
	w := tar.NewWriter(&pax)
	header := &tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}
	if err := errors.Join(w.WriteHeader(header), w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"GNU's": sparse(size), "PAX": pax.Bytes()} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := evidence.Verify(raw, verify.Trust{})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, lodge.ErrMalformed) {
			t.Errorf("%s: error %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%s: %d bytes of memory for %d of file", name, used, len(raw))
		}
	}
}

// sparse returns an archive with one file of that size in GNU's old format, all of it a hole.
func sparse(size int64) []byte {
	archive := make([]byte, 512+1024) // its header, and two empty blocks that end it
	h := archive[:512]
	put := func(at, width int, n int64) { copy(h[at:], fmt.Sprintf("%0*o", width-1, n)) }
	copy(h, "hole")
	put(100, 8, 0o644)
	put(108, 8, 0)
	put(116, 8, 0)
	put(124, 12, 0)
	put(136, 12, 0)
	copy(h[148:], "        ")
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	put(386, 12, size) // one piece of no bytes, at the end
	put(398, 12, 0)
	put(483, 12, size)
	sum := int64(0)
	for _, b := range h {
		sum += int64(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return archive
}

// TestReceiptWithoutProof: a promise in a bundle v0.1 and a receipt of it, neither with an inclusion
// proof, are judged like everything else that is not proven.
func TestReceiptWithoutProof(t *testing.T) {
	envelope := `{"payloadType":"a/b","payload":"","signatures":[{"sig":"AA=="}]}`
	body := []byte("{}")
	leaf := lodge.DigestOf(append([]byte{0}, body...))
	raw := must[[]byte](t)(evidence.Encode(map[string]string{
		"evidence.json":   `{"mediaType":"` + evidence.MediaType + `","key":"` + lodge.DigestOf([]byte("DSSEv1 3 a/b 0 ")).String() + `","signers":["a"]}`,
		"events.jsonl":    "",
		"1/envelope.json": envelope,
		"1/bundle-1.json": `{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.1","dsseEnvelope":` + envelope +
			`,"verificationMaterial":{"publicKey":{"hint":"x"},"tlogEntries":[{"logIndex":"0","logId":{"keyId":"AA=="},"canonicalizedBody":"` +
			base64.StdEncoding.EncodeToString(body) + `"}]}}`,
		"1/receipts.json": `[{"kind":"log","target":"x","state":"verified","adopted":false,"receipt":{"log":{"origin":"","logId":"00","logIndex":0,"leafHash":"` +
			leaf.String() + `"}}}]`,
	}))
	r, err := evidence.Verify(raw, verify.Trust{})
	if err != nil || r.OK || !strings.Contains(fmt.Sprint(r.Checks), "proof") {
		t.Errorf("error %v, %+v", err, r)
	}
}
