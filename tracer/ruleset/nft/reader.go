// SPDX-License-Identifier: Apache-2.0

package nft

// This file asks the kernel for the rule sets, or only whether anything changed.
// Cost (BenchmarkRead, kernel 6.18): the generation alone is one question of some
// 10 us; kube-proxy's 390 rules with 330 sets take some 15 ms of processor time,
// two thirds of it two system calls a set, so that the number of sets counts more
// than that of rules.

import (
	"context"
	"errors"
	"fmt"
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
	return withReader(ctx, func(r *reader) (*Ruleset, error) { return r.all() })
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
// the same (one question), and else a new one.
func (rs *Ruleset) Refresh(ctx context.Context) (*Ruleset, error) {
	return withReader(ctx, func(r *reader) (*Ruleset, error) {
		gen, err := r.generation()
		switch {
		case err != nil:
			return nil, err
		case gen == rs.Generation:
			return rs, nil
		}
		return r.all()
	})
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

// all reads all tables until they did not change under way.
func (r *reader) all() (*Ruleset, error) {
	for try := 1; ; try++ {
		rs, err := r.once()
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

// once reads all tables. What does not fit together because of a commit in between
// is told as errChanged, not as what it looks like.
func (r *reader) once() (*Ruleset, error) {
	before, err := r.generation()
	if err != nil {
		return nil, err
	}
	rs, readErr := r.objects()
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
func (r *reader) objects() (*Ruleset, error) {
	b := &builder{rs: &Ruleset{}}
	lists := []struct {
		what        string
		ask, answer uint16
		add         func([]byte) error
	}{
		{"tables", msgGetTable, msgNewTable, b.addTable},
		{"chains", msgGetChain, msgNewChain, b.addChain},
		{"rules", msgGetRule, msgNewRule, b.addRule},
		{"sets", msgGetSet, msgNewSet, b.addSet},
		{"objects", msgGetObj, msgNewObj, b.addObject},
		{"flowtables", msgGetFlowtable, msgNewFlowtable, b.addFlowtable},
	}
	for _, l := range lists {
		msgs, err := r.conn.Dump(r.ctx, l.ask, l.answer, nfnetlink.Header(0))
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", l.what, err)
		}
		for _, m := range msgs {
			if err := l.add(m); err != nil {
				return nil, err
			}
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

// Attributes that name a set in a question.
const (
	attrTable   = 1 // NFTA_SET_ELEM_LIST_TABLE
	attrElemSet = 2 // NFTA_SET_ELEM_LIST_SET
)

// elements reads the elements of all sets.
func (r *reader) elements(b *builder) error {
	for _, t := range b.rs.Tables {
		for _, s := range t.Sets {
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
