package verify

import (
	"fmt"
	"strings"

	"github.com/lodgehq/lodge/tlog"
)

// CheckDivergence is the check of a [Divergence]: two trees that one log signed can't both be true.
const CheckDivergence Name = "divergence"

// Divergence judges a proof that a log diverged. It is OK where that is proven: a log that
// is trusted signed both checkpoints, and they contradict each other. Errors wrap
// lodge.ErrMalformed or lodge.ErrLimit.
func Divergence(raw []byte, trust Trust) (Result, error) {
	d, err := tlog.ParseDivergence(raw)
	if err != nil {
		return Result{}, err
	}
	r := Result{Kind: "divergence"}
	if trust.Signers.asked() || trust.Artifact != nil { // it is not what was expected
		r.Add(CheckSignature, nil, Failed, "it is a proof that a log diverged: nobody but the log has signed it, and it is about no file")
		return r, nil
	}
	key, err := trust.signerOf(d.Older)
	if err != nil {
		r.Add(CheckCheckpoint, nil, Absent, "%v", err)
		return r, nil
	}
	older, newer := tlog.Checkpoint{}, tlog.Checkpoint{}
	for _, c := range []struct {
		name string
		note string
		into *tlog.Checkpoint
	}{{"older", d.Older, &older}, {"newer", d.Newer, &newer}} {
		if *c.into, err = key.Open([]byte(c.note)); err != nil {
			r.Add(CheckCheckpoint, nil, Failed, "the %s one: %v", c.name, err)
			return r, nil
		}
		r.Add(CheckCheckpoint, nil, OK, "the %s one: %s, %d leaves, root %s", c.name, c.into.Origin, c.into.Size, c.into.Root)
	}
	if _, _, err := d.Check(key); err != nil {
		r.Add(CheckDivergence, nil, Failed, "%v", err)
		return r, nil
	}
	r.Add(CheckDivergence, nil, OK, "the log %s signed both, and neither tree is the beginning of the other", key.LogID())
	r.OK = true
	return r, nil
}

// signerOf returns the key of the trusted log that signed a checkpoint.
func (t Trust) signerOf(signed string) (tlog.Key, error) {
	origin, _, _ := strings.Cut(signed, "\n")
	keys := t.Logs[:len(t.Logs):len(t.Logs)]
	if t.Signers.Root != nil {
		for _, l := range t.Signers.Root.logs {
			keys = append(keys, l.Key)
		}
	}
	for _, public := range t.LogKeys {
		if k, err := tlog.NewV1Key("", public); err == nil {
			keys = append(keys, k)
		}
		if k, err := tlog.NewV2Key(origin, public); err == nil {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if _, err := k.Open([]byte(signed)); err == nil {
			return k, nil
		}
	}
	return tlog.Key{}, fmt.Errorf("the older one is signed by no log that is trusted (it claims to be of %.100q): give --log-key or --trusted-root", origin)
}
