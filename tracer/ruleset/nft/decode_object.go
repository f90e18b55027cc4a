// SPDX-License-Identifier: Apache-2.0

package nft

// This file decodes the messages that list tables, chains, rules, sets, their
// elements, objects and flowtables (net/netfilter/nf_tables_api.c,
// nf_tables_fill_*_info; attributes in linux/netfilter/nf_tables.h).

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// familyName is a family's name as nft writes it, or its number.
func familyName(proto uint8) string {
	return cmp.Or(nfnetlink.Family(proto), fmt.Sprintf("family %d", proto))
}

// familyNumber is the number of a family's name.
func familyNumber(name string) (uint8, error) {
	for _, n := range []uint8{protoInet, protoIPv4, protoARP, protoNetdev, protoBridge, protoIPv6} {
		if familyName(n) == name {
			return n, nil
		}
	}
	return 0, fmt.Errorf("no family %q: use ip, ip6, inet, arp, bridge or netdev", name)
}

// named opens a message: its family, attributes, and the name of what it is
// about, which has to be there.
func named(msg []byte, kind string, name uint16) (string, nfnetlink.Attrs, error) {
	a, err := nfnetlink.Message(msg)
	if err != nil {
		return "", nil, fmt.Errorf("nft %s: %w", kind, err)
	}
	if a.Text(name) == "" {
		return "", nil, fmt.Errorf("nft %s: no name", kind)
	}
	return familyName(msg[0]), a, nil
}

// decodeTable: enum nft_table_attributes.
func decodeTable(msg []byte) (*Table, error) {
	const name, flags, handle = 1, 2, 4
	family, a, err := named(msg, "table", name)
	if err != nil {
		return nil, err
	}
	f := fields{attrs: a}
	t := &Table{Family: family, Name: a.Text(name), Flags: f.u32(flags), Handle: f.num(handle)}
	return t, f.err
}

// Bits of a chain's flags (enum nft_chain_flags) and NF_ACCEPT.
const (
	chainBinding = 1 << 2
	policyAccept = 1
)

// decodeChain: enum nft_chain_attributes, nft_hook_attributes.
func decodeChain(msg []byte) (*Chain, error) {
	const table, handle, name, hook, policy, typ, flags = 1, 2, 3, 4, 5, 7, 10
	const hookNum, hookPriority, hookDev, hookDevs = 1, 2, 3, 4
	family, a, err := named(msg, "chain", name)
	if err != nil {
		return nil, err
	}
	f := fields{attrs: a}
	c := &Chain{
		Family: family, Table: a.Text(table), Name: a.Text(name), Handle: f.num(handle),
		Type: a.Text(typ), Binding: f.u32(flags)&chainBinding != 0,
	}
	if f.err != nil || !a.Has(hook) {
		return c, f.err
	}
	h, err := a.Nest(hook)
	if err != nil {
		return nil, fmt.Errorf("nft chain %s: hook: %w", c.Name, err)
	}
	f.attrs = h
	c.HookNum, c.Priority = f.u32(hookNum), int32(f.u32(hookPriority))
	c.Hook = nfnetlink.Hook(family, int(c.HookNum))
	c.Policy = "drop"
	if v, ok := a.Uint32(policy); !ok || v == policyAccept {
		c.Policy = "accept"
	}
	if dev := h.Text(hookDev); dev != "" {
		c.Devices = []string{dev}
	} else if c.Devices, err = deviceNames(h, hookDevs); err != nil {
		return nil, fmt.Errorf("nft chain %s: %w", c.Name, err)
	}
	return c, f.err
}

// deviceNames reads a list of devices (enum nft_devices_attributes).
func deviceNames(a nfnetlink.Attrs, typ uint16) ([]string, error) {
	const deviceName = 1
	list, err := a.Nest(typ)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	var names []string
	for _, d := range list {
		if d.Type == deviceName {
			names = append(names, unix.ByteSliceToString(d.Value))
		}
	}
	return names, nil
}

// Types of a rule's, an element's and a set's user data (libnftnl 1.2,
// include/libnftnl/udata.h).
const (
	udataRuleComment = 0
	udataElemComment = 0
)

// decodeRule: enum nft_rule_attributes.
func decodeRule(msg []byte) (*Rule, error) {
	const table, chain, handle, exprs, userdata = 1, 2, 3, 4, 7
	family, a, err := named(msg, "rule", chain)
	if err != nil {
		return nil, err
	}
	f := fields{attrs: a}
	r := &Rule{Family: family, Table: a.Text(table), Chain: a.Text(chain), Handle: f.num(handle)}
	if list, ok := a.Get(exprs); ok {
		if r.Exprs, err = decodeExprs(list); err != nil {
			f.fail(err)
		}
	}
	r.UserData, _ = a.Get(userdata)
	r.Comment = unix.ByteSliceToString(udata(r.UserData, udataRuleComment))
	if f.err != nil {
		return nil, fmt.Errorf("nft rule %d of %s %s %s: %w", r.Handle, family, r.Table, r.Chain, f.err)
	}
	return r, nil
}

// udata finds an entry of user data: a list of type, length, value. What is
// malformed is as good as not there: any program may store what it likes.
func udata(b []byte, typ uint8) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == typ {
			return b[2 : 2+b[1]]
		}
		b = b[2+b[1]:]
	}
	return nil
}

