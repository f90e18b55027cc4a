// SPDX-License-Identifier: Apache-2.0

package field

import (
	"context"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// lies lists what a finding says that the system's own tools say otherwise.
func (s *Stage) lies(ctx context.Context, f model.Finding) []string { return nil }
