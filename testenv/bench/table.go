// SPDX-License-Identifier: Apache-2.0

// Results as tables of Markdown, as docs/performance.md has them.

package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table is one table: what it is of, and how a record becomes a row.
type table struct {
	kind  string
	title string
	head  []string
	row   func(Record) []string
}

var tables = []table{
	{TypeComparison, "What others keep", []string{"traffic", "with", "without", "with it", "kept", "spread", "kept by CPU time (best parts)", "spread", "rounds"}, comparisonRow},
	{TypeLife, "What a trace takes", []string{"tool", "hooks", "ready", "of that attaching", "then busy", "verdict after SIGINT", "gone after SIGINT", "memory in the end", "peak", "CPU", "runs"}, lifeRow},
	{TypeProgram, "Where the time goes (unrelated UDP, by the kernel's own statistics)", []string{"tool", "program", "runs a packet", "ns a run", "of that counting", "own ns a packet", "of a packet's time"}, programRow},
	{TypeOwnRate, "What the traced flow itself meets", []string{"tool", "asked", "untraced", "traced", "sent", "told", "left out on purpose", "counted as lost", "silently missing", "dropped on the way", "memory in the end", "peak", "CPU"}, ownRateRow},
	{TypeUnavailable, "Took no part", []string{"tool", "why"}, func(r Record) []string { return []string{r.Unavailable.Tool, r.Unavailable.Why} }},
}

// Tables writes all results as Markdown.
func Tables(w io.Writer, records []Record) error {
	out := &errWriter{w: w}
	for len(records) > 0 {
		var group []Record
		group, records = nextSetting(records)
		if s := group[0].Setting; s != nil {
			out.print("\n%s\n", s.heading())
		}
		for _, t := range tables {
			t.write(out, group)
		}
	}
	return out.err
}

// nextSetting cuts off what was got in one setting.
func nextSetting(records []Record) (group, rest []Record) {
	for i := 1; i < len(records); i++ {
		if records[i].Setting != nil {
			return records[:i], records[i:]
		}
	}
	return records, nil
}

func (s *Setting) heading() string {
	text := fmt.Sprintf("**%s**: Linux %s, %d CPU(s), %s, %d endpoints", s.Label, s.Kernel, s.CPUs, s.Size.Dataplane, s.Size.Endpoints)
	if s.Size.Fillers > 0 {
		text += fmt.Sprintf(", %d rules more", s.Size.Fillers)
	}
	text += fmt.Sprintf("; %d rounds, slots of %v", s.Rounds, s.Slot)
	for _, b := range s.Binaries {
		text += fmt.Sprintf("; %s is %s", b.Path, mib(b.Bytes))
	}
	if !s.Softirqd {
		text += "; softirq threads are not to be seen here, their time is in no CPU time"
	}
	return text
}

func (t table) write(out *errWriter, records []Record) {
	var rows [][]string
	for _, r := range records {
		if r.Type == t.kind {
			rows = append(rows, t.row(r))
		}
	}
	if len(rows) == 0 {
		return
	}
	out.print("\n%s:\n\n| %s |\n|%s\n", t.title, strings.Join(t.head, " | "), strings.Repeat(" --- |", len(t.head)))
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		out.print("| %s |\n", strings.Join(row, " | "))
	}
}

// errWriter keeps the first error.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) print(format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, format, args...)
	}
}

func comparisonRow(r Record) []string {
	c := r.Comparison
	rounds := fmt.Sprint(c.Rounds)
	if c.Disturbed > 0 {
		rounds += fmt.Sprintf(" (%d disturbed)", c.Disturbed)
	}
	kept := fmt.Sprintf("**%.2f**", c.Ratio)
	if c.NoRoom > 0.01 {
		kept += fmt.Sprintf(" (%.0f%% found the socket full)", 100*c.NoRoom)
	}
	return []string{string(c.Kind), c.Tool, rate(c.Without, c.Unit), rate(c.With, c.Unit), kept, spread(c.Low, c.High),
		fmt.Sprintf("**%.2f**", c.CPURatio), spread(c.CPULow, c.CPUHigh), rounds}
}

func lifeRow(r Record) []string {
	l := r.Life
	attach, verdict := "", ""
	if l.Attach > 0 {
		attach = seconds(l.Attach)
	}
	if l.Verdict > 0 {
		verdict = seconds(l.Verdict)
	}
	return []string{l.Tool, count(l.Hooks), seconds(l.Ready), attach, seconds(l.Calm), verdict, seconds(l.Exit), mib(l.Resident), mib(l.Peak), seconds(l.CPU), fmt.Sprint(l.Runs)}
}

func programRow(r Record) []string {
	p := r.Program
	return []string{p.Tool, "`" + p.Program + "`", fmt.Sprintf("%.2f", p.PerPacket), fmt.Sprintf("%.0f", p.NSPerRun),
		fmt.Sprintf("%.0f", p.Counting), fmt.Sprintf("%.0f", p.Own()), fmt.Sprintf("%.1f%%", 100*p.Share)}
}

func ownRateRow(r Record) []string {
	o := r.OwnRate
	lost := fmt.Sprint(o.LostPackets)
	if o.LostEvents > 0 {
		lost += fmt.Sprintf(" (and %d events)", o.LostEvents)
	}
	return []string{o.Tool, rate(float64(o.Asked), "packets"), rate(o.Without, "packets"), rate(o.With, "packets"), fmt.Sprint(o.Sent), fmt.Sprint(o.Told),
		fmt.Sprint(o.SampledOut), lost, fmt.Sprint(o.Silent), fmt.Sprint(o.Dropped + o.NoRoom), mib(o.Resident), mib(o.Peak), seconds(o.CPU)}
}

// rate prints units a second as people say them.
func rate(v float64, unit string) string {
	if unit == "bytes" {
		return fmt.Sprintf("%.2f Gbit/s", v*8/1e9)
	}
	return fmt.Sprintf("%.0f/s", v)
}

func spread(low, high float64) string { return fmt.Sprintf("%.2f-%.2f", low, high) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mib(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
