// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"fmt"
	"strings"
)

// bash gives completion for bash. It needs no other package's functions.
func (p Program) bash() string {
	var cases strings.Builder
	for _, f := range p.Flags {
		if f.Takes == "" {
			continue
		}
		fmt.Fprintf(&cases, "\t%s)\n\t\t%s\n\t\treturn\n\t\t;;\n", strings.Join(f.words(), " | "), p.bashValues(f))
	}
	var flags, commands []string
	for _, f := range p.Flags {
		flags = append(flags, "--"+f.Name)
	}
	var arguments strings.Builder
	for _, c := range p.Commands {
		commands = append(commands, c.Name)
		if len(c.Values) > 0 {
			fmt.Fprintf(&arguments, "\t%s)\n\t\t[ \"$COMP_CWORD\" -eq 2 ] && mapfile -t COMPREPLY < <(compgen -W %s -- \"$cur\")\n\t\treturn\n\t\t;;\n", c.Name, quote(strings.Join(c.Values, " ")))
		}
	}
	return strings.NewReplacer("@NAME@", p.Name, "@CASES@", cases.String(), "@ARGUMENTS@", arguments.String(),
		"@FLAGS@", quote(strings.Join(flags, " ")), "@COMMANDS@", quote(strings.Join(commands, " "))).Replace(bashScript)
}

func (p Program) bashValues(f Flag) string {
	words := quote(strings.Join(f.Values, " "))
	switch f.Kind {
	case Choice:
		return "_" + p.Name + "_words " + words
	case File:
		return "compopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
	case Interface:
		return "_" + p.Name + "_words " + words + "\" $(ls /sys/class/net 2>/dev/null)\""
	}
	return "COMPREPLY=()"
}

// bash cuts words at = and :, so that --output=j comes as three words, and
// tcp:80 too.
const bashScript = `# bash completion for @NAME@: source <(@NAME@ completion bash)

_@NAME@_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
	case ${COMPREPLY[0]-} in
	*[:/]) compopt -o nospace ;;
	esac
}

_@NAME@() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} word
	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		if [ "$word" = -- ]; then
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
			return
		fi
	done
	if [ "$cur" = = ]; then
		cur=
	elif [ "$prev" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $prev in
@CASES@	esac
	case ${COMP_WORDS[1]-} in
@ARGUMENTS@	esac
	case $cur in
	-*) mapfile -t COMPREPLY < <(compgen -W @FLAGS@ -- "$cur") ;;
	*) [ "$COMP_CWORD" -eq 1 ] && mapfile -t COMPREPLY < <(compgen -W @COMMANDS@ -- "$cur") ;;
	esac
}

complete -F _@NAME@ @NAME@
`
