// SPDX-License-Identifier: Apache-2.0

package cause

// reasonWords says a drop reason of the kernel's in words.
func reasonWords(reason, _ string) (string, bool) {
	return reason, reason != "" && reason != "NOT_SPECIFIED"
}
