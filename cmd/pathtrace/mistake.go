// SPDX-License-Identifier: Apache-2.0

// mistake.go says in our words what is wrong with a command line, and what was
// probably meant.

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/tracer/endpoint/spelling"
)

// flagError says what pflag found wrong in our words.
func flagError(set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	var empty *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			name = "-" + unknown.GetSpecifiedName()
		}
		return fmt.Errorf("unknown flag %s: %s", name, nearest(set, unknown.GetSpecifiedName()))
	case errors.As(err, &empty):
		return fmt.Errorf("--%s needs a value: see pathtrace --help", empty.GetFlag().Name)
	case errors.As(err, &invalid) && errors.Is(err, errTwice):
		return fmt.Errorf("--%s is given twice: give it once", invalid.GetFlag().Name)
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s takes no value such as %q: give it alone", invalid.GetFlag().Name, invalid.GetValue())
	}
	return fmt.Errorf("%w: see pathtrace --help", err)
}

// nearest proposes the flag that was probably meant.
func nearest(set *pflag.FlagSet, name string) string {
	hint := "see pathtrace --help"
	best := 3
	set.VisitAll(func(f *pflag.Flag) {
		if d := spelling.Distance(name, f.Name); d < best && len(name) > 2 {
			best, hint = d, "did you mean --"+f.Name+"?"
		}
	})
	return hint
}
