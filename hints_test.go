package lodge_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
)

func TestScope(t *testing.T) {
	derived := []string{"component:openssl", "cve:CVE-2026-0001"}
	cut := append([]string{lodge.ScopeAll}, derived...)
	for _, test := range []struct {
		name           string
		derived, given []string
		narrowed       bool
		want           []string
	}{
		{"derived", derived, nil, false, derived},
		{"given", derived, []string{"component:zlib"}, true, []string{"component:zlib"}},
		{"given later", derived, []string{"component:zlib"}, false, []string{"component:openssl", "component:zlib", "cve:CVE-2026-0001"}},
		{"given, but something was cut", cut, []string{"component:zlib"}, true, []string{lodge.ScopeAll, "component:zlib"}},
		{"nothing", nil, nil, false, nil},
	} {
		got := lodge.Hints{Scopes: test.derived}.Scope(test.given, test.narrowed)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestEventHints(t *testing.T) {
	h := lodge.Hints{Document: []byte(`{"kind":"openvex","scopes":["cve:CVE-2026-0001"],"v":1}`)}
	want := `{"digest":"` + lodge.DigestOf(h.Document).String() + `","kind":"openvex","scope":["component:openssl"],"v":1}`
	if got := h.EventHints([]string{"component:openssl"}); string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := (lodge.Hints{}).EventHints(nil); got != nil {
		t.Errorf("nothing: %s", got)
	}
}

// TestEventHintsCut: what an event can't show widens its scope.
func TestEventHintsCut(t *testing.T) {
	var scope []string
	for i := range lodge.MaxEventScopes + 1 {
		scope = append(scope, fmt.Sprintf("component:c%04d", i))
	}
	for n, all := range map[int]bool{lodge.MaxEventScopes: false, lodge.MaxEventScopes + 1: true} {
		var got struct{ Scope []string }
		if err := json.Unmarshal(lodge.Hints{}.EventHints(scope[:n]), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Scope) != lodge.MaxEventScopes || slices.Contains(got.Scope, lodge.ScopeAll) != all || !slices.IsSorted(got.Scope) {
			t.Errorf("%d scopes give %d, all:* among them: %v", n, len(got.Scope), slices.Contains(got.Scope, lodge.ScopeAll))
		}
	}
}

// TestEventHintsLarge: hints that are too large for a sink leave their lists out, and say so
// by the widest scope.
func TestEventHintsLarge(t *testing.T) {
	long := strings.Repeat("x", 2048)
	for n, large := range map[int]bool{200: false, 256: true} {
		document := fmt.Sprintf(`{"counts":{"products":%d},"kind":"cyclonedx","products":["%s"%s]}`, n, long, strings.Repeat(`,"`+long+`"`, n-1))
		got := (lodge.Hints{Document: []byte(document)}).EventHints([]string{"component:openssl"})
		if len(got) > lodge.MaxEventHints || strings.Contains(string(got), "xxx") == large || strings.Contains(string(got), "all:*") != large ||
			!strings.Contains(string(got), fmt.Sprintf(`"counts":{"products":%d}`, n)) {
			t.Errorf("%d products: %d bytes, %.300s", n, len(got), got)
		}
	}
}
