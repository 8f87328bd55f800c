package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// targetFlags are the flags that say where to deliver to.
type targetFlags struct {
	logs        []string
	logKey      string
	logOrigin   string
	logReadURL  string
	trustedRoot string
	oci         []string
	tsa         []string
	signing     string
}

func (f *targetFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.logs, "log", nil, "transparency log, by `URL` or by its name in the configuration; repeatable")
	flags.StringVar(&f.logKey, "log-key", "", "PEM `FILE` of the public key of the log given by URL")
	flags.StringVar(&f.logOrigin, "log-origin", "", "first line of that log's checkpoints, its `NAME` (default for v2: the host name)")
	flags.StringVar(&f.logReadURL, "log-read-url", "", "`URL` where that log, of v2, serves checkpoint and tile/… (default URL/api/v2)")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "Sigstore trusted_root.json `FILE` that logs and certificates are verified with")
	flags.StringArrayVar(&f.tsa, "tsa", nil, "timestamp authority by the `URL` that takes RFC 3161 queries, to take a timestamp when an envelope is accepted; repeatable")
	flags.StringVar(&f.signing, "signing-config", "", "Sigstore SigningConfig v0.2 `FILE` that names logs and timestamp authorities, as --log and --tsa do")
	flags.StringArrayVar(&f.oci, "oci", nil, "repository `REPO` to attach it in, to every subject of the statement that is there, or to the one that is named: REPO@sha256:…; repeatable")
}

// route is some targets with the subject that repositories among them attach to.
type route struct {
	targets []string     // names; none: the configured ones
	subject lodge.Digest // zero: the statement's
}

// apply puts the targets that the flags name into c and says which way an envelope goes.
func (f *targetFlags) apply(a *app, c *node.Config) ([]route, error) {
	if f.signing != "" {
		logs, tsa, err := a.signingConfig(f.signing, time.Now())
		if err != nil {
			return nil, err
		}
		f.logs, f.tsa = slices.Concat(f.logs, logs), slices.Concat(f.tsa, tsa)
	}
	c.Follow = nil // the daemon does that
	c.Targets = maps.Clone(c.Targets)
	if c.Targets == nil {
		c.Targets = map[string]node.Target{}
	}
	if f.trustedRoot != "" {
		path, err := absolute("--trusted-root", f.trustedRoot)
		if err != nil {
			return nil, err
		}
		c.TrustedRoot = path
	}
	c.TSA = slices.Concat(c.TSA, f.tsa)
	logs, err := f.applyLogs(c)
	if err != nil {
		return nil, err
	}
	if len(f.oci) == 0 {
		if len(logs) == 0 && len(c.Deliver) == 0 {
			return nil, unreadable(lodge.ErrNoTarget)
		}
		return []route{{targets: logs}}, nil
	}
	var routes []route
	for _, value := range f.oci {
		name, subject, err := repository(c, value)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(routes, func(r route) bool { return r.subject == subject })
		if i < 0 {
			i, routes = len(routes), append(routes, route{targets: slices.Clone(logs), subject: subject})
		}
		routes[i].targets = append(routes[i].targets, name)
	}
	return routes, nil
}

func (f *targetFlags) applyLogs(c *node.Config) (names []string, err error) {
	byURL := 0
	for _, value := range f.logs {
		name, url := findLog(c, value)
		if name == "" && !url {
			return nil, misused("--log %q is neither a URL (http://… or https://…) nor a log of the configuration (%s)", value, known(c))
		}
		if url {
			byURL++
			if !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "https://") {
				return nil, misused("--log %q: want http(s)://host", value)
			}
			if name == "" {
				name = strings.TrimRight(value, "/")
				c.Targets[name] = node.Target{Log: &node.Log{URL: name}}
			}
			if err := f.describe(c.Targets[name].Log, name, c); err != nil {
				return nil, err
			}
		}
		names = append(names, name)
	}
	if about := f.logKey + f.logOrigin + f.logReadURL; about != "" && byURL != 1 {
		return nil, misused("--log-key, --log-origin and --log-read-url are about one log that --log names by URL (here are %d): put several into the configuration", byURL)
	}
	return names, nil
}

// findLog returns the name of a configured log, and whether value is a URL.
func findLog(c *node.Config, value string) (name string, url bool) {
	if t, ok := c.Targets[value]; ok && t.Log != nil {
		return value, strings.Contains(value, "://")
	}
	if !strings.Contains(value, "://") {
		return "", false
	}
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if l := c.Targets[name].Log; l != nil && strings.TrimRight(l.URL, "/") == strings.TrimRight(value, "/") {
			return name, true
		}
	}
	return "", true
}

// describe sets what the flags say of a log.
func (f *targetFlags) describe(l *node.Log, name string, c *node.Config) error {
	described := *l
	if f.logKey != "" {
		path, err := absolute("--log-key", f.logKey)
		if err != nil {
			return err
		}
		described.Key = path
	}
	if f.logOrigin != "" {
		described.Origin = f.logOrigin
	}
	if f.logReadURL != "" {
		described.ReadURL = f.logReadURL
	}
	t := c.Targets[name]
	t.Log = &described
	c.Targets[name] = t
	return nil
}

func known(c *node.Config) string {
	var names []string
	for name, t := range c.Targets {
		if t.Log != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "it names none"
	}
	slices.Sort(names)
	return "it names " + strings.Join(names, ", ")
}

// repository returns the target of an --oci value, which may be new, and its subject.
func repository(c *node.Config, value string) (name string, subject lodge.Digest, err error) {
	repo, digest, found := strings.Cut(strings.TrimPrefix(value, "oci://"), "@")
	if found {
		if subject, err = lodge.ParseDigest(digest); err != nil {
			return "", subject, misused("--oci %q: %v", value, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if t := c.Targets[name]; t.OCI != nil && (name == repo || strings.TrimPrefix(t.OCI.Repository, "oci://") == repo) {
			return name, subject, nil
		}
	}
	c.Targets[repo] = node.Target{OCI: &node.OCI{Repository: repo}}
	return repo, subject, nil
}

// absolute makes the name of a file independent of the configuration's folder.
func absolute(flag, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", unreadable(fmt.Errorf("%s: %w", flag, err))
	}
	return path, nil
}
