// SPDX-License-Identifier: Apache-2.0

// names.go reads the flags that say where pods and services are looked up, and
// --probe, which needs their answer.

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/probe"
)

// sources takes where names are looked up.
func (r *raw) sources(opt *options) error {
	opt.names = endpoint.Sources{
		Namespace: r.namespace.value, CNICache: r.cache.value, CRISocket: r.socket.value,
		Kubeconfig: r.kubeconfig.value, HostRoot: r.hostRoot.value,
	}
	if strings.Contains(r.namespace.value, "/") {
		return fmt.Errorf("bad namespace %q: give its name alone, such as kube-system", r.namespace.value)
	}
	return nil
}

// reproduction takes --probe, and sees to it that the probe is part of what is
// traced.
func (r *raw) reproduction(opt *options) error {
	if !r.probe.given {
		return nil
	}
	spec, err := probe.Parse(r.probe.value)
	switch {
	case err != nil:
		return err
	case len(opt.command) > 0:
		return errors.New("--probe and -- COMMAND are both given: take one of them as the reproduction")
	case opt.proto != "" && opt.proto != spec.Proto:
		return fmt.Errorf("--probe %s would not be seen with --proto %s: leave one of them out", spec, opt.proto)
	case opt.port != 0 && opt.port != spec.Port:
		return fmt.Errorf("--probe %s would not be seen with --port %d: leave one of them out", spec, opt.port)
	}
	opt.probe = &spec
	return nil
}

// checkPaths finds flags that name something that is not there, since a source
// of names that cannot be read would otherwise just know nothing.
func checkPaths(opt options) error {
	for _, f := range []struct{ flag, path, give string }{
		{"netns", opt.netns, "the path of a network namespace, such as /run/netns/NAME or /proc/PID/ns/net"},
		{"cni-cache", opt.names.CNICache, "the folder with libcni's results, such as /var/lib/cni/results"},
		{"cri-socket", strings.TrimPrefix(opt.names.CRISocket, "unix://"), "the runtime's socket, such as /run/containerd/containerd.sock"},
		{"kubeconfig", opt.names.Kubeconfig, "the path of a kubeconfig file"},
		{"host-root", opt.names.HostRoot, "the folder where the node's /proc, /run and /var are mounted"},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			return fmt.Errorf("--%s %s: %w: give %s", f.flag, f.path, rootCause(err), f.give)
		}
	}
	return nil
}
