// SPDX-License-Identifier: Apache-2.0

package cause

// Commands of a fix are pasted into a root shell, and hold names and comments that anybody
// may have written: a comment such as $(reboot) must stay one.

import (
	"regexp"
	"strings"
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
