// SPDX-License-Identifier: Apache-2.0

package nft

// This file asks the kernel for the rule sets: whole, one table, one chain, or
// only whether anything changed. Cost (BenchmarkRead, kernel 6.18): the
// generation alone is one question of some 10 us; kube-proxy's 390 rules with 330
// sets take some 15 ms of processor time, two thirds of it two system calls a
// set, so that the number of sets counts more than that of rules. Who wants one
// rule of a table that changes all the time reads its chain (ReadChain): five
// lists, and the elements of only those sets the chain refers to.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// ErrBusy: the rule set changed each time while it was read.
var ErrBusy = errors.New("the rule set kept changing while it was read")

// ErrNotFound: there is no such table or chain.
var ErrNotFound = errors.New("no such table or chain")

// Messages (linux/netfilter/nfnetlink.h, enum nf_tables_msg_types): NFT_MSG_NEW*
// answers NFT_MSG_GET*.
const (
	subsystem = 10 << 8 // NFNL_SUBSYS_NFTABLES

	msgNewTable, msgGetTable         = subsystem, subsystem | 1
	msgNewChain, msgGetChain         = subsystem | 3, subsystem | 4
	msgNewRule, msgGetRule           = subsystem | 6, subsystem | 7
	msgNewSet, msgGetSet             = subsystem | 9, subsystem | 10
	msgNewElem, msgGetElem           = subsystem | 12, subsystem | 13
	msgNewGen, msgGetGen             = subsystem | 15, subsystem | 16
	msgNewObj, msgGetObj             = subsystem | 18, subsystem | 19
	msgNewFlowtable, msgGetFlowtable = subsystem | 22, subsystem | 23
)

// readTries bounds the reads of a rule set that changes under way; between two
// of them there is a pause that grows by readPause.
const (
	readTries = 20
	readPause = 5 * time.Millisecond
)

// Read reads all tables of the calling thread's network namespace. It fails
// with ErrBusy, with the context's error, or with the kernel's.
func Read(ctx context.Context) (*Ruleset, error) {
	return withReader(ctx, func(r *reader) (*Ruleset, error) { return r.all(scope{}) })
}

// ReadTable reads one table. It fails like Read, and with ErrNotFound.
func ReadTable(ctx context.Context, family, table string) (*Ruleset, error) {
	return readScope(ctx, scope{family: family, table: table})
}

// ReadChain reads the rules of one chain, and the sets of its table, of which
// only those have elements that the rules refer to. For a rule that is wanted
// after a change this is enough to tell its number and text. It fails like
// ReadTable.
func ReadChain(ctx context.Context, family, table, chain string) (*Ruleset, error) {
	return readScope(ctx, scope{family: family, table: table, chain: chain})
}

func readScope(ctx context.Context, s scope) (*Ruleset, error) {
	number, err := familyNumber(s.family)
	if err != nil {
		return nil, err
	}
	s.number = number
	return withReader(ctx, func(r *reader) (*Ruleset, error) { return r.all(s) })
}

// Generation tells the generation of the rule set: it differs after every
// commit to any table of the namespace.
func Generation(ctx context.Context) (uint32, error) {
	var gen uint32
	_, err := withReader(ctx, func(r *reader) (_ *Ruleset, err error) {
		gen, err = r.generation()
		return nil, err
	})
	return gen, err
}

// Refresh brings a rule set up to date: rs itself when the generation is still
// the same (one question), and else a new one in which only the tables listed
// were read again; the others are those of rs, which may be out of date. With
// no table listed everything is read again. A table that is gone is left out.
func (rs *Ruleset) Refresh(ctx context.Context, tables ...*Table) (*Ruleset, error) {
	return withReader(ctx, func(r *reader) (*Ruleset, error) {
		gen, err := r.generation()
		switch {
		case err != nil:
			return nil, err
		case gen == rs.Generation:
			return rs, nil
		case len(tables) == 0:
			return r.all(scope{})
		}
		next := &Ruleset{Tables: slices.Clone(rs.Tables), names: rs.names}
		for _, t := range tables {
			number, err := familyNumber(t.Family)
			if err != nil {
				return nil, err
			}
			part, err := r.all(scope{family: t.Family, number: number, table: t.Name})
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, err
			}
			next.replace(t.Family, t.Name, part)
		}
		return next, nil
	})
}

// replace puts a table read again in the place of the old one; part is nil when
// it is gone.
func (rs *Ruleset) replace(family, name string, part *Ruleset) {
	at := slices.IndexFunc(rs.Tables, func(t *Table) bool { return t.Family == family && t.Name == name })
	switch {
	case part == nil && at >= 0:
		rs.Tables = slices.Delete(rs.Tables, at, at+1)
	case part == nil:
	case at >= 0:
		rs.Tables[at] = part.Tables[0]
	default:
		rs.Tables = append(rs.Tables, part.Tables[0])
	}
	if part != nil {
		rs.Generation, rs.names = part.Generation, part.names
	}
}

// scope is what is read: everything, a table, or a chain.
type scope struct {
	family, table, chain string
	number               uint8 // of the family; 0: all
}

// has tells whether something of a table is wanted.
func (s scope) has(family, table string) bool {
	return s.table == "" || s.family == family && s.table == table
}

// reader is one conversation with the kernel.
type reader struct {
	ctx  context.Context
	conn *nfnetlink.Conn
}

