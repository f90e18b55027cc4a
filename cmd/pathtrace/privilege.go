// SPDX-License-Identifier: Apache-2.0

// privilege.go checks what this process may do before anything is tried, since
// the kernel's own answer would be a bare "operation not permitted".

package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// checkPrivileges wants CAP_SYS_ADMIN, which setns(2) into pods' network
// namespaces takes and which stands for CAP_BPF and CAP_PERFMON (Linux 5.8,
// include/uapi/linux/capability.h), and CAP_NET_ADMIN for network program types
// and netfilter links.
func checkPrivileges() error {
	held, err := effectiveCapabilities()
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	return missingPrivileges(held)
}

// neededCapabilities are those that checkPrivileges wants.
var neededCapabilities = [...]struct {
	bit  int
	name string
}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}}

func missingPrivileges(held uint64) error {
	var missing []string
	for _, c := range neededCapabilities {
		if held&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("not allowed to trace: needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN (%s missing): run it with sudo, or as a privileged container",
		strings.Join(missing, ", "))
}

// effectiveCapabilities gives the calling thread's effective set as bits.
func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 has 64 bits in two halves
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}
