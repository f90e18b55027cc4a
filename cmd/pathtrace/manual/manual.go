// SPDX-License-Identifier: Apache-2.0

// Package manual makes what comes with a command-line program from the
// description of its flags: the manual page (page.go) and completion for shells
// (bash.go, zsh.go, fish.go). It knows nothing of what the flags do.
package manual

import (
	"fmt"
	"strings"
)

// Kind is how a flag's value is completed.
type Kind int

// Kinds.
const (
	Free      Kind = iota // anything
	Choice                // one of Values
	File                  // a path
	Interface             // a network interface's name, or one of Values
)

// Flag is one flag.
type Flag struct {
	Name   string
	Short  string // one letter; "" for none
	Takes  string // what its value is called; "" for a switch
	Says   string
	Kind   Kind
	Values []string
}

// Command is a subcommand.
type Command struct {
	Name   string
	Takes  string
	Values []string // of its argument
	Says   string
}

// Section is a part of the manual page.
type Section struct {
	Title string
	Text  []string // paragraphs
}

// Exit is an exit status.
type Exit struct{ Status, Means string }

// Example is a command line.
type Example struct{ Line, Says string }

// Sections is what the manual page says beyond flags and subcommands.
type Sections struct {
	Does        string // the program in half a sentence
	Synopsis    []string
	Description []string
	More        []Section
	Exit        []Exit
	Examples    []Example
	SeeAlso     []string
}

// Program is what is described.
type Program struct {
	Name     string
	Version  string
	Flags    []Flag
	Commands []Command
	Sections Sections
}

// completions are the shells that there is completion for.
func completions() []struct {
	shell string
	write func(Program) string
} {
	return []struct {
		shell string
		write func(Program) string
	}{{"bash", Program.bash}, {"zsh", Program.zsh}, {"fish", Program.fish}}
}

// Shells lists the shells that Completion knows.
func Shells() []string {
	var names []string
	for _, c := range completions() {
		names = append(names, c.shell)
	}
	return names
}

// Completion gives the completion script of a shell.
func (p Program) Completion(shell string) (string, error) {
	for _, c := range completions() {
		if c.shell == shell {
			return c.write(p), nil
		}
	}
	return "", fmt.Errorf("unknown shell %q: use one of %s", shell, strings.Join(Shells(), ", "))
}

// short is the first sentence of what a flag or subcommand says, without its
// full stop: the one line that fits beside it.
func short(says string) string {
	first, _, _ := strings.Cut(says, ". ")
	first, _, _ = strings.Cut(first, "; ")
	first, _, _ = strings.Cut(first, ": ")
	return strings.TrimSuffix(first, ".")
}

// words gives a flag's spellings: -s, --src.
func (f Flag) words() []string {
	if f.Short == "" {
		return []string{"--" + f.Name}
	}
	return []string{"-" + f.Short, "--" + f.Name}
}

// quote makes text one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
