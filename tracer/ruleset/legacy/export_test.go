// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Raw gives tests the bytes of a table of the calling thread's namespace.
func Raw(family, name string) (info, entries []byte, err error) {
	s, err := open(family)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(s.fd)
	err = s.once(name, func(i, e []byte) error { info, entries = i, slices.Clone(e); return nil })
	return info, entries, err
}

// SizeOfInfo is the length of info.
const SizeOfInfo = infoLen
