package main

import (
	"os"
	"time"
)

// Main is the program, for script tests.
var Main = main

// Item is a piece of input.
type Item struct {
	Source, Raw string
	Err         error
}

// Read returns what a push would read.
func Read(stdin *os.File, args ...string) (items []Item, notes []string) {
	reader{
		stdin: stdin,
		note:  func(text string) { notes = append(notes, text) },
		yield: func(i item) bool {
			items = append(items, Item{i.source, string(i.raw), i.err})
			return true
		},
	}.all(args)
	return items, notes
}

// Progress returns the text of a progress bar.
func Progress(total, verified, failed int, passed time.Duration, reading bool) string {
	return counts{total: total, verified: verified, failed: failed}.progress(passed, reading)
}

// Clean is what every text from outside goes through.
var Clean = clean
