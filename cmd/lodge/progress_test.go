package main_test

import (
	"testing"
	"time"

	main "github.com/lodgehq/lodge/cmd/lodge"
)

func TestProgress(t *testing.T) {
	for want, got := range map[string]string{
		"[------------------------] 0/0+":                                 main.Progress(0, 0, 0, time.Second, true),
		"[------------------------] 0/8":                                  main.Progress(8, 0, 0, time.Second, false),
		"[############------------] 500/1000+  50/s":                      main.Progress(1000, 500, 0, 10*time.Second, true),
		"[############------------] 500/1000  50/s  10s left  100 failed": main.Progress(1000, 400, 100, 10*time.Second, false),
		"[########################] 10/10  10/s":                          main.Progress(10, 10, 0, time.Second, false),
	} {
		if got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// TestClean: nothing from outside moves a terminal's cursor or breaks a line.
func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"a\n b\tc\r\n":      "a b c",
		"\x1b[31mred\u0007": "�[31mred�",
		"\u202egnp.exe":     "�gnp.exe",
		"naïve 日本 “words”":  "naïve 日本 “words”",
	} {
		if got := main.Clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
