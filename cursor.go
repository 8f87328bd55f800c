package lodge

import "time"

// Cursor is how far a consumer of the events has come: a sink, or another part of lodge.
type Cursor struct {
	Name     string
	Sequence int64  // of the last event that it is done with; 0 before the first
	State    []byte // the consumer's own, kept with the sequence
	Disabled string // why it takes no events until an operator enables it; "" while it takes them
}

// CursorStatus is a cursor with what its consumer could not take.
type CursorStatus struct {
	Cursor
	Waiting int // events that are tried again
	GivenUp int // events that are not
}

// Undelivered is an event that a sink was not able to take when its turn came.
type Undelivered struct {
	Sequence int64
	Subject  string    // later events of the same subject wait for it
	Attempts int       // so far
	Since    time.Time // of the first attempt
	Due      time.Time // of the next attempt; zero where it was given up
	Error    string    // why the last attempt failed
}

// Progress is what a consumer has done since it read its cursor: it is through with the
// events up to To, but for those that it could not deliver.
type Progress struct {
	Name      string
	From, To  int64         // the cursor moves from one sequence to the other; they may be the same
	State     []byte        // replaces the cursor's
	Failed    []Undelivered // to be tried again or given up; replaces what is known of the same event
	Delivered []int64       // sequences of events that were undelivered before
}
