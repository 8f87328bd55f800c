package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// item is one envelope or bundle of the input, or why it could not be read.
type item struct {
	number int    // in the order of reading, where somebody counts
	source string // file, or file:line
	raw    []byte
	err    error
}

// reader reads items out of files, folders and standard input, one at a time. It hands
// each to yield and ends when that returns false.
type reader struct {
	stdin *os.File
	note  func(string) // told what is skipped
	yield func(item) bool
}

// inputs returns the arguments that name input: "-" where there are none and standard
// input is no terminal.
func (a *app) inputs(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	if term.IsTerminal(int(a.stdin.Fd())) {
		return nil, misused("no input: name files or folders of envelopes, or - for standard input")
	}
	return []string{"-"}, nil
}

// all reads everything that args name, in order.
func (r reader) all(args []string) {
	for _, arg := range args {
		if !r.one(arg) {
			return
		}
	}
}

func (r reader) one(arg string) bool {
	if arg == "-" {
		return r.stream("stdin", "", r.stdin)
	}
	info, err := os.Stat(arg)
	if err != nil {
		return r.yield(item{source: arg, err: reason(err)})
	}
	if info.IsDir() {
		return r.folder(arg)
	}
	return r.file(arg)
}

// patterns are the names under which a folder's files are taken.
var patterns = []string{"*.json", "*.jsonl", "*.sigstore*", "*.intoto*"}

func (r reader) folder(dir string) bool {
	taken, skipped, firstSkipped, goOn := 0, 0, "", true
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			goOn = r.yield(item{source: path, err: reason(err)})
		case d.IsDir():
		case d.Type().IsRegular() && named(d.Name()):
			taken++
			goOn = r.file(path)
		default:
			if skipped++; skipped == 1 {
				firstSkipped = path
			}
		}
		if !goOn {
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case err != nil:
		return r.yield(item{source: dir, err: reason(err)})
	case !goOn:
		return false
	case taken == 0:
		return r.yield(item{source: dir, err: fmt.Errorf("no file in this folder is named %s", strings.Join(patterns, ", "))})
	case skipped > 0:
		r.note(fmt.Sprintf("%s: %d skipped (%s first), for they are no files named %s", dir, skipped, firstSkipped, strings.Join(patterns, ", ")))
	}
	return true
}

func named(name string) bool {
	for _, pattern := range patterns {
		if ok, _ := filepath.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

func (r reader) file(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return r.yield(item{source: path, err: reason(err)})
	}
	defer func() { _ = f.Close() }()
	return r.stream(path, filepath.Ext(path), f)
}

// stream reads one document, or one from each line. It is lines where the name says so, or
// where one of the first two lines is a whole JSON object and not all there is.
func (r reader) stream(source, ext string, from io.Reader) bool {
	in := lines{in: bufio.NewReaderSize(from, 64<<10)}
	begin := []line{in.next()}
	if errors.Is(begin[0].err, io.EOF) {
		return r.yield(item{source: source, err: errors.New("it is empty")})
	}
	if ext != ".jsonl" {
		begin = append(begin, in.next())
		single := errors.Is(begin[1].err, io.EOF)
		if single || !isObject(begin[0].raw) && !isObject(begin[1].raw) {
			return r.document(source, in.in, begin)
		}
	}
	for n := 0; ; n++ {
		var l line
		if n < len(begin) {
			l = begin[n]
		} else {
			l = in.next()
		}
		if errors.Is(l.err, io.EOF) {
			return true
		}
		if !r.yield(item{source: fmt.Sprintf("%s:%d", source, l.number), raw: l.raw, err: l.err}) {
			return false
		}
		if l.err != nil && !errors.Is(l.err, lodge.ErrLimit) {
			return true // reading goes no further
		}
	}
}

// document yields the one document that begins with these lines.
func (r reader) document(source string, in io.Reader, begin []line) bool {
	var raw []byte
	for _, l := range begin {
		raw = append(raw, l.text...)
		if errors.Is(l.err, io.EOF) {
			return r.yield(item{source: source, raw: raw})
		}
		if l.err != nil {
			return r.yield(item{source: source, err: l.err})
		}
	}
	rest, err := io.ReadAll(io.LimitReader(in, int64(max(0, bundle.MaxSize+1-len(raw)))))
	raw = append(raw, rest...)
	if err == nil && len(raw) > bundle.MaxSize {
		err = errTooLarge
	}
	return r.yield(item{source: source, raw: raw, err: reason(err)})
}

func isObject(raw []byte) bool { return bytes.HasPrefix(raw, []byte("{")) && json.Valid(raw) }

var errTooLarge = fmt.Errorf("%w: more than %d bytes", lodge.ErrLimit, bundle.MaxSize)

// line is a line that is not blank.
type line struct {
	number int    // from 1 on
	text   []byte // as it is, with the blank lines before it
	raw    []byte // without the white space around it
	err    error  // io.EOF behind the last line; errTooLarge, after which there may be more
}

type lines struct {
	in     *bufio.Reader
	number int
}

func (l *lines) next() line {
	var text []byte
	for {
		l.number++
		part, err := l.read()
		text = append(text, part...)
		raw := bytes.TrimSpace(part)
		switch {
		case err == nil && len(text) > bundle.MaxSize:
			err = errTooLarge // of nothing but blank lines
		case errors.Is(err, io.EOF) && len(raw) > 0:
			err = nil // the next call finds the end again
		case err == nil && len(raw) == 0:
			continue
		}
		return line{number: l.number, text: text, raw: raw, err: reason(err)}
	}
}

// read reads to the end of the line. One that is too large is passed over.
func (l *lines) read() (raw []byte, err error) {
	size := 0
	for {
		part, err := l.in.ReadSlice('\n')
		if size += len(part); size <= bundle.MaxSize {
			raw = append(raw, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if size > bundle.MaxSize && (err == nil || errors.Is(err, io.EOF)) {
			return nil, errTooLarge
		}
		return raw, err
	}
}

// reason is err without the name of the file, which is said before it anyway.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
