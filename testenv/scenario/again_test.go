// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"testing"
)

// tester is what a scenario needs of a test.
type tester interface {
	Helper()
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
	Excuse(format string, args ...any)
}

// attempt is one try at a scenario. It keeps what is wrong instead of failing.
type attempt struct {
	*testing.T
	problems []string
	excuses  []string
}

// recorder only counts what is wrong.
type recorder struct {
	tester
	problems int
}

func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Error(...any)          { r.problems++ }
func (r *recorder) Errorf(string, ...any) { r.problems++ }

// givenUp ends an attempt, as Fatal ends a test.
type givenUp struct{}

func (a *attempt) Error(args ...any) { a.problems = append(a.problems, fmt.Sprint(args...)) }

func (a *attempt) Errorf(format string, args ...any) {
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

func (a *attempt) Fatal(args ...any) {
	a.Error(args...)
	panic(givenUp{})
}

func (a *attempt) Fatalf(format string, args ...any) {
	a.Errorf(format, args...)
	panic(givenUp{})
}

func (a *attempt) run(f func(tester)) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(givenUp); !ok {
				panic(r)
			}
		}
	}()
	f(a)
}

// Excuse notes that the scenario itself did not come about: the sender did not
// see what the fault does, or healthy traffic did not pass.
func (a *attempt) Excuse(format string, args ...any) {
	a.excuses = append(a.excuses, fmt.Sprintf(format, args...))
}

func (r *recorder) Excuse(string, ...any) {}

// again gives a scenario that did not come about a second try, with what it uses
// made afresh: its traffic is real, and a machine that emulates others at once
// may starve it. What the tracer said wrong has no second try.
func again(t *testing.T, f func(tester), afresh func()) {
	t.Helper()
	first := attempt{T: t}
	first.run(f)
	if len(first.problems) == 0 {
		return
	}
	if len(first.excuses) == 0 {
		first.report()
		return
	}
	for _, p := range append(first.excuses, first.problems...) {
		t.Logf("SECOND TRY after: %s", p)
	}
	afresh()
	second := attempt{T: t}
	second.run(f)
	second.report()
}

func (a *attempt) report() {
	for _, e := range a.excuses {
		a.T.Log(e)
	}
	for _, p := range a.problems {
		a.T.Error(p)
	}
}
