package node_test

import (
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// TestWebhookScopes: a webhook with scopes gets what may concern them.
func TestWebhookScopes(t *testing.T) {
	about := func(data string) lodge.Event {
		return lodge.Event{Type: lodge.InclusionVerified, Subject: lodge.DigestOf(nil).String(), Data: []byte(data)}
	}
	openssl, zlib := about(`{"hints":{"scope":["component:openssl"]}}`), about(`{"hints":{"scope":["component:zlib"]}}`)
	cut, unknown := about(`{"hints":{"scope":["all:*","component:zlib"]}}`), about(`{}`)
	held := lodge.Event{Type: lodge.TargetHeld, Subject: "https://log.example", Data: []byte("{}")}
	for name, c := range map[string]struct {
		scopes []string
		event  lodge.Event
		want   bool
	}{
		"its scope":                {[]string{"component:OpenSSL"}, openssl, true},
		"another scope":            {[]string{"component:openssl"}, zlib, false},
		"cut":                      {[]string{"component:openssl"}, cut, true},
		"nothing said":             {[]string{"component:openssl"}, unknown, true},
		"about a target":           {[]string{"component:openssl"}, held, false},
		"everything":               {[]string{"all:*"}, zlib, true},
		"everything with a target": {[]string{"all:*"}, held, false},
	} {
		wants, err := node.Webhook{Scopes: c.scopes}.Wants()
		if err != nil || wants(c.event) != c.want {
			t.Errorf("%s: %v, want %t", name, err, c.want)
		}
	}
}
