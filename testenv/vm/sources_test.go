// SPDX-License-Identifier: Apache-2.0

// These tests read the apt sources of machines as one meets them.

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindMirror(t *testing.T) {
	const template = "ChangelogURI: https://example.org/%s\n\nSuite: {series}\nRepositoryType: deb\nBaseURI: https://mirror.example.org/debian/\nDescription: Debian\n\nSuite: {series}-security\nBaseURI: https://security.example.org/\n"
	tests := []struct {
		name     string
		files    map[string]string
		variable string
		template string
		want     mirror
		wantErr  string
	}{
		{
			name: "stanza format",
			files: map[string]string{"sources.list.d/debian.sources": "Types: deb deb-src\n# a comment\nURIs: http://mirror.example.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n" +
				"Types: deb\nURIs: http://mirror.example.org/debian-security\nSuites: bookworm-security\nComponents: main\n"},
			want: mirror{main: "http://mirror.example.org/debian", security: "http://mirror.example.org/debian-security"},
		},
		{
			name: "one-line format with options",
			files: map[string]string{"sources.list": "# deb http://old.example.org/debian bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example.org/debian/ bookworm main contrib # ours\ndeb-src http://mirror.example.org/debian bookworm main\n" +
				"deb http://security.example.org/debian-security bookworm-security main\n"},
			want: mirror{main: "http://mirror.example.org/debian/", security: "http://security.example.org/debian-security"},
		},
		{
			name: "mirror list file of the cloud images",
			files: map[string]string{"sources.list.d/debian.sources": "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main\n\n" +
				"Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian-security.list\nSuites: bookworm-security\nComponents: main\n"},
			want: mirror{main: "mirror+file:///etc/apt/mirrors/debian.list", security: "mirror+file:///etc/apt/mirrors/debian-security.list"},
		},
		{
			name: "another vendor with Debian's codenames comes first",
			files: map[string]string{
				"sources.list.d/a.list":         "deb https://vendor.example.com bookworm main\n",
				"sources.list.d/b.sources.save": "Types: deb\nURIs: http://no.example.org/debian\nSuites: bookworm\n",
				"sources.list.d/debian.sources": "Types: deb\nEnabled: no\nURIs: http://off.example.org/debian\nSuites: bookworm\n\nTypes: deb\nURIs: http://mirror.example.org/linux\nSuites: bookworm\n bookworm-updates\n",
			},
			want: mirror{main: "http://mirror.example.org/linux"},
		},
		{
			name:     "ubuntu",
			files:    map[string]string{"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://mirror.example.org/ubuntu\nSuites: noble noble-updates noble-security\nComponents: main\n"},
			template: template,
			want:     mirror{main: "https://mirror.example.org/debian"},
		},
		{name: "the variable wins", variable: "http://archive.example.org/debian", template: template, want: mirror{main: "http://archive.example.org/debian"}},
		{name: "nothing known", wantErr: "install python-apt-common or set " + MirrorVariable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(MirrorVariable, test.variable)
			etc := t.TempDir()
			for name, text := range test.files {
				write(t, filepath.Join(etc, name), text)
			}
			templates := filepath.Join(etc, "debian.info")
			if test.template != "" {
				write(t, templates, test.template)
			}
			got, err := findMirror(etc, templates)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Fatalf("error = %v, want %q in it", err, test.wantErr)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("findMirror = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestSourcesListLeavesOutUnknownSecurity(t *testing.T) {
	got := sourcesList(mirror{main: "http://mirror.example.org/debian"}, []string{"bookworm", "bookworm-security"})
	if want := "deb [signed-by=" + archiveKeyring + "] http://mirror.example.org/debian bookworm main\n"; got != want {
		t.Errorf("sources = %q, want %q", got, want)
	}
}

func TestFilterAcquireKeepsWhatReachesTheMirror(t *testing.T) {
	got := filterAcquire("APT::Update::Post-Invoke:: \"rm\";\nAcquire::http::Proxy \"http://proxy.example.org:3128\";\nAcquire::IndexTargets::deb::Packages \"\";\nAcquire::Check-Valid-Until \"false\";\n")
	if want := "Acquire::http::Proxy \"http://proxy.example.org:3128\";\nAcquire::Check-Valid-Until \"false\";\n"; got != want {
		t.Errorf("filterAcquire = %q, want %q", got, want)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
