// SPDX-License-Identifier: Apache-2.0

// This file finds out where the host gets its Debian packages from, so that
// kernels come from the same mirror, through the same proxy and checked with
// the same keys. It reads the host's apt configuration and changes nothing.

package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// MirrorVariable is the environment variable that names the Debian mirror to
// fetch kernels from (a base URI as in sources.list), for hosts whose own apt
// sources do not tell one or where another is wanted.
const MirrorVariable = "PATHTRACE_DEBIAN_MIRROR"

// mirror is where Debian's suites lie.
type mirror struct {
	main     string // base URI of the main archive
	security string // base URI of the security archive; empty: not known
}

// base returns the URI a suite is to be fetched from; false: this mirror has
// no place for it.
func (m mirror) base(suite string) (string, bool) {
	if strings.HasSuffix(suite, "-security") {
		return m.security, m.security != ""
	}
	return m.main, true
}

// source is one entry of the host's apt sources.
type source struct {
	uris, suites, components []string
}

// findMirror reads the host's apt configuration below etc (/etc/apt). The
// order: MirrorVariable, the host's own Debian sources, and the mirror that
// the distribution's python-apt-common package names for Debian (templates).
func findMirror(etc, templates string) (mirror, error) {
	if uri := os.Getenv(MirrorVariable); uri != "" {
		return mirror{main: uri}, nil
	}
	sources, err := readSources(etc)
	if err != nil {
		return mirror{}, err
	}
	if m := debianMirror(sources); m.main != "" {
		return m, nil
	}
	m, err := templateMirror(templates)
	if err != nil {
		return mirror{}, fmt.Errorf("no Debian mirror known on this machine: its apt sources name none and %w; install python-apt-common or set %s to a mirror's base URI", err, MirrorVariable)
	}
	return m, nil
}

func readSources(etc string) ([]source, error) {
	names, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, fmt.Errorf("apt sources in %s: %w", etc, err)
	}
	var all []source
	for _, name := range append([]string{filepath.Join(etc, "sources.list")}, names...) {
		parse := map[string]func(string) []source{".list": parseOneLine, ".sources": parseDeb822}[filepath.Ext(name)]
		if parse == nil {
			continue
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("apt sources: %w", err)
		}
		all = append(all, parse(string(text))...)
	}
	return all, nil
}

// parseOneLine reads the one-line format: deb [options] uri suite component...
func parseOneLine(text string) []source {
	var found []source
	for raw := range strings.Lines(text) {
		raw, _, _ = strings.Cut(raw, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(raw), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) >= 2 {
			found = append(found, source{uris: f[:1], suites: f[1:2], components: f[2:]})
		}
	}
	return found
}

// parseDeb822 reads the stanza format of *.sources files.
func parseDeb822(text string) []source {
	var found []source
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := deb822Fields(stanza)
		if !slices.Contains(fields["types"], "deb") || slices.Equal(fields["enabled"], []string{"no"}) {
			continue
		}
		found = append(found, source{uris: fields["uris"], suites: fields["suites"], components: fields["components"]})
	}
	return found
}

// deb822Fields splits the values of one stanza at white space; keys come out
// in lower case, comments and continuation lines are understood.
func deb822Fields(stanza string) map[string][]string {
	fields := map[string][]string{}
	var key string
	sc := bufio.NewScanner(strings.NewReader(stanza))
	for sc.Scan() {
		text := sc.Text()
		if strings.HasPrefix(text, "#") {
			continue
		}
		value := text
		if !strings.HasPrefix(text, " ") && !strings.HasPrefix(text, "\t") {
			var ok bool
			if key, value, ok = strings.Cut(text, ":"); !ok {
				continue
			}
			key = strings.ToLower(strings.TrimSpace(key))
		}
		fields[key] = append(fields[key], strings.Fields(value)...)
	}
	return fields
}

// debianMirror picks Debian's own archives out of a host's sources. Other
// vendors use Debian's codenames too, so the main archive must also carry the
// codename's -updates or -backports suite, or end in /debian.
func debianMirror(sources []source) mirror {
	codenames := []string{"bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable"}
	suitesOf := map[string][]string{}
	var order []string
	for _, s := range sources {
		for _, uri := range s.uris {
			if !slices.Contains(order, uri) {
				order = append(order, uri)
			}
			suitesOf[uri] = append(suitesOf[uri], s.suites...)
		}
	}
	var m mirror
	for _, uri := range order {
		for _, suite := range suitesOf[uri] {
			codename, kind, _ := strings.Cut(suite, "-")
			if !slices.Contains(codenames, codename) {
				continue
			}
			own := slices.Contains(suitesOf[uri], codename+"-updates") || slices.Contains(suitesOf[uri], codename+"-backports") ||
				path.Base(strings.TrimRight(uri, "/")) == "debian"
			switch {
			case kind == "" && own && m.main == "":
				m.main = uri
			case kind == "security" && m.security == "":
				m.security = uri
			}
		}
	}
	return m
}

// templateMirror reads the base URI that a distribution's own list of mirrors
// (python-apt-common) gives for Debian, on hosts that are not Debian.
func templateMirror(file string) (mirror, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return mirror{}, fmt.Errorf("%s, the distribution's own list of mirrors, cannot be read: %w", file, errors.Unwrap(err))
	}
	for stanza := range strings.SplitSeq(string(text), "\n\n") {
		fields := deb822Fields(stanza)
		if slices.Equal(fields["suite"], []string{"{series}"}) && len(fields["baseuri"]) == 1 {
			return mirror{main: strings.TrimRight(fields["baseuri"][0], "/")}, nil
		}
	}
	return mirror{}, fmt.Errorf("%s names no base URI", file)
}