// decodeSet: enum nft_set_attributes, nft_set_desc_attributes,
// nft_set_field_attributes.
func decodeSet(msg []byte) (*Set, error) {
	const table, name, flags, keyType, keyLen, dataType, dataLen = 1, 2, 3, 4, 5, 6, 7
	const desc, timeout, userdata, objType, handle = 9, 11, 13, 15, 16
	const descSize, descConcat, fieldLen = 1, 2, 1
	family, a, err := named(msg, "set", name)
	if err != nil {
		return nil, err
	}
	f := fields{attrs: a}
	s := &Set{
		Family: family, Table: a.Text(table), Name: a.Text(name), Handle: f.num(handle), Flags: f.u32(flags),
		KeyType: f.u32(keyType), KeyLen: f.u32(keyLen), DataType: f.u32(dataType), DataLen: f.u32(dataLen),
		ObjectType: f.u32(objType), Timeout: f.num(timeout),
	}
	s.userData, _ = a.Get(userdata)
	d, err := a.Nest(desc)
	if err != nil {
		return nil, fmt.Errorf("nft set %s: description: %w", s.Name, err)
	}
	f.attrs = d
	s.Size = f.u32(descSize)
	parts, err := d.Nest(descConcat)
	if err != nil {
		return nil, fmt.Errorf("nft set %s: fields: %w", s.Name, err)
	}
	for _, p := range parts {
		part, err := nfnetlink.Parse(p.Value)
		if err != nil {
			return nil, fmt.Errorf("nft set %s: field: %w", s.Name, err)
		}
		f.attrs = part
		s.FieldLens = append(s.FieldLens, f.u32(fieldLen))
	}
	if f.err != nil {
		return nil, fmt.Errorf("nft set %s: %w", s.Name, f.err)
	}
	return s, nil
}

// decodeElements decodes one message of a set's elements (enum
// nft_set_elem_list_attributes) and appends them to the set.
func decodeElements(s *Set, msg []byte) error {
	const set, elements = 2, 3
	_, a, err := named(msg, "set elements", set)
	if err != nil {
		return err
	}
	list, err := a.Nest(elements)
	if err != nil {
		return fmt.Errorf("nft set %s: elements: %w", s.Name, err)
	}
	for _, item := range list {
		if item.Type != attrListElem {
			continue
		}
		e, err := decodeElement(s, item.Value)
		if err != nil {
			return fmt.Errorf("nft set %s: element %d: %w", s.Name, len(s.Elements)+1, err)
		}
		s.Elements = append(s.Elements, e)
	}
	return nil
}

// decodeElement: enum nft_set_elem_attributes, nft_set_elem_flags.
func decodeElement(s *Set, b []byte) (Element, error) {
	const key, data, flags, timeout, userdata, expr, objref, keyEnd, exprs = 1, 2, 3, 4, 6, 7, 9, 10, 11
	const flagEnd, flagCatchAll = 1, 2
	a, err := nfnetlink.Parse(b)
	if err != nil {
		return Element{}, err
	}
	f := fields{attrs: a}
	e := Element{
		End: f.u32(flags)&flagEnd != 0, CatchAll: f.u32(flags)&flagCatchAll != 0,
		Timeout: f.num(timeout), Object: a.Text(objref),
	}
	if !e.CatchAll {
		e.Key = f.data(key)
	}
	if a.Has(keyEnd) {
		e.KeyEnd = f.data(keyEnd)
	}
	if e.Key != nil && len(e.Key) != int(s.KeyLen) || e.KeyEnd != nil && len(e.KeyEnd) != int(s.KeyLen) {
		f.fail(fmt.Errorf("key of %d bytes where %d are due", len(e.Key), s.KeyLen))
	}
	if e.Data, e.Verdict, err = decodeData(a, data); err != nil {
		f.fail(err)
	}
	ud, _ := a.Get(userdata)
	e.Comment = unix.ByteSliceToString(udata(ud, udataElemComment))
	for _, item := range a {
		switch item.Type {
		case expr:
			e.Exprs = f.nested(e.Exprs, item.Value)
		case exprs:
			list, err := nfnetlink.Parse(item.Value)
			if err != nil {
				f.fail(err)
			}
			for _, i := range list {
				e.Exprs = f.nested(e.Exprs, i.Value)
			}
		}
	}
	return e, f.err
}

// decodeObject: enum nft_object_attributes.
func decodeObject(msg []byte) (*Object, error) {
	const table, name, typ, handle = 1, 2, 3, 6
	family, a, err := named(msg, "object", name)
	if err != nil {
		return nil, err
	}
	f := fields{attrs: a}
	return &Object{Family: family, Table: a.Text(table), Name: a.Text(name), Type: f.u32(typ), Handle: f.num(handle)}, f.err
}

// decodeFlowtable: enum nft_flowtable_attributes, nft_flowtable_hook_attributes.
func decodeFlowtable(msg []byte) (*Flowtable, error) {
	const table, name, hook, hookDevs = 1, 2, 3, 3
	family, a, err := named(msg, "flowtable", name)
	if err != nil {
		return nil, err
	}
	ft := &Flowtable{Family: family, Table: a.Text(table), Name: a.Text(name)}
	h, err := a.Nest(hook)
	if err != nil {
		return nil, fmt.Errorf("nft flowtable %s: hook: %w", ft.Name, err)
	}
	if ft.Devices, err = deviceNames(h, hookDevs); err != nil {
		return nil, fmt.Errorf("nft flowtable %s: %w", ft.Name, err)
	}
	return ft, nil
}
