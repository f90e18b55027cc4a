// SPDX-License-Identifier: Apache-2.0

package cause

// Commands of a fix are pasted into a root shell, and hold names and comments that anybody
// may have written: a comment such as $(reboot) must stay one.

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var (
	plainWord = regexp.MustCompile(`^(?:[A-Za-z0-9_@%+=:,./-]+|!)$`)
	// plainText is what double quotes keep as it is: no $, `, \, " or !.
	plainText = regexp.MustCompile("^[^$`\\\\\"!\\n]*$")
	// savedWord is a word as iptables-save prints it: bare, or in double quotes with
	// backslashes before quotes and backslashes (xtables_save_string, iptables 1.8).
	savedWord = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"]\S*`)
	unescape  = regexp.MustCompile(`\\(.)`)
)

// shellWord is a name as one word of a shell's command.
func shellWord(name string) string {
	if plainWord.MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// shellRule is a rule as iptables-save prints it, as words of a shell's command that mean
// the same.
func shellRule(text string) string {
	return savedWord.ReplaceAllStringFunc(text, func(word string) string {
		inner, inQuotes := strings.CutPrefix(word, `"`)
		if !inQuotes {
			return shellWord(word)
		}
		if inner = strings.TrimSuffix(inner, `"`); plainText.MatchString(inner) {
			return word
		}
		return shellWord(unescape.ReplaceAllString(inner, "$1"))
	})
}

// oddNames quotes the names of interfaces that hold what a shell would take for more: a pod
// may call its own as it likes, spaces and slashes aside (dev_valid_name, net/core/dev.c,
// 6.12). nil: there are none.
func (c *Collector) oddNames() *strings.Replacer {
	var odd []string
	for _, netns := range []uint32{c.state.Node(), c.start.Src.Netns, c.start.Dst.Netns} {
		links, err := c.state.Links(netns)
		if err != nil || netns == 0 {
			continue // it was, and was missed, when the finding was made
		}
		for _, l := range links {
			if !plainWord.MatchString(l.Name) && !slices.Contains(odd, l.Name) {
				odd = append(odd, l.Name)
			}
		}
	}
	if len(odd) == 0 {
		return nil
	}
	slices.SortFunc(odd, func(a, b string) int { return len(b) - len(a) }) // what holds another goes first
	var pairs []string
	for _, name := range odd {
		pairs = append(pairs, shellWord(name), shellWord(name), name, shellWord(name)) // what is quoted stays so
	}
	return strings.NewReplacer(pairs...)
}

// pasteable quotes odd names in the commands of a fix.
func pasteable(f model.Finding, odd *strings.Replacer) model.Finding {
	if odd == nil {
		return f
	}
	f.Fix = slices.Clone(f.Fix)
	for i := range f.Fix {
		f.Fix[i] = odd.Replace(f.Fix[i])
	}
	return f
}
