# SPDX-License-Identifier: Apache-2.0
#
# Prints what one has to read of a failed "go test -v" output: for every test
# that failed its own lines and nobody else's (tests that run at once are mixed
# in the output), the innermost tests first; then what belongs to no test: a
# build's errors, a panic; and where the run was cut off, the tests that had no
# end yet and the last lines of all. To be given one file.
#
# A test's lines are those after the last mark "=== RUN|CONT|NAME name". More
# than -v lines=80 of them lose their middle. Of a flood of failures (more than
# -v tests=25) the rest is only named. With -v names=1 nothing but names is
# printed, one a line.

BEGIN {
	lines = lines ? lines : 80
	tests = tests ? tests : 25
}
{ gsub(/[\026\r]/, "") } # \026: the mark of -test.v=test2json
/^=== (RUN|CONT|NAME|PAUSE) / {
	if ($2 == "RUN")
		begun[++nbegun] = $3
	if ($2 != "PAUSE")
		owner = $3 # NAME without one: nobody's from here on
	next
}
match($0, /^ *--- (PASS|FAIL|SKIP): /) {
	word = substr($0, RSTART, RLENGTH)
	gsub(/[ :-]/, "", word)
	ended[$3] = 1
	if (word == "FAIL")
		failed[++nfailed] = $3
	owner = $3
	keep()
	if (!sub(/\/[^\/]*$/, "", owner))
		owner = "" # what comes now is its parent's, or nobody's
	next
}
/^(ok|\?)[ \t]+[^ \t]+/ { forget(); next }
/^FAIL[ \t]+[^ \t]+/ { finish($2); forget(); next }
/^(PASS|FAIL|exit status [0-9]+)$/ { next }
{
	if ($0 ~ /^(panic|fatal error): |^WARNING: DATA RACE/)
		owner = ""
	# what a VM says of itself in the end, where all it has to say is that tests failed
	if ($0 !~ /^ *$/ && $0 !~ /^vm [0-9.]+: .* exit 1, boots 1, /)
		says[owner] = 1
	keep()
}
END {
	finish("")
	if (rest != "")
		print "---- FAIL, not shown here:" rest
}

function keep() { text[owner, ++count[owner]] = $0 }

# One package's tests, or all of a test binary's.
function finish(package,   i, parent, unended) {
	for (i = 1; i <= nfailed; i++)
		for (parent = failed[i]; sub(/\/[^\/]*$/, "", parent); )
			above[parent] = 1
	for (i = 1; i <= nfailed; i++)
		if (!(failed[i] in above))
			tell(package, failed[i])
	for (i = 1; i <= nfailed; i++)
		if ((failed[i] in above) && (failed[i] in says))
			tell(package, failed[i])
	for (i = 1; i <= nbegun; i++)
		if (!(begun[i] in ended))
			unended = unended "\n     " begun[i]
	if (names) {
		if (nfailed == 0 && package != "")
			print package
		return
	}
	if ("" in says)
		show("of no test" (package == "" ? "" : ", in " package), "")
	if (unended != "")
		last(package, unended)
}

function tell(package, name) {
	if (names)
		print name
	else if (++told <= tests)
		show("FAIL: " name (package == "" ? "" : ", in " package), name)
	else
		rest = rest "\n     " name
}

# The first and the last of a test's lines; none is wider than a screenful.
function show(title, name,   i, n) {
	print "---- " title
	n = count[name]
	for (i = 1; i <= n; i++) {
		if (n > lines && i == int(lines / 2) + 1) {
			printf "     ... %d lines left out ...\n", n - lines
			i = n - (lines - int(lines / 2)) + 1
		}
		print (length(text[name, i]) > 2000 ? substr(text[name, i], 1, 2000) " ..." : text[name, i])
	}
}

# What a run that was cut off was at.
function last(package, unended,   i, n) {
	print "---- no end seen" (package == "" ? "" : ", in " package) ":" unended
	n = count[owner]
	if (owner == "" || n == 0)
		return
	print "---- the last lines" ", of " owner
	for (i = n > 20 ? n - 19 : 1; i <= n; i++)
		print text[owner, i]
}

function forget() {
	split("", text); split("", count); split("", says); split("", failed)
	split("", above); split("", ended); split("", begun)
	nfailed = nbegun = 0
	owner = ""
}
