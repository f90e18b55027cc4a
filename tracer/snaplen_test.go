// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/attach"
)

func TestSnapLenRefused(t *testing.T) {
	for _, n := range []int{-1, attach.MaxSnapLen + 1} {
		_, err := New(t.Context(), Config{Src: "10.0.0.1", Dst: "any", SnapLen: n})
		if err == nil || !strings.Contains(err.Error(), "not within 0 and 65535") {
			t.Errorf("%d: %v", n, err)
		}
	}
}
