package lodge_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                       0,
		"7":                      7 * time.Second,
		" 7 ":                    7 * time.Second,
		"-7":                     0,
		"soon":                   0,
		"9999999999999999999999": 0,
		"4294967295":             24 * time.Hour,
		now.Add(time.Minute).Format(http.TimeFormat):       time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat):      0,
		now.Add(1000 * time.Hour).Format(time.RFC850):      24 * time.Hour,
		now.Add(30 * time.Second).Format(time.ANSIC):       30 * time.Second,
		now.Add(time.Minute).Format(time.RFC3339):          0,
		now.Add(time.Minute).Format(http.TimeFormat) + "x": 0,
	} {
		if got := lodge.RetryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for words, want := range map[string]string{
		"":                                "",
		" no\r\n\tsuch  luck\n":           "no such luck",
		"a\x1b[31mred\x00 herring":        "a [31mred herring",
		"half a \xff rune":                "half a ? rune",
		strings.Repeat("ü", 300):          strings.Repeat("ü", 300),
		strings.Repeat("ü", 300) + "rest": strings.Repeat("ü", 300) + "…",
	} {
		if got := lodge.OneLine(words); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}
