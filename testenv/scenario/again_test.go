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
}

// attempt is one try at a scenario. It keeps what is wrong instead of failing.
type attempt struct {
	*testing.T
	problems []string
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

// again gives a scenario a second try, with what it uses made afresh. The traffic is real and its timeouts are
// short, and a machine that emulates two others at once may starve it; what
// was wrong at first is always printed, and what is wrong twice fails.
func again(t *testing.T, f func(tester), afresh func()) {
	t.Helper()
	first := attempt{T: t}
	first.run(f)
	if len(first.problems) == 0 {
		return
	}
	for _, p := range first.problems {
		t.Logf("SECOND TRY after: %s", p)
	}
	afresh()
	second := attempt{T: t}
	second.run(f)
	for _, p := range second.problems {
		t.Error(p)
	}
}
