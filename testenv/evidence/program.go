// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about eBPF programs and tc filters. Where a tool lists them, it is asked;
// of tcx and cgroups, which ip and tc do not list, the kernel's own list of links is.

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// programStatements are about programs, sockets, and counters of /proc/net.
var programStatements = []statement{
	{regexp.MustCompile(`^(?:attached|also there, but none of its actions is to drop): (.*?)(?:eBPF program (\S+) \(id (\d+), tag (\w+)\))?,? (?:at )?(?:(tcx|cgroup|netkit) )?(?:(ingress|egress|primary|peer|socket|connect4|connect6|sendmsg4|sendmsg6)|XDP \((\w+)\)) of (\S+)$`), isAttached},
	{regexp.MustCompile(`^program (\d+) is (?:held by (.*?)(?:; |$))?(?:pinned as (.*?)(?:; |$))?(?:loaded by uid (\d+) at .*)?$`), isHeldBy},
	{regexp.MustCompile(`^the socket is that of (\S+) \(pid (\d+)\), in cgroup ([^,\s]+)`), isInCgroup},
	{regexp.MustCompile(`^/proc/net/(\w+): (.+)$`), held}, // it counts on
	{regexp.MustCompile(`^it is set by now$`), held},
}

// isAttached: the program is there, and where it is said to be.
func isAttached(c *Court, m []string, _ model.Finding) string {
	filter, name, id, tag, how, side, mode, where := strings.TrimSuffix(m[1], " with "), m[2], m[3], m[4], m[5], m[6], m[7], m[8]
	if id != "" {
		if wrong := isLoaded(name, id, tag); wrong != "" {
			return wrong
		}
	}
	switch {
	case mode != "":
		if !c.anywhere(func(says string) bool { return strings.Contains(says, "prog/xdp id "+id+" ") }, "ip", "-d", "link", "show", "dev", where) {
			return "ip -d link of no place shows it on " + where
		}
	case how == "":
		words := strings.Fields(strings.TrimPrefix(filter, "tc filter "))
		if !c.anywhere(func(says string) bool {
			return strings.Contains(says, strings.Join(words[:3], " ")) && (id == "" || strings.Contains(says, " id "+id+" "))
		}, "tc", "filter", "show", "dev", where, side) {
			return "tc filter of no place shows it at " + side + " of " + where
		}
	default:
		return isLinked(how, side, id)
	}
	return ""
}

// isLoaded asks the kernel for a program by its id.
func isLoaded(name, id, tag string) string {
	number, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return err.Error()
	}
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(number))
	if err != nil {
		return err.Error()
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return err.Error()
	}
	if info.Name != name && name != "without" || info.Tag != tag {
		return fmt.Sprintf("program %s is %s, tag %s", id, info.Name, info.Tag)
	}
	return ""
}

// isLinked goes through all links of the kernel.
func isLinked(how, side, id string) string {
	all := new(link.Iterator)
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			return err.Error()
		}
		if strconv.Itoa(int(info.Program)) != id {
			continue
		}
		var as ebpf.AttachType
		switch {
		case info.TCX() != nil && how == "tcx":
			as = ebpf.AttachType(info.TCX().AttachType)
		case info.Cgroup() != nil && how == "cgroup":
			as = ebpf.AttachType(info.Cgroup().AttachType)
		case info.Netkit() != nil && how == "netkit":
			return ""
		default:
			return fmt.Sprintf("program %s hangs on a link of another kind", id)
		}
		if !strings.HasSuffix(side, "gress") {
			return ""
		}
		ingress := as == ebpf.AttachTCXIngress || as == ebpf.AttachCGroupInetIngress
		if ingress != (side == "ingress") {
			return fmt.Sprintf("program %s is attached as %s", id, as)
		}
		return ""
	}
	if err := all.Err(); err != nil {
		return err.Error()
	}
	return "no link keeps program " + id + " attached"
}

var process = regexp.MustCompile(`(\S+) \(pid (\d+)\)`)

// isHeldBy: each process that is named holds the program, or its link.
func isHeldBy(_ *Court, m []string, _ model.Finding) string {
	for _, p := range process.FindAllStringSubmatch(m[2], -1) {
		comm, err := os.ReadFile("/proc/" + p[2] + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != p[1] {
			return fmt.Sprintf("process %s is %q", p[2], comm)
		}
		entries, err := os.ReadDir("/proc/" + p[2] + "/fdinfo")
		if err != nil {
			return err.Error()
		}
		found := false
		for _, e := range entries {
			info, err := os.ReadFile("/proc/" + p[2] + "/fdinfo/" + e.Name())
			found = found || err == nil && strings.Contains(string(info), "prog_id:\t"+m[1]+"\n")
		}
		if !found {
			return fmt.Sprintf("no file of process %s is program %s", p[2], m[1])
		}
	}
	return ""
}

// isInCgroup: the process is in that cgroup, if it has not ended since.
func isInCgroup(_ *Court, m []string, _ model.Finding) string {
	raw, err := os.ReadFile("/proc/" + m[2] + "/cgroup")
	if err != nil {
		return ""
	}
	if !strings.Contains(string(raw), "0::"+m[3]+"\n") {
		return "it is in " + strings.TrimSpace(string(raw))
	}
	return ""
}
