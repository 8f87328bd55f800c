package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/node"
)

// app is what all commands share.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer

	configPath string
	state      string
}

// config reads the configuration and names the store.
func (a *app) config() (node.Config, error) {
	var c node.Config
	var err error
	if a.configPath != "" {
		c, err = node.LoadConfig(a.configPath)
	} else {
		c, err = node.DefaultConfig()
	}
	if err != nil {
		return c, unreadable(err)
	}
	if c.Store != "" && a.state == "" {
		return c, nil
	}
	folder, err := a.stateFolder()
	c.Store = "sqlite:" + filepath.Join(folder, "lodge.db")
	return c, err
}

// stateFolder says where local state is kept (XDG Base Directory Specification).
func (a *app) stateFolder() (string, error) {
	if a.state != "" {
		return a.state, nil
	}
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "lodge"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", unreadable(fmt.Errorf("no folder for the local store is known (%w): name one with --state", err))
	}
	return filepath.Join(home, ".local", "state", "lodge"), nil
}

// openStore opens the local store without any target: to read, and to queue again.
func (a *app) openStore(ctx context.Context) (*node.Node, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	path, local := strings.CutPrefix(c.Store, "sqlite:")
	if _, err := os.Stat(path); local && errors.Is(err, fs.ErrNotExist) {
		return nil, unreadable(fmt.Errorf("there is no store at %s yet: push something first, or name another with --state", path))
	}
	n, err := node.Open(ctx, node.Config{Store: c.Store})
	return n, unreadable(err)
}

// print writes to standard output.
func (a *app) print(format string, args ...any) error {
	_, err := fmt.Fprintf(a.stdout, format, args...)
	return err
}

// printJSON writes one line.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// readInput reads a file, or standard input where path is "-", up to a limit in bytes.
func (a *app) readInput(path string, limit int) ([]byte, error) {
	in := io.Reader(a.stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, reason(err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%w: more than %d bytes", lodge.ErrLimit, limit)
	}
	return raw, reason(err)
}

// maxSmall bounds files that are keys and the like, in bytes.
const maxSmall = 8 << 20

// readSmall reads a file that a flag names.
func (a *app) readSmall(flag, path string) ([]byte, error) {
	raw, err := a.readInput(path, maxSmall)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%s %s: %w", flag, path, err))
	}
	return raw, nil
}

// publicKey reads the public key that a flag names; nil where it names none.
func (a *app) publicKey(flag, path string) (*dsse.PublicKey, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := a.readSmall(flag, path)
	if err != nil {
		return nil, err
	}
	key, err := dsse.ParsePublicKey(raw)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%s %s: %w", flag, path, err))
	}
	return key, nil
}
