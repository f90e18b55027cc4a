# SPDX-License-Identifier: Apache-2.0
#
# What the scripts in this folder share. To be sourced, with the repository as
# the current folder.

PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

die() {
	echo "$*" >&2
	exit 1
}

# as_root COMMAND...: run it as root, with the caller's environment.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -E env "PATH=$PATH" "$@"
	else
		die "this needs root: run it as root, or install sudo"
	fi
}

# go_wanted: the Go version go.mod asks for.
go_wanted() {
	awk '$1 == "go" { print $2; exit }' go.mod
}

# at_least HAVE WANT: compare dotted versions.
at_least() {
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]
}

# go_version PROGRAM: its own version, such as 1.22.2.
go_version() {
	GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//'
}

# go_toolchain: where the Go module proxy's tool chain lies once it is fetched.
go_toolchain() {
	echo "$(GOTOOLCHAIN=local GOFLAGS= go env GOMODCACHE)/golang.org/toolchain@v0.0.1-go$(go_wanted).linux-amd64"
}
