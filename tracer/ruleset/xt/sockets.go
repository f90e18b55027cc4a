// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on the socket or process behind a packet: owner, socket, cgroup. None
// of it is in a packet.Packet: all answer Unknown.

// decodeOwner reads struct xt_owner_match_info (xt_owner.h).
func decodeOwner(e ext) (matchBody, bool) {
	const (
		uid = 1 << iota
		gid
		socket
		groups
	)
	has, inv := e.u8(16), e.u8(17)
	ids := func(off int) string {
		lo, hi := e.u32(off), e.u32(off+4)
		if lo != hi {
			return span(lo, lo) + "-" + span(hi, hi)
		}
		return span(lo, lo)
	}
	var o options
	if has&socket != 0 {
		o.neg(inv&socket != 0, "--socket-exists")
	}
	if has&uid != 0 {
		o.neg(inv&uid != 0, "--uid-owner %s", ids(0))
	}
	if has&gid != 0 {
		o.neg(inv&gid != 0, "--gid-owner %s", ids(8))
	}
	if has&groups != 0 {
		o.neg(inv&groups != 0, "--suppl-groups")
	}
	return matchBody{opts: o.String()}, true
}

// decodeSocket reads struct xt_socket_mtinfo1, 2 and 3 (xt_socket.h); revision 0
// has no data.
func decodeSocket(e ext) (matchBody, bool) {
	const (
		transparent = 1 << iota
		noWildcard
		restoreMark
	)
	if e.rev == 0 {
		return matchBody{}, true
	}
	var o options
	flags := e.u8(0)
	o.flag(flags&transparent != 0, "--transparent")
	o.flag(e.rev >= 2 && flags&noWildcard != 0, "--nowildcard")
	o.flag(e.rev >= 3 && flags&restoreMark != 0, "--restore-skmark")
	return matchBody{opts: o.String()}, true
}

// decodeCgroup0 reads struct xt_cgroup_info_v0 (xt_cgroup.h).
func decodeCgroup0(e ext) (matchBody, bool) {
	var o options
	o.neg(e.u32(4) != 0, "--cgroup %d", e.u32(0))
	return matchBody{opts: o.String()}, true
}

// decodeCgroup reads struct xt_cgroup_info_v1, with room for a path of PATH_MAX
// and the class behind it, and _v2, where both share 512 bytes.
func decodeCgroup(e ext) (matchBody, bool) {
	size, class := 4096, 4100
	if e.rev == 2 {
		size, class = 512, 4
	}
	var o options
	if e.u8(0) != 0 {
		o.neg(e.u8(2) != 0, "--path %s", quote(e.str(4, size)))
	}
	if e.u8(1) != 0 {
		o.neg(e.u8(3) != 0, "--cgroup %d", e.u32(class))
	}
	return matchBody{opts: o.String()}, true
}