// withReader opens a socket in the calling thread's namespace for a question.
func withReader(ctx context.Context, ask func(*reader) (*Ruleset, error)) (*Ruleset, error) {
	conn, err := nfnetlink.Open()
	if err != nil {
		return nil, fmt.Errorf("read nft rule set: %w", err)
	}
	rs, err := ask(&reader{ctx: ctx, conn: conn})
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("read nft rule set: %w", err)
	}
	return rs, nil
}

// generation asks for the number of commits (enum nft_gen_attributes).
func (r *reader) generation() (uint32, error) {
	const genID = 1
	msg, err := r.conn.Get(r.ctx, msgGetGen, msgNewGen, nfnetlink.Header(0))
	if err != nil {
		return 0, fmt.Errorf("generation: %w", err)
	}
	a, err := nfnetlink.Message(msg)
	if err != nil {
		return 0, fmt.Errorf("generation: %w", err)
	}
	id, ok := a.Uint32(genID)
	if !ok {
		return 0, errors.New("generation: the kernel gave none")
	}
	return id, nil
}

// all reads a scope until it did not change under way.
func (r *reader) all(s scope) (*Ruleset, error) {
	for try := 1; ; try++ {
		rs, err := r.once(s)
		if err == nil || !changed(err) {
			return rs, err
		}
		if try == readTries {
			return nil, fmt.Errorf("%w: %d times: try again", ErrBusy, readTries)
		}
		select {
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		case <-time.After(time.Duration(try) * readPause):
		}
	}
}

// errChanged: the generation differed after the read.
var errChanged = errors.New("the generation changed")

// changed tells whether a failed read is worth another try.
func changed(err error) bool {
	return errors.Is(err, errChanged) || errors.Is(err, nfnetlink.ErrInterrupted) || errors.Is(err, unix.EINTR)
}

// once reads a scope. What does not fit together because of a commit in between
// is told as errChanged, not as what it looks like.
func (r *reader) once(s scope) (*Ruleset, error) {
	before, err := r.generation()
	if err != nil {
		return nil, err
	}
	rs, readErr := r.objects(s)
	after, err := r.generation()
	switch {
	case err != nil:
		return nil, err
	case before != after:
		return nil, errChanged
	case readErr != nil:
		return nil, readErr
	}
	rs.Generation = after
	return rs, nil
}

// objects reads one list per kind of object, and the elements of each set.
func (r *reader) objects(s scope) (*Ruleset, error) {
	b := &builder{rs: &Ruleset{}, scope: s}
	lists := []struct {
		what        string
		ask, answer uint16
		body        []byte
		add         func([]byte) error
	}{
		{"tables", msgGetTable, msgNewTable, nfnetlink.Header(s.number), b.addTable},
		{"chains", msgGetChain, msgNewChain, nfnetlink.Header(s.number), b.addChain},
		{"rules", msgGetRule, msgNewRule, ruleFilter(s), b.addRule},
		{"sets", msgGetSet, msgNewSet, tableFilter(s), b.addSet},
		{"objects", msgGetObj, msgNewObj, tableFilter(s), b.addObject},
		{"flowtables", msgGetFlowtable, msgNewFlowtable, tableFilter(s), b.addFlowtable},
	}
	for _, l := range lists {
		msgs, err := r.conn.Dump(r.ctx, l.ask, l.answer, l.body)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", l.what, err)
		}
		for _, m := range msgs {
			if err := l.add(m); err != nil {
				return nil, err
			}
		}
		if err := b.found(l.answer); err != nil {
			return nil, err
		}
	}
	if err := r.elements(b); err != nil {
		return nil, err
	}
	names, err := readNames(b.rs)
	if err != nil {
		return nil, err
	}
	b.rs.names = names
	return b.rs, nil
}

// Attributes that name a table and a chain in a question.
const (
	attrTable     = 1 // NFTA_*_TABLE
	attrRuleChain = 2 // NFTA_RULE_CHAIN
	attrElemSet   = 2 // NFTA_SET_ELEM_LIST_SET
)

func tableFilter(s scope) []byte {
	body := nfnetlink.Header(s.number)
	if s.table != "" {
		body = nfnetlink.PutText(body, attrTable, s.table)
	}
	return body
}

func ruleFilter(s scope) []byte {
	body := tableFilter(s)
	if s.chain != "" {
		body = nfnetlink.PutText(body, attrRuleChain, s.chain)
	}
	return body
}

// elements reads the elements of all sets; of one chain's scope only those its
// rules refer to.
func (r *reader) elements(b *builder) error {
	for _, t := range b.rs.Tables {
		wanted := b.wanted(t)
		for _, s := range t.Sets {
			if wanted != nil && !wanted[s.Name] {
				continue
			}
			number, err := familyNumber(s.Family)
			if err != nil {
				return err
			}
			body := nfnetlink.PutText(nfnetlink.Header(number), attrTable, s.Table)
			msgs, err := r.conn.Dump(r.ctx, msgGetElem, msgNewElem, nfnetlink.PutText(body, attrElemSet, s.Name))
			if err != nil {
				return fmt.Errorf("list elements of set %s: %w", s.Name, err)
			}
			for _, m := range msgs {
				if err := decodeElements(s, m); err != nil {
					return err
				}
			}
			s.buildIndex()
		}
	}
	return nil
}
