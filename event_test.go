package lodge_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
)

func TestEventID(t *testing.T) {
	// printf '{"a":"é \"\\u2028\u2028\\n","size":7,"type":"dev.lodge.EntryQueued.v1","z":"sha256:00…00"}' | sha256sum
	want := lodge.DigestOf([]byte("{\"a\":\"\u00e9 \\\"\u2028\\n\",\"size\":7,\"type\":\"dev.lodge.EntryQueued.v1\",\"z\":\"" + lodge.Digest{}.String() + "\"}"))
	got := lodge.EventID(lodge.EntryQueued, lodge.Member{"a", "\u00e9 \"\u2028\n"}, lodge.Member{"size", int64(7)}, lodge.Member{"z", lodge.Digest{}})
	if got != want {
		t.Errorf("id is not the digest of the RFC 8785 form of its members: %s, want %s", got, want)
	}
}

// TestEventIdentity holds the members that an id is made of: whatever else differs, the id
// is the same, and where one of the members differs, it is another.
func TestEventIdentity(t *testing.T) {
	queued := func(change func(*lodge.Delivery)) lodge.Digest {
		d := lodge.Delivery{Key: lodge.Key{1}, Signer: "s", Target: lodge.Target{Name: "n", Kind: lodge.KindLog, Address: "https://log"}}
		change(&d)
		return lodge.QueuedEvent(d, d.Accepted).ID
	}
	logged := func(change func(*lodge.LogReceipt)) lodge.Digest {
		r := lodge.LogReceipt{LogID: "ab", LogIndex: 1, LeafHash: lodge.Digest{2}}
		change(&r)
		return lodge.LogEvent(lodge.EntryLogged, lodge.Delivery{Receipt: &lodge.Receipt{Log: &r}}, time.Time{}).ID
	}
	none, noneLogged := func(*lodge.Delivery) {}, func(*lodge.LogReceipt) {}
	same := map[string][2]lodge.Digest{
		"local name":  {queued(none), queued(func(d *lodge.Delivery) { d.Target.Name = "other" })},
		"clock":       {queued(none), queued(func(d *lodge.Delivery) { d.Accepted = time.Unix(7, 0) })},
		"attempt":     {queued(none), queued(func(d *lodge.Delivery) { d.Attempt = 3 })},
		"proof":       {logged(noneLogged), logged(func(r *lodge.LogReceipt) { r.InclusionProof = &lodge.InclusionProof{TreeSize: 9} })},
		"time logged": {logged(noneLogged), logged(func(r *lodge.LogReceipt) { r.IntegratedTime = 5 })},
	}
	for what, ids := range same {
		if ids[0] != ids[1] {
			t.Errorf("another %s gives another id", what)
		}
	}
	other := map[string][2]lodge.Digest{
		"key":     {queued(none), queued(func(d *lodge.Delivery) { d.Key = lodge.Key{9} })},
		"signer":  {queued(none), queued(func(d *lodge.Delivery) { d.Signer = "t" })},
		"target":  {queued(none), queued(func(d *lodge.Delivery) { d.Target.Address = "https://other" })},
		"subject": {queued(none), queued(func(d *lodge.Delivery) { d.Subject = lodge.Digest{7} })},
		"index":   {logged(noneLogged), logged(func(r *lodge.LogReceipt) { r.LogIndex = 2 })},
		"log":     {logged(noneLogged), logged(func(r *lodge.LogReceipt) { r.LogID = "cd" })},
		"leaf":    {logged(noneLogged), logged(func(r *lodge.LogReceipt) { r.LeafHash = lodge.Digest{3} })},
	}
	for what, ids := range other {
		if ids[0] == ids[1] {
			t.Errorf("another %s gives the same id", what)
		}
	}
}

func TestEventJSON(t *testing.T) {
	d := lodge.Delivery{Key: lodge.Key{1}, Signer: "s", Target: lodge.Target{Name: "n", Kind: lodge.KindLog, Address: "https://log"}}
	e := lodge.QueuedEvent(d, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	e.Sequence = 12
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"specversion": "1.0", "id": e.ID.Hex(), "type": "dev.lodge.EntryQueued.v1", "source": "https://log",
		"subject": d.Key.String(), "sequence": "12", "time": "2026-01-02T03:04:05Z", "datacontenttype": "application/json",
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %v, want %v", name, got[name], value)
		}
	}
}

func TestDigestText(t *testing.T) {
	d := lodge.DigestOf([]byte("x"))
	if got, err := lodge.ParseDigest(d.String()); got != d || err != nil {
		t.Errorf("ParseDigest(%s) = %s, %v", d, got, err)
	}
	for _, bad := range []string{"", "sha256:", d.Hex(), "sha512:" + d.Hex(), d.String() + "0", "SHA256:" + d.Hex(), "sha256:" + d.Hex()[:63] + "G", "sha256:" + d.Hex()[:63] + "A"} {
		if got, err := lodge.ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) = %s, want an error", bad, got)
		}
	}
}

func TestCertificateSigner(t *testing.T) {
	got, err := lodge.CertificateSigner("me@example.com", "https://issuer.example")
	if err != nil || got != "me@example.com via https://issuer.example" {
		t.Errorf("CertificateSigner = %q, %v", got, err)
	}
	for _, bad := range [][2]string{{"", "i"}, {"i", ""}, {"a", "b c"}, {"a\nb", "c"}, {"a", "b\x00"}} {
		if got, err := lodge.CertificateSigner(bad[0], bad[1]); err == nil {
			t.Errorf("CertificateSigner(%q, %q) = %q, want an error", bad[0], bad[1], got)
		}
	}
}
