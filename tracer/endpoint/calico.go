// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds pods by the name that Calico gives their interface on the
// node, which follows from the pod's name alone: no cache, runtime or API is
// needed, only the node's links.

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// calicoPrefix is Felix's default InterfacePrefix, and the one that the CNI
// plugin uses always (libcalico-go, names.WorkloadEndpointIdentifiers;
// cni-plugin/internal/pkg/utils, v3.x).
const calicoPrefix = "cali"

// prefixVariable sets Felix's InterfacePrefix; it may list several.
const prefixVariable = "FELIX_INTERFACEPREFIX"

// CalicoInterface is the name of a pod's interface on a Calico node: prefix and
// the first 11 hexadecimal digits of the SHA-1 of namespace.name
// (libcalico-go/lib/backend/k8s/conversion, VethNameForWorkload, v3.x).
func CalicoInterface(prefix, namespace, name string) string {
	sum := sha1.Sum([]byte(namespace + "." + name))
	return prefix + hex.EncodeToString(sum[:])[:11]
}

// calicoSource is Calico's naming as a source.
type calicoSource struct{ resolver *Resolver }

func (s *calicoSource) title() string { return "Calico interfaces" }

func (s *calicoSource) find(_ context.Context, v *view, pod podName) (answer, error) {
	prefixes := s.prefixes(v)
	var wanted []string
	for _, prefix := range prefixes {
		name := CalicoInterface(prefix, pod.namespace, pod.name)
		if _, ok := v.linkNamed(name); ok {
			return answer{how: "Calico interface " + name, found: []sandbox{{podName: pod, hostInterfaces: []string{name}}}}, nil
		}
		wanted = append(wanted, name)
	}
	if !v.hasPrefix(prefixes) {
		return answer{miss: "no Calico interfaces on this node"}, nil
	}
	return answer{miss: "no Calico interface " + strings.Join(wanted, " or ")}, nil
}

// list can tell no names: a hash has no way back.
func (s *calicoSource) list(_ context.Context, v *view) ([]sandbox, error) {
	n := 0
	for _, l := range v.links {
		if slices.ContainsFunc(s.prefixes(v), func(p string) bool { return strings.HasPrefix(l.Name, p) }) {
			n++
		}
	}
	if n == 0 {
		return nil, errAbsent{"no Calico interfaces on this node"}
	}
	return nil, errAbsent{fmt.Sprintf("%d Calico interfaces; their names can be checked against a pod's, not turned into it", n)}
}

// prefixes are the interface prefixes to try: those of the felix that runs on
// this node, then the default.
func (s *calicoSource) prefixes(v *view) []string {
	if v.calicoPrefixes == nil {
		v.calicoPrefixes = append(felixPrefixes(s.resolver.host.path("/proc"), v.inode), calicoPrefix)
		slices.Sort(v.calicoPrefixes)
		v.calicoPrefixes = slices.Compact(v.calicoPrefixes)
	}
	return v.calicoPrefixes
}

func (v *view) hasPrefix(prefixes []string) bool {
	for _, l := range v.links {
		for _, p := range prefixes {
			if strings.HasPrefix(l.Name, p) {
				return true
			}
		}
	}
	return false
}

// felixPrefixes reads the prefixes that a felix running in the namespace
// nodeInode was started with. Nothing but that variable is taken from its
// environment. Processes that end meanwhile, or may not be looked at, have
// nothing to say.
func felixPrefixes(proc string, nodeInode uint32) []string {
	comms, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return nil // only a malformed pattern fails
	}
	var prefixes []string
	for _, comm := range comms {
		name, err := os.ReadFile(comm)
		if err != nil || !isFelix(strings.TrimSpace(string(name))) {
			continue
		}
		dir := filepath.Dir(comm)
		if inode, ok := hostRoot("").netns(filepath.Join(dir, "ns/net")); !ok || inode != nodeInode {
			continue // another node's on this kernel
		}
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue
		}
		prefixes = append(prefixes, prefixesIn(environ)...)
	}
	return prefixes
}

// isFelix knows the programs that felix runs as: calico-node in a cluster,
// calico-felix as a package, felix when built alone.
func isFelix(comm string) bool {
	return comm == "calico-node" || comm == "calico-felix" || comm == "felix"
}

// prefixesIn takes the prefixes out of an environment block.
func prefixesIn(environ []byte) []string {
	var prefixes []string
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		value, ok := bytes.CutPrefix(variable, []byte(prefixVariable+"="))
		if !ok {
			continue
		}
		for prefix := range strings.SplitSeq(string(value), ",") {
			if prefix = strings.TrimSpace(prefix); prefix != "" {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	return prefixes
}
