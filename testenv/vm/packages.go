// SPDX-License-Identifier: Apache-2.0

// This file picks the packages of one kernel out of a Debian package index:
// index text in, the newest complete set out.

package vm

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// pkg is one version of one package in an index.
type pkg struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Size    int64  `json:"size"` // bytes
}

// release is a bootable kernel: its uname -r and the packages it is made of,
// the one with vmlinuz first.
type release struct {
	Name     string `json:"release"`
	Packages []pkg  `json:"packages"`
}

// parsePackages reads the stanzas of a Packages file (deb-control(5) syntax;
// the fields not needed here are skipped).
func parsePackages(r io.Reader) ([]pkg, error) {
	var (
		found []pkg
		p     pkg
	)
	flush := func() {
		if p.Name != "" {
			found = append(found, p)
		}
		p = pkg{}
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), 4<<20)
	for sc.Scan() {
		text := sc.Text()
		if text == "" {
			flush()
			continue
		}
		key, value, ok := strings.Cut(text, ":")
		if !ok || strings.HasPrefix(text, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("package index: size of %s: %w", p.Name, err)
			}
			p.Size = n
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("package index: %w", err)
	}
	flush()
	return found, nil
}

// newest returns the newest release of l whose packages are all in the index.
func (l line) newest(index []pkg) (release, error) {
	images := slices.DeleteFunc(slices.Clone(index), func(p pkg) bool { return !l.image.MatchString(p.Name) })
	slices.SortStableFunc(images, func(a, b pkg) int {
		if c := compareVersions(b.Version, a.Version); c != 0 {
			return c
		}
		return cmp.Compare(len(a.Name), len(b.Name)) // the signed twin has the shorter name
	})
	var missing string
	for _, image := range images {
		r := release{Name: l.image.FindStringSubmatch(image.Name)[1], Packages: []pkg{image}}
		companions, lacks := l.companionsOf(r.Name, index)
		if lacks == "" {
			r.Packages = append(r.Packages, companions...)
			return r, nil
		}
		if missing == "" {
			missing = fmt.Sprintf(" (%s has no %s)", image.Name, lacks)
		}
	}
	return release{}, fmt.Errorf("kernel %s: no package of it in %s%s", l.name, strings.Join(l.suites, ", "), missing)
}

// companionsOf finds the packages that belong to a release beside its image;
// lacks names the first that is not in the index.
func (l line) companionsOf(name string, index []pkg) (found []pkg, lacks string) {
	for _, pattern := range l.companions {
		want := fmt.Sprintf(pattern, name)
		var best pkg
		for _, p := range index {
			if p.Name == want && (best.Name == "" || compareVersions(p.Version, best.Version) > 0) {
				best = p
			}
		}
		if best.Name == "" {
			return nil, want
		}
		found = append(found, best)
	}
	return found, ""
}

// compareVersions orders two Debian package versions as deb-version(7) says:
// epoch, upstream version, revision; digits by value, letters before the rest,
// and a tilde before everything, the end included.
func compareVersions(a, b string) int {
	epochA, upstreamA, revisionA := splitVersion(a)
	epochB, upstreamB, revisionB := splitVersion(b)
	return cmp.Or(
		compareVersionPart(epochA, epochB),
		compareVersionPart(upstreamA, upstreamB),
		compareVersionPart(revisionA, revisionB),
	)
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

func compareVersionPart(a, b string) int {
	isDigit := func(r rune) bool { return '0' <= r && r <= '9' }
	for a != "" || b != "" {
		textA, textB := span(a, isDigit, false), span(b, isDigit, false)
		if c := compareVersionText(textA, textB); c != 0 {
			return c
		}
		a, b = a[len(textA):], b[len(textB):]
		numberA, numberB := span(a, isDigit, true), span(b, isDigit, true)
		trimmedA, trimmedB := strings.TrimLeft(numberA, "0"), strings.TrimLeft(numberB, "0")
		if c := cmp.Or(cmp.Compare(len(trimmedA), len(trimmedB)), cmp.Compare(trimmedA, trimmedB)); c != 0 {
			return c
		}
		a, b = a[len(numberA):], b[len(numberB):]
	}
	return 0
}

// span returns the longest prefix of s whose runes all have (or all lack) the
// property.
func span(s string, property func(rune) bool, has bool) string {
	i := strings.IndexFunc(s, func(r rune) bool { return property(r) != has })
	if i < 0 {
		return s
	}
	return s[:i]
}

func compareVersionText(a, b string) int {
	weight := func(s string, i int) int {
		switch {
		case i >= len(s):
			return 0
		case s[i] == '~':
			return -1
		case s[i] >= 'A' && s[i] <= 'Z' || s[i] >= 'a' && s[i] <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}
