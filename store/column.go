package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// The types below scan a column into what they point to. NULL leaves that as it is.
type (
	bytesInto struct{ v []byte }
	timeInto  struct{ v *time.Time }
	jsonInto  struct{ v any }
)

// Scan copies a digest; an empty column leaves it zero.
func (c bytesInto) Scan(column any) error {
	b, ok := column.([]byte)
	if !ok && column != nil || len(b) > 0 && len(b) != len(c.v) {
		return fmt.Errorf("a column of %d bytes holds %T of %d", len(c.v), column, len(b))
	}
	copy(c.v, b)
	return nil
}

// Scan reads microseconds since 1970.
func (c timeInto) Scan(column any) error {
	switch us := column.(type) {
	case int64:
		*c.v = time.UnixMicro(us).UTC()
	case nil:
	default:
		return fmt.Errorf("a time column holds %T", column)
	}
	return nil
}

// Scan decodes JSON.
func (c jsonInto) Scan(column any) error {
	switch text := column.(type) {
	case string:
		return json.Unmarshal([]byte(text), c.v)
	case []byte:
		return json.Unmarshal(text, c.v)
	case nil:
		return nil
	default:
		return fmt.Errorf("a JSON column holds %T", column)
	}
}

func subjectColumn(d lodge.Digest) []byte {
	if d.IsZero() {
		return []byte{}
	}
	return d[:]
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: %T does not marshal: %v", v, err)) // the root package's types always do
	}
	return string(b)
}

func nullJSON[T any](v *T) any {
	if v == nil {
		return nil
	}
	return toJSON(v)
}
