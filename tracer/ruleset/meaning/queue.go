// SPDX-License-Identifier: Apache-2.0

package meaning

import (
	"strconv"
	"strings"
)

// Queues gives the numbers of the queues that a rule sends packets to, first and
// last; ok is false where its text does not tell: it sends to none, or asks a map
// which. Its iptables form says --queue-num 7 or --queue-balance 1:3, nft's `queue
// to 7`, `queue flags bypass,fanout to 1-3`.
func Queues(text string) (first, last uint16, ok bool) {
	words := split(text)
	queue := false
	for i, w := range words[:max(0, len(words)-1)] {
		next := words[i+1].text
		switch {
		case w.is("--queue-num"):
			return numbers(next, "")
		case w.is("--queue-balance"):
			return numbers(next, ":")
		case w.is("queue"):
			queue = true
		case queue && (w.is("to") || w.is("num")):
			return numbers(next, "-")
		}
	}
	return 0, 0, false
}

// numbers reads one number, or two with something between.
func numbers(text, between string) (first, last uint16, ok bool) {
	a, b := text, text
	if between != "" {
		if x, y, two := strings.Cut(text, between); two {
			a, b = x, y
		}
	}
	from, err1 := strconv.ParseUint(a, 10, 16)
	to, err2 := strconv.ParseUint(b, 10, 16)
	return uint16(from), uint16(to), err1 == nil && err2 == nil && from <= to
}
