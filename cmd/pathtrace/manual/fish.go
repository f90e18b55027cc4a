// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"fmt"
	"strings"
)

// fish gives completion for fish.
func (p Program) fish() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %[1]s: %[1]s completion fish | source\n\n", p.Name)
	fmt.Fprintf(&b, "complete -c %s -f\n", p.Name)
	for _, c := range p.Commands {
		fmt.Fprintf(&b, "complete -c %s -n __fish_is_first_token -a %s -d %s\n", p.Name, c.Name, fishQuote(short(c.Says)))
		if len(c.Values) > 0 {
			fmt.Fprintf(&b, "complete -c %s -n %s -a %s\n", p.Name, fishQuote("__fish_seen_subcommand_from "+c.Name), fishQuote(strings.Join(c.Values, " ")))
		}
	}
	for _, f := range p.Flags {
		fmt.Fprintf(&b, "complete -c %s", p.Name)
		if f.Short != "" {
			fmt.Fprintf(&b, " -s %s", f.Short)
		}
		fmt.Fprintf(&b, " -l %s%s -d %s\n", f.Name, fishValue(f), fishQuote(short(f.Says)))
	}
	return b.String()
}

func fishValue(f Flag) string {
	values := fishQuote(strings.Join(f.Values, " "))
	switch {
	case f.Takes == "":
		return ""
	case f.Kind == File:
		return " -r -F"
	case f.Kind == Choice:
		return " -x -a " + values
	case f.Kind == Interface:
		return " -x -a " + fishQuote(strings.Join(f.Values, " ")+" (__fish_print_interfaces)")
	}
	return " -x"
}

// fishQuote makes text one word; in fish's quotes only two characters are not
// themselves.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
