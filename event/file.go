package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lodgehq/lodge"
)

// File is a sink that writes JSON Lines, one CloudEvent a line, to a file that holds each
// event once: what was written and not confirmed is cut off when it is opened, and nothing
// else: it has to be in the outbox.
//
// To rotate it, move the file away while lodge runs: before the next event a new one is
// begun at its path. Nobody else may write to it.
type File struct {
	path   string
	outbox Outbox
	file   *os.File // nil while it is closed
	size   int64    // as this sink left it
	last   int64    // sequence of the last event in it
}

// NewFile returns a sink that writes the events of an outbox to the file at path, which is
// made where it is missing.
func NewFile(path string, outbox Outbox) *File { return &File{path: path, outbox: outbox} }

// Open implements Sink.
func (f *File) Open(ctx context.Context, after int64) (err error) {
	if f.file, err = os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	f.last = after
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if f.size = info.Size(); f.size == 0 {
		return syncFolder(f.path)
	}
	end, ahead, err := cut(f.file, f.size, after)
	if err == nil {
		err = f.ours(ctx, after, ahead)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if end < f.size {
		if err = f.file.Truncate(end); err == nil {
			err = f.file.Sync()
		}
	}
	f.size = end
	return err
}

// syncFolder makes it durable that the file is there.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Close implements Sink.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// Deliver implements Sink.
func (f *File) Deliver(ctx context.Context, events []lodge.Event) error {
	if err := f.follow(ctx); err != nil {
		return err
	}
	lines, err := jsonLines(events)
	if err != nil {
		return err
	}
	n, err := f.file.Write(lines)
	f.size += int64(n)
	if err == nil {
		err = f.file.Sync()
	}
	f.last = events[len(events)-1].Sequence
	return err
}

// follow begins a new file where the old one was moved away.
func (f *File) follow(ctx context.Context) error {
	open, err := f.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(open, there) {
		if err := f.Close(); err != nil {
			return err
		}
		return f.Open(ctx, f.last)
	}
	if open.Size() != f.size {
		return fmt.Errorf("%s: somebody else writes to it", f.path)
	}
	return nil
}

func jsonLines(events []lodge.Event) ([]byte, error) {
	var lines bytes.Buffer
	for _, e := range events {
		line, err := e.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", e.Sequence, err)
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return lines.Bytes(), nil
}

// cut returns where a file of events ends that has those behind the sequence after cut
// off, and a last line that is not complete; and which events those are. A file that was
// not written by a sink is refused.
func cut(file io.ReaderAt, size, after int64) (end int64, ahead []mark, err error) {
	for end = size; end > 0; {
		line, err := lastLine(file, end)
		if err != nil {
			return 0, nil, err
		}
		start := end - int64(len(line))
		if line[len(line)-1] != '\n' {
			if !torn(line) {
				return 0, nil, errForeign
			}
			end = start
			continue
		}
		m, err := markOf(line)
		if err != nil {
			return 0, nil, err
		}
		if m.sequence <= after {
			break
		}
		if ahead = append(ahead, m); len(ahead) > maxBatch {
			return 0, nil, fmt.Errorf("it has over %d events behind the cursor, which is at %d: %w", maxBatch, after, errSetBack)
		}
		end = start
	}
	return end, ahead, nil
}

// ours makes sure that what is to be cut off comes again.
func (f *File) ours(ctx context.Context, after int64, ahead []mark) error {
	if len(ahead) == 0 {
		return nil
	}
	coming := map[mark]bool{}
	events, err := f.outbox.Events(ctx, after, maxBatch)
	for _, e := range events {
		coming[mark{e.Sequence, e.ID.Hex()}] = true
	}
	for _, m := range ahead {
		if err == nil && !coming[m] {
			err = fmt.Errorf("event %d in it, %.64q, is not in the store: it is another store's, or %w", m.sequence, m.id, errSetBack)
		}
	}
	return err
}

var errSetBack = errors.New("the store or the cursor was set back. Move the file away, and what happens from the cursor on is written to a new one")

// mark tells an event in a file.
type mark struct {
	sequence int64
	id       string
}

var errForeign = errors.New("it was not written by lodge: move it away")

const (
	lineStart = `{"specversion":"1.0",` // of every event
	maxLine   = 64 << 20                // bytes of an event
)

// torn tells whether an incomplete line may be the beginning of an event.
func torn(line []byte) bool {
	n := min(len(line), len(lineStart))
	return string(line[:n]) == lineStart[:n]
}

func markOf(line []byte) (mark, error) {
	var e struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Sequence    string `json:"sequence"`
	}
	if json.Unmarshal(line, &e) != nil || e.SpecVersion != "1.0" {
		return mark{}, errForeign
	}
	sequence, err := strconv.ParseInt(e.Sequence, 10, 64)
	if err != nil {
		return mark{}, errForeign
	}
	return mark{sequence, e.ID}, nil
}

// lastLine returns the line of the file that ends at end, with its line feed if it has one.
func lastLine(file io.ReaderAt, end int64) ([]byte, error) {
	for n := int64(64 << 10); ; n *= 4 {
		start := max(0, end-n)
		block := make([]byte, end-start)
		if _, err := file.ReadAt(block, start); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if i := bytes.LastIndexByte(block[:len(block)-1], '\n'); i >= 0 || start == 0 {
			return block[i+1:], nil
		}
		if n > maxLine {
			return nil, errForeign
		}
	}
}

// Stream is a sink that writes JSON Lines to where nothing can be taken back, such as
// standard output: after a crash events come again, and are told by their ids.
type Stream struct{ W io.Writer }

// Open implements Sink.
func (Stream) Open(context.Context, int64) error { return nil }

// Deliver implements Sink.
func (s Stream) Deliver(_ context.Context, events []lodge.Event) error {
	lines, err := jsonLines(events)
	if err == nil {
		_, err = s.W.Write(lines)
	}
	return err
}

// Close implements Sink.
func (Stream) Close() error { return nil }
