// SPDX-License-Identifier: Apache-2.0

// wire.go is the one place where the command line meets the real tracer.

package main

import (
	"context"

	"github.com/pathtrace/pathtrace/tracer"
)

// openTracer is the opener of the program.
func openTracer(ctx context.Context, opt options, warn, verbose func(string)) (session, error) {
	if err := checkPrivileges(); err != nil {
		return nil, err
	}
	saveMemory()
	t, err := tracer.New(ctx, tracer.Config{
		Src: opt.src, Dst: opt.dst, Proto: opt.proto, Port: opt.port, Backend: opt.backend,
		NetnsPath: opt.netns, Names: opt.names, Packets: opt.packets, Sample: opt.sample, SnapLen: opt.snapLen, Version: version(), Warn: warn, Verbose: verbose,
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}
