// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"fmt"
	"strings"
)

// zsh gives completion for zsh, by its own _arguments.
func (p Program) zsh() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %[1]s\n# zsh completion for %[1]s: %[1]s completion zsh > \"${fpath[1]}/_%[1]s\"\n\n_%[1]s() {\n", p.Name)
	b.WriteString("\tlocal -a commands=(\n")
	for _, c := range p.Commands {
		fmt.Fprintf(&b, "\t\t%s\n", quote(c.Name+":"+zshText(short(c.Says))))
	}
	b.WriteString("\t)\n\tif (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n\t\t_describe command commands\n\t\treturn\n\tfi\n")
	for _, c := range p.Commands {
		if len(c.Values) > 0 {
			fmt.Fprintf(&b, "\tif [[ $words[2] == %s ]]; then\n\t\t(( CURRENT == 3 )) && compadd -- %s\n\t\treturn\n\tfi\n", c.Name, strings.Join(c.Values, " "))
		}
	}
	b.WriteString("\tlocal dashes=${words[(i)--]}\n\tif (( CURRENT > dashes )); then\n\t\tshift $dashes words\n\t\t(( CURRENT -= dashes ))\n\t\t_normal\n\t\treturn\n\tfi\n")
	var specs []string
	for _, f := range p.Flags {
		for _, w := range f.words() {
			specs = append(specs, quote("("+strings.Join(f.words(), " ")+")"+zshWord(f, w)+"["+zshText(short(f.Says))+"]"+zshValue(f)))
		}
	}
	b.WriteString("\t_arguments -s -S \\\n\t\t" + strings.Join(specs, " \\\n\t\t"))
	fmt.Fprintf(&b, "\n}\n\nif [ \"$funcstack[1]\" = _%[1]s ]; then\n\t_%[1]s \"$@\"\nelse\n\tcompdef _%[1]s %[1]s\nfi\n", p.Name)
	return b.String()
}

// zshWord is a flag's spelling, with how its value may follow.
func zshWord(f Flag, word string) string {
	switch {
	case f.Takes == "":
		return word
	case strings.HasPrefix(word, "--"):
		return word + "="
	}
	return word + "+"
}

func zshValue(f Flag) string {
	switch {
	case f.Takes == "":
		return ""
	case f.Kind == File:
		return ":" + f.Takes + ":_files"
	case f.Kind == Choice:
		return ":" + f.Takes + ":(" + zshText(strings.Join(f.Values, " ")) + ")"
	case f.Kind == Interface:
		return ":" + f.Takes + ":_net_interfaces"
	}
	return ":" + f.Takes + ": "
}

// zshText makes text mean itself within a specification.
func zshText(text string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, "[", `\[`, "]", `\]`).Replace(text)
}
