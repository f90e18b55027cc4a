// SPDX-License-Identifier: Apache-2.0

package kernel

// This file names kernel addresses: where a packet was freed, and the stack
// above it. It reads /proc/kallsyms once and keeps text symbols only, in one
// sorted slice with all names in one string, since a kernel has 100,000 to
// 250,000 of them and a node has better uses for its memory.

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
)

// procKallsyms has one symbol a line: address, type, name and for modules a
// tab and the module's name in brackets (kernel/kallsyms.c, s_show).
const procKallsyms = "/proc/kallsyms"

// maxFunc bounds how far behind a symbol an address may lie and still be named
// after it. kallsyms tells no sizes; no kernel function comes near 1 MiB, and
// the gaps between the image, the modules and BPF programs are larger.
const maxFunc = 1 << 20

// ErrNoSymbols: the kernel has no symbol list.
var ErrNoSymbols = errors.New("kernel has no symbol list")

// Symbols names kernel text addresses. It is safe for concurrent use.
type Symbols struct {
	path  string
	table atomic.Pointer[symbolTable]
}

// symbolTable is one reading of the symbol list.
type symbolTable struct {
	names   string
	modules []string // [0] is the image: ""
	entries []symbol // sorted by address; of one address in the list's own order
	hidden  bool
	data    map[string]uint64 // addresses of the variables that somebody asks for
}

// symbol is 16 bytes. A name is names[name : name+length].
type symbol struct {
	addr   uint64
	name   uint32
	length uint16
	module uint16
}

// LoadSymbols reads /proc/kallsyms. Hidden addresses are no error, see Hidden.
func LoadSymbols() (*Symbols, error) {
	s := &Symbols{path: procKallsyms}
	return s, s.Reload()
}

// Reload reads the list again, for modules and BPF programs that came later.
// On failure the former list stays in use.
func (s *Symbols) Reload() error {
	b := &symbolBuilder{table: &symbolTable{modules: []string{""}, hidden: true, data: make(map[string]uint64)}, modules: map[string]uint16{"": 0}}
	if err := eachSymbol(s.path, b.add); err != nil {
		return err
	}
	s.table.Store(b.done())
	return nil
}

