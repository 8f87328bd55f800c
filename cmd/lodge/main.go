// Command lodge lodges signed attestations exactly once in transparency logs and OCI
// registries.
//
// It parses flags, prints, and decides on the exit status; the work is done by package
// node. Floor 6: it may import every other package of the module.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
)

// The exit statuses, in the order in which they take precedence.
const (
	exitUsage   = 2 // wrong usage, or input that can't be read
	exitFailed  = 1 // something failed for good
	exitPending = 3 // accepted and safe, and not delivered yet
	exitOK      = 0
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit status.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	root := newRoot(&app{stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	if silent, ok := errors.AsType[exitError](err); ok {
		return int(silent)
	}
	complain(stderr, err.Error())
	usage, isUsage := errors.AsType[usageError](err)
	if !isUsage {
		return exitFailed
	}
	if usage.show {
		_, _ = fmt.Fprintf(stderr, "usage: %s\nRun '%s --help' for more.\n", cmd.UseLine(), cmd.CommandPath())
	}
	return exitUsage
}

// exitError is an error of which everything was said already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a mistake in what the user gave: exit status 2.
type usageError struct {
	err  error
	show bool // how the command is used helps here
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// misused says that a command line is wrong.
func misused(format string, args ...any) error {
	return usageError{err: fmt.Errorf(format, args...), show: true}
}

// unreadable says that something which the command line names is wrong, unless that is mended by
// waiting.
func unreadable(err error) error {
	if err == nil || lodge.Classify(err).Class == lodge.ClassRetry {
		return err
	}
	return usageError{err: err}
}

// complain prints one line for people.
func complain(w io.Writer, message string) {
	_, _ = fmt.Fprintln(w, "lodge: "+clean(message))
}

// clean makes one line of text that a terminal shows as it is: servers, files and their
// names are not trusted with control characters.
func clean(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "lodge",
		Short: "Lodge signed attestations exactly once in transparency logs and OCI registries",
		Long: `lodge takes signed attestations (DSSE envelopes, Sigstore bundles) and lodges each one
exactly once in transparency logs (Rekor v1 and v2) and OCI registries. Lodging the same
content again finds the entry that is there and returns its receipt.

What push has accepted is durable: it survives a crash, and the next push goes on with it.

Exit status: 2 wrong usage or unreadable input, 1 something failed, 3 accepted and not
delivered yet, 0 all done; the first that applies.`,
		Example: `  lodge sign statement.json --key key.pem > statement.dsse.json
  lodge push statement.dsse.json --key key.pub --log https://rekor.example --log-key rekor.pub
  lodge status`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionText(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration `FILE` (default $XDG_CONFIG_HOME/lodge/lodge.yaml, if it is there)")
	root.PersistentFlags().StringVar(&a.state, "state", "", "folder `DIR` of the local store (default $XDG_STATE_HOME/lodge, else ~/.local/state/lodge)")
	root.SetFlagErrorFunc(misusedFlag)
	root.AddCommand(newPush(a), newKey(a), newStatus(a), newEvents(a), newHints(a), newBundle(a), newEvidence(a), newRetry(a), newSign(a), newVerify(a),
		newLog(a), newPolicy(a), newServe(a), newSink(a), newVersion(a))
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	group(root)
	for _, cmd := range root.Commands() {
		switch {
		case cmd.HasSubCommands():
			group(cmd)
		case cmd.Name() == "help":
			cmd.Args = knownTopic
		}
	}
	return root
}

// takes says how many arguments a command takes, and what they are.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misused("%s is missing", what)
		case most >= 0 && len(args) > most:
			return misused("too many arguments: %q", args[most])
		}
		return nil
	}
}

// format is the form of the output: text or json.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "text|json" }

func (f *format) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("want text or json")
	}
	*f = format(s)
	return nil
}

func (f *format) flag(cmd *cobra.Command) {
	*f = "text"
	cmd.Flags().VarP(f, "output", "o", "form of the output")
	forms := cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("output", forms) // fails where there is no such flag
}

func (f *format) json() bool { return *f == "json" }
