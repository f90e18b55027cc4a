// SPDX-License-Identifier: Apache-2.0

package kernel

// This file holds the small named questions about types, functions and
// tracepoints, all answered from BTF.

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// FindFunc finds a function in the kernel image, else in the first of the
// named modules that is loaded and has it. The module is VMLinux for the image.
// It fails with ErrNotFound; a module that is not loaded, or came without BTF,
// is passed over and named in the error.
func (k *Kernel) FindFunc(name string, modules ...string) (fn *btf.Func, module string, err error) {
	err = k.find(name, modules, func(spec *btf.Spec, where string) error {
		module = where
		return spec.TypeByName(name, &fn)
	})
	if err != nil {
		return nil, "", fmt.Errorf("function %s: %w", name, err)
	}
	return fn, module, nil
}

// HasFunc tells whether FindFunc would find the function.
func (k *Kernel) HasFunc(name string, modules ...string) bool {
	_, _, err := k.FindFunc(name, modules...)
	return err == nil
}

// FuncArgs names a function's arguments in order. An argument BTF has no name
// for is "".
func (k *Kernel) FuncArgs(name string, modules ...string) ([]string, error) {
	fn, _, err := k.FindFunc(name, modules...)
	if err != nil {
		return nil, err
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return nil, fmt.Errorf("function %s: has no prototype but %v", name, fn.Type)
	}
	return paramNames(proto.Params), nil
}

