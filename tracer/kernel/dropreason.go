// SPDX-License-Identifier: Apache-2.0

package kernel

// This file turns the number that kfree_skb carries into the kernel's name for
// it. Numbers move from release to release, so the names always come from the
// running kernel's own enums.

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
)

// NotSpecified is the reason of a drop the kernel gave no reason for, and of
// every drop on kernels that know none (before 5.17).
const NotSpecified = "NOT_SPECIFIED"

// subsysMask cuts the subsystem out of a reason: core reasons have zero there
// (SKB_DROP_REASON_SUBSYS_MASK, include/net/dropreason-core.h, since 6.3).
const subsysMask = 0xffff0000

// reasonEnum is an enum with drop reasons.
type reasonEnum struct {
	enum    string
	modules []string // where it lives when it is not in the image
	core    bool     // core reasons have no subsystem bits, all others must
}

// reasonEnums lists every enum with drop reasons. The subsystems are those of
// enum skb_drop_reason_subsys (include/net/dropreason.h).
func reasonEnums() []reasonEnum {
	return []reasonEnum{
		{enum: "skb_drop_reason", core: true},                                    // include/net/dropreason-core.h; 5.17-6.2 linux/skbuff.h, net/dropreason.h
		{enum: "mac80211_drop_reason", modules: []string{"mac80211"}},            // net/mac80211/drop.h, since 6.4
		{enum: "ovs_drop_reason", modules: []string{"openvswitch"}},              // net/openvswitch/drop.h, since 6.6
		{enum: "qdisc_drop_reason", modules: []string{"sch_fq", "sch_fq_codel"}}, // include/net/dropreason-qdisc.h, since 7.1
	}
}

// DropReasons names drop reasons. It is safe for concurrent use.
type DropReasons struct {
	kernel *Kernel
	has    bool // false: the kernel knows no reasons at all

	mu    sync.RWMutex
	names map[uint32]string
	codes map[string]uint32
	asked map[uint32]bool // subsystems already looked for in vain since the last module load
	mods  int             // modules loaded when asked was last emptied
}

// loadDropReasons reads the enums that are there now; those of modules that
// come later are read when a reason of theirs is first asked for.
func loadDropReasons(k *Kernel) (*DropReasons, error) {
	d := &DropReasons{
		kernel: k,
		names:  map[uint32]string{},
		codes:  map[string]uint32{},
		asked:  map[uint32]bool{},
	}
	for _, e := range reasonEnums() {
		if err := d.add(e); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// add reads one enum; an enum this kernel lacks adds nothing.
func (d *DropReasons) add(e reasonEnum) error {
	values, err := d.kernel.enumValues(e.enum, e.modules...)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read drop reasons: %w", err)
	}
	for _, v := range values {
		d.put(uint32(v.Value), v.Name, e.core)
	}
	d.has = d.has || e.core
	return nil
}

// put files one enum value away, unless it is a marker: a bound, a mask, or
// the base of a subsystem.
func (d *DropReasons) put(code uint32, name string, core bool) {
	short := shortReason(name)
	marker := short == "MAX" || short == "SUBSYS_MASK" || strings.HasPrefix(short, "_") || strings.HasSuffix(short, "_DROP_MAX")
	if marker || core != (code&subsysMask == 0) {
		return
	}
	if _, taken := d.names[code]; !taken {
		d.names[code] = short
	}
	d.codes[short] = code
}

// shortReason is a reason's name as people know it.
func shortReason(name string) string {
	if short, ok := strings.CutPrefix(name, "SKB_DROP_REASON_"); ok {
		return short
	}
	return strings.TrimPrefix(name, "SKB_") // SKB_CONSUMED, SKB_NOT_DROPPED_YET
}

// Known tells whether the kernel gives reasons at all (5.17 and later).
func (d *DropReasons) Known() bool { return d.has }

// Name is the kernel's name for a reason without SKB_DROP_REASON_; reasons of
// subsystems have their own prefix (OVS_DROP_METER). A number the kernel's
// enums do not have is "reason N". On kernels that know no reasons it is
// NotSpecified.
func (d *DropReasons) Name(code uint32) string {
	if !d.has {
		return NotSpecified
	}
	d.mu.RLock()
	name, ok := d.names[code]
	d.mu.RUnlock()
	if !ok && code&subsysMask != 0 {
		name, ok = d.nameLate(code)
	}
	if !ok {
		return fmt.Sprintf("reason %d", code)
	}
	return name
}

// nameLate looks for a subsystem's enum in modules that were loaded after
// Open, once per subsystem and set of modules.
func (d *DropReasons) nameLate(code uint32) (string, bool) {
	mods, err := d.kernel.LoadedModules()
	if err != nil {
		return "", false // the number is shown instead: nothing is lost
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(mods) != d.mods {
		d.mods = len(mods)
		clear(d.asked)
	}
	if !d.asked[code&subsysMask] {
		d.asked[code&subsysMask] = true
		for _, e := range reasonEnums()[1:] {
			if err := d.add(e); err != nil {
				return "", false
			}
		}
	}
	name, ok := d.names[code]
	return name, ok
}

// Code is the number of a reason by its name, with or without
// SKB_DROP_REASON_.
func (d *DropReasons) Code(name string) (uint32, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	code, ok := d.codes[shortReason(name)]
	return code, ok
}

// All is a copy of every reason known so far, by number.
func (d *DropReasons) All() map[uint32]string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return maps.Clone(d.names)
}
