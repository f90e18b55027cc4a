// SPDX-License-Identifier: Apache-2.0

// Reading the recorded rule sets: what iptables-save -c and nft -a list ruleset
// printed on nodes that the real writers programmed.

package meaning

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// ruleSet is one recorded rule set.
type ruleSet struct {
	rules   []Rule
	chains  []Rule // one per chain, with the line of the chain
	packets map[string]int
}

func key(r Rule) string { return fmt.Sprintf("%s/%s#%d", r.Table, r.Chain, r.Number) }

// at is the rule called "table/chain#number".
func (s *ruleSet) at(t *testing.T, name string) Rule {
	t.Helper()
	for _, r := range s.rules {
		if key(r) == name {
			return r
		}
	}
	t.Fatalf("no rule %s in the recorded rule set", name)
	return Rule{}
}

// chain is Known.Chain over the rule set.
func (s *ruleSet) chain(of Rule) []Rule {
	var rules []Rule
	for _, r := range s.rules {
		if sameChain(r, of) {
			rules = append(rules, r)
		}
	}
	return rules
}

// path is the rules of these names. Each must have matched packets when the
// rule set was recorded: the counters are the kernel's word that the path is
// one that packets took.
func (s *ruleSet) path(t *testing.T, names ...string) []Rule {
	t.Helper()
	var rules []Rule
	for _, n := range names {
		if s.packets[n] == 0 {
			t.Errorf("rule %s has matched no packet on the recorded node", n)
		}
		rules = append(rules, s.at(t, n))
	}
	return rules
}

func readRecorded(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// loadRecorded reads a rule set in either tool's form.
func loadRecorded(t testing.TB, path string) *ruleSet {
	t.Helper()
	text := readRecorded(t, path)
	s := &ruleSet{packets: map[string]int{}}
	if strings.Contains(path, "nft-a-list") {
		s.readList(t, text)
	} else {
		s.readSave(t, path, text)
	}
	if len(s.rules)+len(s.chains) == 0 {
		t.Fatalf("%s: nothing read", path)
	}
	return s
}

func (s *ruleSet) add(t testing.TB, r Rule, packets string) {
	s.rules = append(s.rules, r)
	n, err := strconv.Atoi(packets)
	if err != nil {
		t.Fatalf("%s: counter %q: %v", key(r), packets, err)
	}
	s.packets[key(r)] = n
}

func (s *ruleSet) readSave(t testing.TB, path, text string) {
	base := Rule{Backend: "legacy", Family: "ip"}
	if strings.Contains(path, "-nft-save") {
		base.Backend = "nft"
	}
	if strings.Contains(path, "ip6tables") {
		base.Family = "ip6"
	}
	number := map[string]int{}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line, r := sc.Text(), base
		switch {
		case strings.HasPrefix(line, "*"):
			base.Table = line[1:]
		case strings.HasPrefix(line, ":"):
			r.Chain, r.Text = strings.Fields(line[1:])[0], line
			s.chains = append(s.chains, r)
		case strings.HasPrefix(line, "["):
			counters, rule, _ := strings.Cut(line, " ")
			r.Chain, r.Text = strings.Fields(rule)[1], rule
			number[r.Table+r.Chain]++
			r.Number = number[r.Table+r.Chain]
			packets, _, _ := strings.Cut(counters[1:], ":")
			s.add(t, r, packets)
		}
	}
}

var (
	nftCounter = regexp.MustCompile(`counter packets (\d+) bytes \d+`)
	nftHandle  = regexp.MustCompile(` # handle \d+$`)
)

func (s *ruleSet) readList(t testing.TB, text string) {
	r := Rule{Backend: "nft"}
	block, inElements := "", false
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line := strings.TrimSpace(nftHandle.ReplaceAllString(sc.Text(), ""))
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "table":
			r.Family, r.Table, r.Chain = f[1], f[2], ""
		case strings.HasSuffix(line, "{") && !inElements && (f[0] == "chain" || f[0] == "set" || f[0] == "map"):
			if block = f[0]; block == "chain" {
				r.Chain, r.Number = f[1], 0
				s.chains = append(s.chains, Rule{Backend: "nft", Family: r.Family, Table: r.Table, Chain: r.Chain})
			}
		case line == "}":
			block, inElements = "", false
		case block != "chain" || f[0] == "comment":
			inElements = strings.HasPrefix(line, "elements") || inElements
			inElements = inElements && !strings.HasSuffix(line, "}")
		case f[0] == "type":
			s.chains[len(s.chains)-1].Text = line
		default:
			r.Number++
			rule, packets := r, "-1" // no counter
			rule.Text = line
			if m := nftCounter.FindStringSubmatch(line); m != nil {
				packets = m[1]
			}
			s.add(t, rule, packets)
		}
	}
}

// recordedServices are the API's services with the endpoints of their slices.
func recordedServices(t testing.TB, folder string) []Service {
	t.Helper()
	var slices struct{ Items []apiSlice }
	var services struct{ Items []apiService }
	for file, into := range map[string]any{"endpointslices": &slices, "services": &services} {
		if err := json.Unmarshal([]byte(readRecorded(t, folder+"/"+file+".json.gz")), into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var list []Service
	for _, s := range services.Items {
		for _, p := range s.Spec.Ports {
			service := Service{Namespace: s.Metadata.Namespace, Name: s.Metadata.Name, Port: p.Name, Proto: p.Protocol}
			for _, slice := range slices.Items {
				service.Endpoints = append(service.Endpoints, slice.endpoints(service)...)
			}
			list = append(list, service)
		}
	}
	return list
}

type apiMeta struct {
	Namespace, Name string
	Labels          map[string]string
}

type apiService struct {
	Metadata apiMeta
	Spec     struct {
		Ports []struct{ Name, Protocol string }
	}
}

type apiSlice struct {
	Metadata  apiMeta
	Endpoints []struct{ Addresses []string }
	Ports     []struct {
		Name, Protocol string
		Port           int
	}
}

func (s apiSlice) endpoints(of Service) []string {
	if s.Metadata.Namespace != of.Namespace || s.Metadata.Labels["kubernetes.io/service-name"] != of.Name {
		return nil
	}
	var list []string
	for _, p := range s.Ports {
		for _, e := range s.Endpoints {
			if p.Name != of.Port || p.Protocol != of.Proto {
				continue
			}
			for _, a := range e.Addresses {
				if strings.Contains(a, ":") {
					a = "[" + a + "]"
				}
				list = append(list, a+":"+strconv.Itoa(p.Port))
			}
		}
	}
	return list
}
