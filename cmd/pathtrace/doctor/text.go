// SPDX-License-Identifier: Apache-2.0

package doctor

// This file prints a report for people and for programs.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteJSON writes the report as one line.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes the report for people: a line per thing, details indented.
func (r *Report) WriteText(w io.Writer) error {
	p := &page{}
	p.line("pathtrace", r.Version)
	p.line("kernel", r.Kernel)
	p.check("BTF", r.BTF)
	for _, c := range r.Capabilities {
		p.check(c.Name, c)
	}
	for _, b := range r.Backends {
		p.backend(b)
	}
	p.node(r.Node)
	for _, c := range r.Rules {
		p.rules(c)
	}
	p.dataplanes(r.CNI, r.Node != nil)
	for _, d := range r.Planes {
		p.line("past what is watched", d.Kind+": "+strings.Join(d.Evidence, "; "))
		for _, says := range d.Says {
			p.detail(says)
		}
	}
	for _, s := range r.Names {
		p.source(s)
	}
	for _, problem := range r.Problems {
		p.line("not known", problem)
	}
	_, err := io.WriteString(w, p.text.String())
	return err
}

// page is text in two columns.
type page struct{ text strings.Builder }

const column = 24

func (p *page) line(name, value string) {
	fmt.Fprintf(&p.text, "%-*s %s\n", column, name, value)
}

func (p *page) detail(value string) { fmt.Fprintf(&p.text, "%-*s   %s\n", column, "", value) }

func (p *page) check(name string, c Check) {
	if c.OK {
		p.line(name, "yes")
		return
	}
	p.line(name, "no: "+c.Why)
}

func (p *page) backend(b Backend) {
	name := "backend " + b.Name
	if !b.OK {
		p.line(name, "no: "+b.Why)
		return
	}
	p.line(name, fmt.Sprintf("yes: %d hooks, attached in %.0f ms", b.Hooks, b.AttachMS))
	for _, m := range b.Missed {
		p.detail("without " + m.Hook + ": " + m.Why)
	}
}

func (p *page) node(n *Node) {
	if n == nil {
		return
	}
	p.line("node", fmt.Sprintf("netns %d, %s", n.Netns, orNone(n.Addresses, "no address")))
	p.line("leads off by", orNone(n.Uplinks, "no interface"))
	p.line("pods", fmt.Sprintf("%d network namespaces", n.PodNetns))
}

func (p *page) rules(c RuleCounts) {
	name := "iptables-legacy"
	if c.Backend == "nft" {
		name = "nft, iptables-nft"
	}
	if len(c.Tables) == 0 {
		p.line(name, c.Note)
		return
	}
	p.line(name, fmt.Sprintf("%d rules", c.Rules))
	for _, t := range c.Tables {
		p.detail(fmt.Sprintf("%s %s: %d rules in %d chains", t.Family, t.Table, t.Rules, t.Chains))
	}
}

func (p *page) dataplanes(found []Dataplane, looked bool) {
	if len(found) == 0 && looked {
		p.line("network", "nothing known recognised: packets are followed all the same, rules are told without their meaning")
	}
	for _, d := range found {
		words := d.Name
		if len(d.Modes) > 0 {
			words += " (" + strings.Join(d.Modes, " and ") + ")"
		}
		words += ": " + strings.Join(d.Evidence, ", ")
		if len(d.Modes) > 1 {
			words += "; rules in several places: one of them may be stale and still act"
		}
		if !d.Covered {
			words += "; its rules are told without their meaning"
		}
		p.line("network", words)
	}
}

func (p *page) source(s NameSource) {
	var words []string
	if len(s.Pods) > 0 {
		words = append(words, fmt.Sprintf("%d pods", len(s.Pods)))
	}
	if s.Where != "" && len(s.Pods) > 0 {
		words = append(words, "in "+s.Where)
	}
	if s.Note != "" {
		words = append(words, s.Note)
	}
	if len(words) == 0 {
		words = append(words, "no pods in "+s.Where)
	}
	p.line("names: "+s.Source, strings.Join(words, " "))
	for _, pod := range s.Pods[:min(len(s.Pods), 10)] {
		p.detail(pod)
	}
	if n := len(s.Pods) - 10; n > 0 {
		p.detail(fmt.Sprintf("and %d more", n))
	}
}

func orNone(words []string, none string) string {
	if len(words) == 0 {
		return none
	}
	return strings.Join(words, ", ")
}
