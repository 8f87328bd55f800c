package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lodgehq/lodge/node"
)

// misusedFlag says what is wrong with a flag, in words that don't come from the parser.
func misusedFlag(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		// One dash before a long name, as package flag takes it.
		name, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "=")
		if len(name) > 1 && cmd.Flags().Lookup(name) != nil {
			return misused("unknown flag: -%s (did you mean --%s?)", name, name)
		}
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := invalid.GetFlag()
		return misused("--%s %q: %w", flag.Name, invalid.GetValue(), wanted(flag, errors.Unwrap(invalid)))
	}
	return usageError{err: err, show: true}
}

// wanted says what a flag takes, where the error is one of the parser.
func wanted(flag *pflag.Flag, err error) error {
	if _, ok := errors.AsType[*strconv.NumError](err); ok {
		return errors.New("want a number")
	}
	if flag.Value.Type() == "duration" {
		return errors.New("want a time such as 30s or 10m")
	}
	return err
}

// group makes a command that has others be no command by itself: it shows its help.
func group(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = noSuchCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// noSuchCommand refuses arguments of a group: they were to be a command.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	_, names, _ := strings.Cut(cmd.CommandPath()+" "+args[0], " ")
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return misused("there is no command %q (did you mean %s?)", names, strings.Join(like, " or "))
	}
	return misused("there is no command %q", names)
}

// knownTopic refuses to give help on what is no command.
func knownTopic(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err == nil && found.HasSubCommands() {
		err = noSuchCommand(found, rest)
	}
	return err
}

// configFile says where the configuration is, or would be looked for.
func (a *app) configFile() string {
	if a.configPath != "" {
		return a.configPath
	}
	path, err := node.DefaultConfigPath()
	if err != nil {
		return "a file that --config names"
	}
	return path + " (or name a file with --config)"
}
