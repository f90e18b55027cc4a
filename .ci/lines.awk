# SPDX-License-Identifier: Apache-2.0
#
# Reads the output of "go test -v" as it comes and prints one line for every
# test that has none below it, with a label in front (-v label=NAME), or with
# -v packages=1 one for every package.

{ gsub(/\026/, "") } # the mark of -test.v=test2json
match($0, /^ *--- (PASS|FAIL|SKIP): /) && !packages {
	verdict = substr($0, RSTART, RLENGTH)
	gsub(/[ :-]/, "", verdict)
	name = $3
	for (parent = name; sub(/\/[^\/]*$/, "", parent); )
		above[parent] = 1
	if (!(name in above)) {
		printf "%-8s %-4s %s %s\n", label, (verdict == "PASS" ? "ok" : verdict), name, $4
		fflush()
	}
}
/^(ok|FAIL|\?)[ \t]+[^ \t]+/ {
	delete above
	if (packages) {
		print
		fflush()
	}
}
/^vm / { print; fflush() }
