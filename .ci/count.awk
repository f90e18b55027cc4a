# SPDX-License-Identifier: Apache-2.0
#
# Counts test results in files of "go test -v" output: of every test that has
# none below it, and one failure for a package or run that failed without
# naming a test (it did not build, it ran out of time, its VM died). Prints
# "N passed, N failed" last; exit status 1 unless all passed and some did.

function flush(   name, parent) {
	for (name in verdict)
		for (parent = name; sub(/\/[^\/]*$/, "", parent); )
			if (parent in verdict)
				inner[parent] = 1
	for (name in verdict)
		if (!(name in inner) || (verdict[name] == "FAIL" && !failed_below(name)))
			count[verdict[name]]++
	delete verdict
	delete inner
}
function failed_below(name,   other) {
	for (other in verdict)
		if (index(other, name "/") == 1 && verdict[other] == "FAIL")
			return 1
	return 0
}
FNR == 1 && NR > 1 { flush(); failures = 0 }
{ gsub(/\026/, "") } # the mark of -test.v=test2json
match($0, /^ *--- (PASS|FAIL|SKIP): /) {
	word = substr($0, RSTART, RLENGTH)
	gsub(/[ :-]/, "", word)
	verdict[$3] = word
	if (word == "FAIL")
		failures++
}
/^FAIL[ \t]+[^ \t]+/ {
	if (failures == 0)
		count["FAIL"]++
}
/^(ok|FAIL|\?)[ \t]+[^ \t]+/ { flush(); failures = 0 }
END {
	flush()
	if (count["SKIP"] > 0)
		printf "%d skipped\n", count["SKIP"]
	printf "%d passed, %d failed\n", count["PASS"], count["FAIL"]
	exit !(count["FAIL"] == 0 && count["PASS"] > 0)
}
