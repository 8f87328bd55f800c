package hint

import "time"

// times are the layouts that documents use for times.
var times = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999", "2006-01-02"}

// parseTime reads a time, in UTC where it names no zone; zero where it is none.
func parseTime(s string) time.Time {
	for _, layout := range times {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