// find asks the image, then each module, until one of them has what ask looks
// for.
func (k *Kernel) find(name string, modules []string, ask func(*btf.Spec, string) error) error {
	err := ask(k.spec, VMLinux)
	if err == nil {
		return nil
	}
	if !errors.Is(err, btf.ErrNotFound) {
		return err
	}
	var without []string
	for _, m := range modules {
		spec, err := k.ModuleBTF(m)
		if errors.Is(err, ErrNotLoaded) || errors.Is(err, ErrNoModuleBTF) {
			without = append(without, err.Error())
			continue
		}
		if err != nil {
			return err
		}
		if err = ask(spec, m); err == nil {
			return nil
		}
		if !errors.Is(err, btf.ErrNotFound) {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	if len(without) > 0 {
		return fmt.Errorf("%w (%s)", ErrNotFound, strings.Join(without, ", "))
	}
	return ErrNotFound
}

// TracepointArgs names the arguments a tp_btf program on the tracepoint gets,
// in order. How many there are is read off the tracepoint's own type, the
// names off the functions generated with it; an argument without a name is "".
// It fails with ErrNotFound when the kernel has no such tracepoint.
//
// The type is "typedef void (*btf_trace_NAME)(void *__data, PROTO)"
// (include/trace/bpf_probe.h, since 4.18): its first argument is the probe's
// own and is not counted.
func (k *Kernel) TracepointArgs(name string, modules ...string) ([]string, error) {
	var typedef *btf.Typedef
	err := k.find(name, modules, func(spec *btf.Spec, _ string) error {
		return spec.TypeByName("btf_trace_"+name, &typedef)
	})
	if err != nil {
		return nil, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	ptr, ok := btf.UnderlyingType(typedef.Type).(*btf.Pointer)
	if !ok {
		return nil, fmt.Errorf("tracepoint %s: type is %v, not a pointer to a function", name, typedef.Type)
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return nil, fmt.Errorf("tracepoint %s: type points to %v, not to a function with arguments", name, ptr.Target)
	}
	return k.tracepointNames(name, len(proto.Params)-1, modules), nil
}

// tracepointNames takes the names of a tracepoint's want arguments from the
// functions that the kernel generates next to it: __traceiter_NAME (since
// 5.10), __probestub_NAME (since 6.4), __bpf_trace_NAME (since 4.18, named
// after the event class).
func (k *Kernel) tracepointNames(name string, want int, modules []string) []string {
	for _, prefix := range []string{"__traceiter_", "__probestub_", "__bpf_trace_"} {
		args, err := k.FuncArgs(prefix+name, modules...)
		if err == nil && len(args) == want+1 {
			return args[1:]
		}
	}
	return make([]string, want)
}

// HasTracepoint tells whether the kernel has the tracepoint for tp_btf.
func (k *Kernel) HasTracepoint(name string, modules ...string) bool {
	_, err := k.TracepointArgs(name, modules...)
	return err == nil
}

func paramNames(params []btf.FuncParam) []string {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	return names
}

// HasType tells whether the kernel, or one of the named loaded modules, has a
// type of that name (of any kind: struct, enum, typedef, function).
func (k *Kernel) HasType(name string, modules ...string) bool {
	err := k.find(name, modules, func(spec *btf.Spec, _ string) error {
		_, err := spec.AnyTypesByName(name)
		return err
	})
	return err == nil
}

// FieldOffset is the distance in bytes from the start of a struct or union to
// one of its fields. The path may lead through embedded structs ("nf.hooks_ipv4")
// and needs no names for anonymous ones. It fails with ErrNotFound when the
// struct or the field does not exist, and refuses a field that starts within a
// byte.
func (k *Kernel) FieldOffset(structName, path string, modules ...string) (uint32, error) {
	var typ btf.Type
	err := k.find(structName, modules, func(spec *btf.Spec, _ string) (err error) {
		typ, err = structByName(spec, structName)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("struct %s: %w", structName, err)
	}
	var bits btf.Bits
	for _, name := range strings.Split(path, ".") {
		member, at, ok := findMember(typ, name)
		if !ok {
			return 0, fmt.Errorf("struct %s: field %s: %w", structName, path, ErrNotFound)
		}
		typ, bits = member.Type, bits+at
	}
	if bits%8 != 0 {
		return 0, fmt.Errorf("struct %s: field %s is a bit field starting at bit %d", structName, path, bits)
	}
	return bits.Bytes(), nil
}

// HasField tells whether FieldOffset would find the field.
func (k *Kernel) HasField(structName, path string, modules ...string) bool {
	_, err := k.FieldOffset(structName, path, modules...)
	return err == nil
}

// structByName finds the struct or union among the types of that name.
func structByName(spec *btf.Spec, name string) (btf.Type, error) {
	types, err := spec.AnyTypesByName(name)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		switch t.(type) {
		case *btf.Struct, *btf.Union:
			return t, nil
		}
	}
	return nil, fmt.Errorf("struct %s: %w", name, btf.ErrNotFound)
}

// findMember finds a member by name, looking into anonymous members too, and
// says where it starts.
func findMember(typ btf.Type, name string) (btf.Member, btf.Bits, bool) {
	for _, m := range members(typ) {
		if m.Name == name {
			return m, m.Offset, true
		}
		if m.Name != "" {
			continue
		}
		if inner, at, ok := findMember(m.Type, name); ok {
			return inner, m.Offset + at, true
		}
	}
	return btf.Member{}, 0, false
}

func members(typ btf.Type) []btf.Member {
	switch t := btf.UnderlyingType(typ).(type) {
	case *btf.Struct:
		return t.Members
	case *btf.Union:
		return t.Members
	}
	return nil
}

// EnumNames lists the names of an enum's values by value. Of names that share
// a value the first wins. It fails with ErrNotFound when there is no such enum.
func (k *Kernel) EnumNames(enum string, modules ...string) (map[uint64]string, error) {
	values, err := k.enumValues(enum, modules...)
	if err != nil {
		return nil, err
	}
	names := make(map[uint64]string, len(values))
	for _, v := range values {
		if _, taken := names[v.Value]; !taken {
			names[v.Value] = v.Name
		}
	}
	return names, nil
}

// EnumValue is one value of an enum. It fails with ErrNotFound when the enum or
// the name in it does not exist.
func (k *Kernel) EnumValue(enum, name string, modules ...string) (uint64, error) {
	values, err := k.enumValues(enum, modules...)
	if err != nil {
		return 0, err
	}
	for _, v := range values {
		if v.Name == name {
			return v.Value, nil
		}
	}
	return 0, fmt.Errorf("enum %s: value %s: %w", enum, name, ErrNotFound)
}

func (k *Kernel) enumValues(enum string, modules ...string) ([]btf.EnumValue, error) {
	var e *btf.Enum
	err := k.find(enum, modules, func(spec *btf.Spec, _ string) error {
		return spec.TypeByName(enum, &e)
	})
	if err != nil {
		return nil, fmt.Errorf("enum %s: %w", enum, err)
	}
	return e.Values, nil
}

// AtLeast tells whether the kernel's release is major.minor or later. It is
// for the few changes of behaviour that leave no trace in types or symbols;
// whatever can be probed is probed.
func (k *Kernel) AtLeast(major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(k.release, "%d.%d", &a, &b); n < 2 || err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// ReturnsEnum tells whether a function of the kernel returns an enum: what was
// an errno became a drop reason in several functions of net/ipv4/route.c.
func (k *Kernel) ReturnsEnum(name string) bool {
	fn, _, err := k.FindFunc(name)
	if err != nil {
		return false
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return false
	}
	_, ok = btf.UnderlyingType(proto.Return).(*btf.Enum)
	return ok
}
