// SPDX-License-Identifier: Apache-2.0

// This file is the one place that knows which kernels the tests run on and
// under which package names Debian ships them.

package vm

import (
	"fmt"
	"regexp"
	"strings"
)

// A line is a kernel series that tests ask for by name, such as "6.12".
type line struct {
	name string
	// suites of Debian's archive that carry the series. A suite ending in
	// "-security" is used where the host's sources say where it lies.
	suites []string
	// image matches the name of the package that holds vmlinuz; its first
	// group is the kernel release (uname -r).
	image *regexp.Regexp
	// companions are further packages of the same release, "%s" standing for
	// the release: from Linux 7.2 on Debian ships image, modules and module
	// lists apart.
	companions []string
}

// Package names, "%s" standing for the start of the release.
const (
	imageWhole = `^linux-image-(%s[0-9][0-9a-z.+~-]*-cloud-amd64)(?:-unsigned)?$`
	imageApart = `^linux-binary-(?:unsigned-)?(%s[0-9][0-9a-z.+~-]*-cloud-amd64)$`
)

// lines lists every kernel series known here, oldest first.
func lines() []line {
	return []line{
		{name: "5.10", suites: []string{"bullseye", "bullseye-security"}, image: imagePattern(imageWhole, "5.10.0-")},
		{name: "6.1", suites: []string{"bookworm", "bookworm-security"}, image: imagePattern(imageWhole, "6.1.0-")},
		{name: "6.12", suites: []string{"trixie", "trixie-security"}, image: imagePattern(imageWhole, "6.12.")},
		{name: "6.18", suites: []string{"trixie-backports"}, image: imagePattern(imageWhole, "6.18.")},
		{name: "7.3", suites: []string{"trixie-backports"}, image: imagePattern(imageApart, "7.3."), companions: []string{"linux-modules-%s", "linux-base-%s"}},
	}
}

func imagePattern(format, series string) *regexp.Regexp {
	return regexp.MustCompile(fmt.Sprintf(format, regexp.QuoteMeta(series)))
}

// Lines names the kernel series that can be booted, oldest first.
func Lines() []string {
	var names []string
	for _, l := range lines() {
		names = append(names, l.name)
	}
	return names
}

func lineNamed(name string) (line, error) {
	for _, l := range lines() {
		if l.name == name {
			return l, nil
		}
	}
	return line{}, fmt.Errorf("kernel %q is not known: choose one of %s", name, strings.Join(Lines(), ", "))
}
