// SPDX-License-Identifier: Apache-2.0

// A rule's line in iptables-save's form, which both iptables backends share.

package meaning

import "strings"

// saveActions are the targets whose name is not what they do. Any other name is
// that of a chain (a jump), or of an extension that lets the packet go on.
var saveActions = map[string]string{
	"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return",
	"QUEUE": "queue", "NFQUEUE": "queue",
	"DNAT": "nat", "SNAT": "nat", "MASQUERADE": "nat", "REDIRECT": "nat", "NETMAP": "nat",
	"MARK": "continue", "CONNMARK": "continue", "LOG": "continue", "NFLOG": "continue",
	"NOTRACK": "continue", "CT": "continue", "TCPMSS": "continue", "TRACE": "continue",
	"CLASSIFY": "continue", "SET": "continue", "DSCP": "continue", "TOS": "continue",
	"TTL": "continue", "HL": "continue", "CHECKSUM": "continue", "AUDIT": "continue",
	"CONNSECMARK": "continue", "SECMARK": "continue", "TEE": "continue",
	"TPROXY": "accept", "SYNPROXY": "drop",
}

func parseSaveLine(words []word) line {
	l := line{markOnly: true, action: "continue"}
	for i := 0; i < len(words); i++ {
		at := func(n int) string {
			if i+n < len(words) {
				return words[i+n].text
			}
			return ""
		}
		switch w := words[i]; {
		case i == 0 && strings.HasPrefix(w.text, "["): // counters
		case w.is("-A"):
			i++
		case w.is("-m") && at(1) == "comment" && at(2) == "--comment":
			l.comments = append(l.comments, at(3))
			i += 3
			continue
		case w.is("-m") && at(1) == "mark":
			test, n := parseSaveMark(words[i+2:])
			if n == 0 {
				l.markOnly = false
				break
			}
			l.tests = append(l.tests, test)
			i += 1 + n
		case w.is("-j") || w.is("-g"):
			l.setTarget(w.text, at(1))
			l.effect = saveMarkEffect(l.target, words[i:])
			l.words = append(l.words, words[i:]...)
			return l
		default:
			l.markOnly = false
		}
		l.words = append(l.words, words[min(i, len(words)-1)])
	}
	return l
}

// setTarget tells what -j or -g with a name does.
func (l *line) setTarget(option, name string) {
	l.target = name
	switch action, known := saveActions[name]; {
	case option == "-g":
		l.action = "goto"
	case known:
		l.action = action
	default:
		l.action = "jump"
	}
}
