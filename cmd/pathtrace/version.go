// SPDX-License-Identifier: Apache-2.0

// version.go tells which pathtrace this is.

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker in a release build
// (-ldflags "-X main.release=0.1.0") and never assigned here.
var release string

// version gives the release, else what the Go toolchain recorded of the source
// the program was built from, else "devel".
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

func versionText() string {
	return fmt.Sprintf("pathtrace %s (%s/%s, %s)\n", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
