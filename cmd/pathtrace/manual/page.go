// SPDX-License-Identifier: Apache-2.0

// page.go writes the manual page in the macros of man(7), which groff and mandoc
// both know.

package manual

import (
	"fmt"
	"strings"
)

// pageDate is when the words of the page were changed last: a date of the build
// would make two builds of one source differ.
const pageDate = "2026-11-21"

// Page gives the manual page as troff source.
func (p Program) Page() string {
	s := p.Sections
	t := &troff{}
	t.line(".TH %s 8 %s %s %s", strings.ToUpper(p.Name), pageDate, arg(p.Name+" "+p.Version), arg("System Administration"))
	t.head("NAME")
	t.line(`%s \- %s`, safe(p.Name), safe(s.Does))
	t.head("SYNOPSIS")
	for i, line := range s.Synopsis {
		if i > 0 {
			t.line(".br")
		}
		t.bold(line)
	}
	t.section(Section{"DESCRIPTION", s.Description})
	t.head("COMMANDS")
	for _, c := range p.Commands {
		t.item(strings.TrimSpace(`\fB`+safe(c.Name)+`\fR `+italic(c.Takes)), c.Says)
	}
	t.head("OPTIONS")
	for _, f := range p.Flags {
		t.item(strings.TrimSpace(spelled(f)+" "+italic(f.Takes)), f.Says)
	}
	for _, more := range s.More {
		t.section(more)
	}
	t.head("EXIT STATUS")
	for _, e := range s.Exit {
		t.item(`\fB`+e.Status+`\fR`, e.Means)
	}
	t.head("EXAMPLES")
	for _, e := range s.Examples {
		t.item(`\fB`+safe(e.Line)+`\fR`, e.Says)
	}
	t.head("SEE ALSO")
	for i, other := range s.SeeAlso {
		name, section, _ := strings.Cut(strings.TrimSuffix(other, ")"), "(")
		end := ","
		if i == len(s.SeeAlso)-1 {
			end = ""
		}
		t.line(".BR %s (%s)%s", name, section, end)
	}
	return t.String()
}

func spelled(f Flag) string {
	var words []string
	for _, w := range f.words() {
		words = append(words, `\fB`+safe(w)+`\fR`)
	}
	return strings.Join(words, ", ")
}

func italic(text string) string {
	if text == "" {
		return ""
	}
	return `\fI` + safe(text) + `\fR`
}

// troff collects lines of a page.
type troff struct{ strings.Builder }

func (t *troff) line(format string, args ...any) {
	fmt.Fprintf(t, format+"\n", args...)
}

func (t *troff) head(title string) { t.line(".SH %s", title) }

func (t *troff) bold(text string) { t.line(`\fB%s\fR`, safe(text)) }

// sourceWidth is how long a line of the source may be.
const sourceWidth = 79

// text writes a paragraph, each sentence from the start of a line as troff wants
// it.
func (t *troff) text(paragraph string) {
	for sentence := range strings.SplitSeq(strings.ReplaceAll(paragraph, ". ", ".\n"), "\n") {
		column := 0
		for _, word := range strings.Fields(sentence) {
			word = safe(word)
			switch {
			case column == 0:
			case column+1+len(word) > sourceWidth:
				t.WriteByte('\n')
				column = 0
			default:
				t.WriteByte(' ')
				column++
			}
			t.WriteString(word)
			column += len(word)
		}
		t.WriteByte('\n')
	}
}

func (t *troff) section(s Section) {
	t.head(s.Title)
	for i, paragraph := range s.Text {
		if i > 0 {
			t.line(".PP")
		}
		t.text(paragraph)
	}
}

// item writes what is said of one thing; tag is troff already.
func (t *troff) item(tag, says string) {
	t.line(".TP")
	t.line("%s", tag)
	t.text(says)
}

// safe makes text mean itself to troff: no escapes, hyphens that can be copied,
// and no control line.
func safe(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "'", `\(aq`, "`", `\(ga`).Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

// arg makes text one argument of a macro.
func arg(text string) string { return `"` + strings.ReplaceAll(safe(text), `"`, `\(dq`) + `"` }
