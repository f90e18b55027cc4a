// SPDX-License-Identifier: Apache-2.0

// Package critest is a container runtime for tests: it answers the two
// questions that package cri asks, from a list, over a real socket. What a real
// containerd answers is tested elsewhere.
package critest

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is a pod sandbox of the runtime.
type Pod struct {
	ID, Namespace, Name string
	Created             int64 // nanoseconds since 1970
	Addrs               []string
	Netns               string // path in the verbose status; "" none
	PID                 int
	HostNetwork         bool
	Gone                bool // listed, but its status is not found
	Silent              bool // without a verbose status
}

// Runtime is a list of pods behind a socket.
type Runtime struct {
	runtime.UnimplementedRuntimeServiceServer
	Pods []Pod
}

// Serve starts a runtime with the pods and gives its socket. It ends with the
// test.
func Serve(t testing.TB, pods ...Pod) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtime.RegisterRuntimeServiceServer(server, &Runtime{Pods: pods})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("runtime for tests: %v", err)
		}
	})
	return socket
}

// ListPodSandbox implements the CRI. A filter other than for ready sandboxes
// is not expected.
func (r *Runtime) ListPodSandbox(_ context.Context, req *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	if req.GetFilter().GetState().GetState() != runtime.PodSandboxState_SANDBOX_READY {
		return nil, status.Error(codes.InvalidArgument, "ready sandboxes only")
	}
	resp := &runtime.ListPodSandboxResponse{}
	for _, p := range r.Pods {
		resp.Items = append(resp.Items, &runtime.PodSandbox{
			Id: p.ID, Metadata: &runtime.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace}, CreatedAt: p.Created,
		})
	}
	return resp, nil
}

// PodSandboxStatus implements the CRI.
func (r *Runtime) PodSandboxStatus(_ context.Context, req *runtime.PodSandboxStatusRequest) (*runtime.PodSandboxStatusResponse, error) {
	for _, p := range r.Pods {
		if p.ID == req.GetPodSandboxId() && !p.Gone {
			return p.status(req.GetVerbose())
		}
	}
	return nil, status.Error(codes.NotFound, "an error occurred when try to find sandbox: not found")
}

func (p Pod) status(verbose bool) (*runtime.PodSandboxStatusResponse, error) {
	st := &runtime.PodSandboxStatus{
		Id: p.ID, Metadata: &runtime.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace},
		State: runtime.PodSandboxState_SANDBOX_READY, CreatedAt: p.Created, Network: &runtime.PodSandboxNetworkStatus{},
		Linux: &runtime.LinuxPodSandboxStatus{Namespaces: &runtime.Namespace{Options: &runtime.NamespaceOption{}}},
	}
	if p.HostNetwork {
		st.Linux.Namespaces.Options.Network = runtime.NamespaceMode_NODE
	}
	for i, a := range p.Addrs {
		if i == 0 {
			st.Network.Ip = a
			continue
		}
		st.Network.AdditionalIps = append(st.Network.AdditionalIps, &runtime.PodIP{Ip: a})
	}
	resp := &runtime.PodSandboxStatusResponse{Status: st}
	if !verbose || p.Silent {
		return resp, nil
	}
	type namespace struct {
		Type string `json:"type"`
		Path string `json:"path,omitempty"`
	}
	info, err := json.Marshal(map[string]any{
		"pid": p.PID, "processStatus": "running", "netNamespaceClosed": false,
		"runtimeSpec": map[string]any{"linux": map[string]any{"namespaces": []namespace{{"pid", ""}, {"network", p.Netns}}}},
	})
	resp.Info = map[string]string{"info": string(info)}
	return resp, err
}