// eachSymbol hands over the lines of a list, one by one: the whole is 5 to 20 MiB.
// A line is valid until the next.
func eachSymbol(path string, take func(line []byte) error) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w (needs CONFIG_KALLSYMS=y): functions cannot be named", path, ErrNoSymbols)
	}
	if err != nil {
		return fmt.Errorf("read kernel symbols: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	number := 0
	for lines.Scan() {
		number++
		if err := take(lines.Bytes()); err != nil {
			return fmt.Errorf("%s: line %d: %w", path, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read kernel symbols: %s: line %d: %w", path, number+1, err)
	}
	return nil
}

// symbolBuilder gathers a table line by line.
type symbolBuilder struct {
	table   *symbolTable
	names   []byte
	modules map[string]uint16
}

// done gives the table, without room to spare.
func (b *symbolBuilder) done() *symbolTable {
	t := b.table
	t.names = string(b.names)
	t.entries = slices.Clone(t.entries)
	slices.SortStableFunc(t.entries, func(x, y symbol) int { return cmp.Compare(x.addr, y.addr) })
	return t
}

// splitSymbol takes a line apart: address, type, name, and for modules the module
// in brackets. The name is nil if the line is none.
func splitSymbol(line []byte) (addr []byte, kind byte, name, module []byte) {
	addr, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(rest) < 3 || rest[1] != ' ' {
		return nil, 0, nil, nil
	}
	name, module, _ = bytes.Cut(rest[2:], []byte{'\t'})
	return addr, rest[0], name, module
}

// isText tells the types of functions, weak ones too.
func isText(kind byte) bool { return kind == 't' || kind == 'T' || kind == 'w' || kind == 'W' }

// add takes one line: "ffffffff81000000 T _stext" or "... t name\t[module]".
func (b *symbolBuilder) add(line []byte) error {
	addrText, kind, name, module := splitSymbol(line)
	if name == nil {
		return fmt.Errorf("%q is no symbol", line)
	}
	addr, err := parseHex(addrText)
	if err != nil {
		return fmt.Errorf("%q is no symbol: %w", line, err)
	}
	if addr != 0 {
		b.table.hidden = false
	}
	if !isText(kind) {
		if string(name) == NetTablesNumber {
			b.table.data[NetTablesNumber] = addr
		}
		return nil
	}
	if len(name) > 1<<16-1 || len(b.names)+len(name) > 1<<32-1 {
		return fmt.Errorf("symbol name of %d bytes is too long", len(name))
	}
	mod, err := b.module(bytes.Trim(module, "[]"))
	if err != nil {
		return err
	}
	b.table.entries = append(b.table.entries, symbol{
		addr: addr, name: uint32(len(b.names)), length: uint16(len(name)), module: mod,
	})
	b.names = append(b.names, name...)
	return nil
}

func (b *symbolBuilder) module(name []byte) (uint16, error) {
	if id, ok := b.modules[string(name)]; ok {
		return id, nil
	}
	if len(b.table.modules) == 1<<16 {
		return 0, fmt.Errorf("more than %d modules", len(b.table.modules))
	}
	id := uint16(len(b.table.modules))
	b.modules[string(name)] = id
	b.table.modules = append(b.table.modules, string(name))
	return id, nil
}

// parseHex is strconv.ParseUint(s, 16, 64) without making a string of each of
// 200,000 addresses.
func parseHex(s []byte) (uint64, error) {
	if len(s) == 0 || len(s) > 16 {
		return 0, fmt.Errorf("address %q", s)
	}
	var n uint64
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, fmt.Errorf("address %q", s)
		}
	}
	return n, nil
}

// Hidden tells that the kernel shows all addresses as zero, because of
// kernel.kptr_restrict or a missing capability. Then no address has a name.
func (s *Symbols) Hidden() bool { return s.table.Load().hidden }

// Note says in one line what to do about hidden symbols; "" when they are not.
func (s *Symbols) Note() string {
	if !s.Hidden() {
		return ""
	}
	return "kernel addresses are hidden, so functions show as bare addresses: run as root with CAP_SYSLOG and kernel.kptr_restrict below 2"
}

// Name is the text symbol an address lies in, how far behind its start in
// bytes, and the module it belongs to ("" for the image, "bpf" for programs).
// Of aliases the kernel's own order decides.
func (s *Symbols) Name(addr uint64) (name string, off uint64, module string, ok bool) {
	t := s.table.Load()
	if t.hidden || len(t.entries) == 0 {
		return "", 0, "", false
	}
	i, exact := slices.BinarySearchFunc(t.entries, addr, func(e symbol, a uint64) int { return cmp.Compare(e.addr, a) })
	if !exact {
		if i == 0 {
			return "", 0, "", false
		}
		// The last of the entries below; step back to the first alias.
		for i--; i > 0 && t.entries[i-1].addr == t.entries[i].addr; i-- {
		}
	}
	e := t.entries[i]
	if off = addr - e.addr; off >= maxFunc {
		return "", 0, "", false
	}
	return t.name(e), off, t.modules[e.module], true
}

// NetTablesNumber is the variable that holds nf_tables' number among the subsystems
// of a network namespace (net/netfilter/nf_tables_api.c): the only one whose address
// is kept. Kernels without CONFIG_KALLSYMS_ALL do not list it.
const NetTablesNumber = "nf_tables_net_id"

// Variable is the address of a variable, as long as it is not hidden.
func (s *Symbols) Variable(name string) (uint64, bool) {
	addr := s.table.Load().data[name]
	return addr, addr != 0
}

// Addr is the address of a text symbol; of several functions of one name the
// lowest, see Addrs. It is not known when addresses are hidden.
func (s *Symbols) Addr(name string) (uint64, bool) {
	addrs := s.Addrs(name)
	if len(addrs) == 0 {
		return 0, false
	}
	return addrs[0], true
}

// Addrs lists the addresses of all text symbols of a name, ascending: static
// functions of one name may exist several times. It is empty when addresses
// are hidden.
func (s *Symbols) Addrs(name string) []uint64 {
	t := s.table.Load()
	if t.hidden {
		return nil
	}
	var addrs []uint64
	for _, e := range t.entries {
		if int(e.length) == len(name) && t.name(e) == name {
			addrs = append(addrs, e.addr)
		}
	}
	return addrs
}

// Has tells whether the kernel has a text symbol of that name, hidden or not.
func (s *Symbols) Has(name string) bool {
	t := s.table.Load()
	return slices.ContainsFunc(t.entries, func(e symbol) bool {
		return int(e.length) == len(name) && t.name(e) == name
	})
}

// Len counts the text symbols.
func (s *Symbols) Len() int { return len(s.table.Load().entries) }

// Format prints an address as "nf_hook_slow+0x3d", or as "0xffffffff81234567"
// when it has no name.
func (s *Symbols) Format(addr uint64) string {
	name, off, _, ok := s.Name(addr)
	if !ok {
		return "0x" + strconv.FormatUint(addr, 16)
	}
	return name + "+0x" + strconv.FormatUint(off, 16)
}

func (t *symbolTable) name(e symbol) string { return t.names[e.name : e.name+uint32(e.length)] }

// HasBuiltin tells, per name, whether the kernel image itself (not a module)
// has a text symbol of that name. It is the way to ask whether a part of the
// kernel is there without waking it up. It needs no addresses, so hidden ones
// do not matter.
func HasBuiltin(names ...string) (map[string]bool, error) { return builtins(procKallsyms, names) }

func builtins(path string, names []string) (map[string]bool, error) {
	found := make(map[string]bool, len(names))
	for _, name := range names {
		found[name] = false
	}
	err := eachSymbol(path, func(line []byte) error {
		name := builtin(line)
		if _, asked := found[string(name)]; asked {
			found[string(name)] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// builtin gives the name of a text symbol outside modules that a line has; nil:
// it has none.
func builtin(line []byte) []byte {
	if _, kind, name, module := splitSymbol(line); isText(kind) && module == nil {
		return name
	}
	return nil
}
