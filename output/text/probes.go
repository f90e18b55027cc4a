// SPDX-License-Identifier: Apache-2.0

// probes.go prints what --probe came to: the application's view, beside what the
// trace saw.

package text

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// probes prints one line for each address that was probed.
func (w *Writer) probes(all []model.Probe) {
	for _, p := range all {
		look := good
		if !p.Answered {
			look = bad
		}
		to := strings.ToUpper(p.Proto) + " " + p.From + " > " + hostPort(p.Dst, p.DstPort)
		w.page.para(9, span{"probe    ", bold}, span{to + ": ", plain}, span{p.Text, look})
	}
}
