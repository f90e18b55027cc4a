# SPDX-License-Identifier: Apache-2.0
#
# Prints of a "go test -v" output the packages that failed, whole, and what
# belongs to no package (a run that was cut off).

{ text = text $0 "\n" }
/^FAIL[ \t]+[^ \t]+/ { printf "%s", text; text = "" }
/^(ok|\?)[ \t]+[^ \t]+/ { text = "" }
END { printf "%s", text }
