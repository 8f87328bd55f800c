package verify_test

import (
	"encoding/json"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// TestDivergence: a proof that a log diverged convinces whoever has the log's key, and nobody else.
func TestDivergence(t *testing.T) {
	l, other := must[*logtest.Log](t)(logtest.NewV2("log.test")), must[*logtest.Log](t)(logtest.NewV2("log.test"))
	l.Append([]byte("one"))
	fork := l.Fork(0)
	fork.Append([]byte("another one"))
	a := must[tlog.Checkpoint](t)(l.Key().Open([]byte(l.Checkpoint())))
	b := must[tlog.Checkpoint](t)(l.Key().Open([]byte(fork.Checkpoint())))
	d := must[tlog.Divergence](t)(tlog.Diverge(a, b, lodge.Digest{}, lodge.InclusionProof{}))
	for _, tt := range []struct {
		name  string
		trust verify.Trust
		by    func(*tlog.Divergence)
		ok    bool
		want  []string
	}{
		{"proven", verify.Trust{Logs: []tlog.Key{l.Key()}}, func(*tlog.Divergence) {}, true, []string{"checkpoint ok", "divergence ok"}},
		{"another log", verify.Trust{Logs: []tlog.Key{other.Key()}}, func(*tlog.Divergence) {}, false, []string{"checkpoint absent"}},
		{"a signer asked for", verify.Trust{Logs: []tlog.Key{l.Key()}, Signers: verify.Signers{Keys: []*dsse.PublicKey{public(t, newKey(t))}}},
			func(*tlog.Divergence) {}, false, []string{"signature failed"}},
		{"a file asked for", verify.Trust{Logs: []tlog.Key{l.Key()}, Artifact: []byte{}}, func(*tlog.Divergence) {}, false, []string{"signature failed"}},
		{"the same twice", verify.Trust{Logs: []tlog.Key{l.Key()}}, func(d *tlog.Divergence) { d.Newer = d.Older }, false, []string{"divergence failed"}},
		{"one of another log", verify.Trust{Logs: []tlog.Key{l.Key()}}, func(d *tlog.Divergence) { d.Newer = other.Checkpoint() }, false, []string{"checkpoint failed"}},
	} {
		changed := d
		tt.by(&changed)
		r := must[verify.Result](t)(verify.Divergence(must[[]byte](t)(json.Marshal(changed)), tt.trust))
		t.Run(tt.name, func(t *testing.T) { check(t, r, tt.ok, tt.want) })
	}
}
