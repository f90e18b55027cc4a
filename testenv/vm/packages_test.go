// SPDX-License-Identifier: Apache-2.0

// These tests pick kernels out of index text as Debian's archive has it.

package vm

import (
	"os"
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	ascending := []string{
		"1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-2", "1.0.1-1", "5.10.9-1", "5.10.46-1",
		"6.12.117-1~deb12u1", "6.12.117-1", "6.18.15-1~bpo13+1", "6.18.15-1", "1:0.1-1",
	}
	for i := range ascending {
		for j := range ascending {
			got := compareVersions(ascending[i], ascending[j])
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("compareVersions(%q, %q) = %d", ascending[i], ascending[j], got)
			}
		}
	}
	if compareVersions("1.01-1", "1.1-1") != 0 {
		t.Error("a leading zero makes a version differ")
	}
}

func TestNewestRelease(t *testing.T) {
	f, err := os.Open("testdata/Packages")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := parsePackages(f)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		line, release string
		packages      []string
	}{
		{"5.10", "5.10.0-46-cloud-amd64", []string{"linux-image-5.10.0-46-cloud-amd64"}},
		{"6.1", "6.1.0-56-cloud-amd64", []string{"linux-image-6.1.0-56-cloud-amd64"}},
		{"6.12", "6.12.117+deb13-cloud-amd64", []string{"linux-image-6.12.117+deb13-cloud-amd64-unsigned"}},
		{"6.18", "6.18.15+deb13-cloud-amd64", []string{"linux-image-6.18.15+deb13-cloud-amd64"}},
		// 7.3.5 has no modules in the index yet: the newest complete one is taken.
		{"7.3", "7.3.4+deb13-cloud-amd64", []string{"linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64", "linux-base-7.3.4+deb13-cloud-amd64"}},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			l, err := lineNamed(test.line)
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.newest(index)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range r.Packages {
				names = append(names, p.Name)
				if !l.wants(p.Name) {
					t.Errorf("%s would not have been looked up", p.Name)
				}
			}
			if r.Name != test.release || strings.Join(names, " ") != strings.Join(test.packages, " ") {
				t.Errorf("newest = %s of %v, want %s of %v", r.Name, names, test.release, test.packages)
			}
		})
	}
}

func TestNewestReleaseMissing(t *testing.T) {
	l, err := lineNamed("7.3")
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.newest([]pkg{{Name: "linux-binary-7.3.5+deb13-cloud-amd64", Version: "7.3.5-1"}})
	want := "kernel 7.3: no package of it in trixie-backports (linux-binary-7.3.5+deb13-cloud-amd64 has no linux-modules-7.3.5+deb13-cloud-amd64)"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func TestParsePackagesRejectsBadSize(t *testing.T) {
	if _, err := parsePackages(strings.NewReader("Package: p\nSize: big\n")); err == nil || !strings.Contains(err.Error(), "size of p") {
		t.Errorf("error = %v, want one that names the package", err)
	}
}

func TestLineNamedUnknown(t *testing.T) {
	if _, err := lineNamed("2.6"); err == nil || !strings.Contains(err.Error(), "choose one of 5.10, 6.1") {
		t.Errorf("error = %v, want the known kernels", err)
	}
}
