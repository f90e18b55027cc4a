// SPDX-License-Identifier: Apache-2.0

package cause

// Packets that were handed to a program: a tun device has no wire behind it, but a
// process that reads (flanneld's udp backend, a VPN's agent, a virtual machine).

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// handedToProgram: the last that was seen of the packets is that they went into a tun
// device.
func (q *inquiry) handedToProgram(last *model.Hop, to string) *claim {
	l := q.link(last.Netns, int(last.IfIndex))
	if last.Stage != model.StageTransmit || l == nil || l.Kind != "tun" {
		return nil
	}
	where, device := at(last.Place, last.Interface), l.Name+" of "+placeName(last.Place)
	c := &claim{subject: last.Interface, sum: sentWords}
	c.evidence = []string{fmt.Sprintf("the last that was seen of #%d: %s at %s", q.p.ID, last.Stage, where), "ip -d link: " + l.Name + " is a tun device: what is sent out of it, a program reads"}
	owners := q.state.TunOwners(last.Netns, l.Name)
	if len(owners) == 0 {
		c.summary = fmt.Sprintf("packets to %s went into the tun device %s, and no answer came: which program has it open was not found", to, device)
		c.missing = append([]string{"who reads there: no process of that network namespace was found to have it open"}, unwatched(q.start)...)
		c.fix = []string{"see who has it: grep -l iff:.*" + l.Name + " /proc/*/fdinfo/* 2>/dev/null"}
		return c
	}
	var who, stopped []string
	for _, o := range owners {
		who = append(who, o.String())
		c.evidence = append(c.evidence, fmt.Sprintf("%s is held open by %s", l.Name, o), fmt.Sprintf("/proc/%d/status: State: %s", o.PID, o.State))
		if strings.HasPrefix(o.State, "T") || strings.HasPrefix(o.State, "t") {
			stopped = append(stopped, o.String())
		}
	}
	c.summary = fmt.Sprintf("packets to %s went into the tun device %s, behind which %s is, and no answer came", to, device, strings.Join(who, ", "))
	if len(stopped) == len(owners) {
		c.summary = fmt.Sprintf("packets to %s went into the tun device %s, and %s, which is to read them there, is stopped: it reads nothing", to, device, strings.Join(who, ", "))
		c.missing = []string{"that it was stopped when they were sent: that was read right after"}
		c.fix = []string{fmt.Sprintf("see who stopped it (a debugger, a frozen terminal, kill -STOP), and let it go on: kill -CONT %d; or start it anew", owners[0].PID)}
		return c
	}
	c.missing = []string{"what the program made of them: whether it read them, and where it sent them on"}
	c.fix = []string{"see that it is well: its log; strace -f -e trace=read,write -p " + itoa(uint64(owners[0].PID)),
		"see where it sends them: ss -nup | grep pid=" + itoa(uint64(owners[0].PID))}
	return c
}
