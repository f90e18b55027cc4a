// SPDX-License-Identifier: Apache-2.0

// render.go makes the page into one HTML file. Style and script stand inside and
// nothing else may: the file's own policy forbids a browser to load anything, and
// to run or apply what is not exactly these two.

package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"strings"
	"unicode"

	"github.com/pathtrace/pathtrace/output/text"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// document is what page.html is executed with.
type document struct {
	*page
	Style  template.CSS
	Script template.JS
	Policy string
}

// policy is the Content-Security-Policy of the file. A page that is opened from
// disk has no headers, so it says this itself.
func policy(style, script string) string {
	return strings.Join([]string{
		"default-src 'none'", "style-src " + hash(style), "script-src " + hash(script), "img-src data:",
		"base-uri 'none'", "form-action 'none'",
	}, "; ")
}

// hash names a text as Content-Security-Policy does.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func render(w io.Writer, p *page) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	doc := document{p, template.CSS(pageCSS), template.JS(pageJS), policy(pageCSS, pageJS)}
	if err := t.Execute(&out, doc); err != nil {
		return err
	}
	_, err = w.Write(visible(out.Bytes()))
	return err
}

// visible writes every character that cannot be seen as an escape: names and
// comments may hold some that turn the direction of text or hide it. Our own
// lines and what html/template made of theirs have none but line ends and tabs.
func visible(html []byte) []byte {
	return []byte(strings.Join(mapLines(string(html)), "\n"))
}

func mapLines(html string) []string {
	lines := strings.Split(html, "\n")
	for i, line := range lines {
		if strings.ContainsFunc(line, hidden) {
			lines[i] = text.Harmless(strings.ReplaceAll(line, "\t", "    "))
		}
	}
	return lines
}

func hidden(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }
