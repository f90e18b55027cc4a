// SPDX-License-Identifier: Apache-2.0

// Package cri asks the node's container runtime (containerd, CRI-O) over its
// CRI socket which pod sandboxes it runs, and where: process, network namespace,
// addresses. It only lists; nothing is started, stopped or pulled.
package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DefaultSockets are where runtimes listen: containerd, k3s and RKE2, CRI-O,
// cri-dockerd, MicroK8s, k0s.
func DefaultSockets() []string {
	return []string{
		"/run/containerd/containerd.sock",
		"/run/k3s/containerd/containerd.sock",
		"/run/crio/crio.sock",
		"/run/cri-dockerd.sock",
		"/var/snap/microk8s/common/run/containerd.sock",
		"/run/k0s/containerd.sock",
	}
}

// callTimeout bounds one question: a runtime on the same machine answers in
// milliseconds unless it hangs.
const callTimeout = 2 * time.Second

// maxAnswer bounds an answer; the verbose status of a sandbox has some 20 KiB.
const maxAnswer = 16 << 20

// Errors that callers tell apart.
var (
	// ErrNoSocket: nothing is at the path, or nobody listens there.
	ErrNoSocket = errors.New("no runtime listens there")
	// ErrNoCRI: somebody answers, but does not speak CRI v1 (containerd
	// before 1.6, or with its cri plugin disabled).
	ErrNoCRI = errors.New("does not speak CRI v1")
)

// Sandbox is a pod sandbox that is ready.
type Sandbox struct {
	ID              string
	Namespace, Name string
	Created         time.Time

	// Known after Status only.
	Addrs       []netip.Addr
	Netns       string // path of the network namespace; "" not told
	PID         int    // of the sandbox's process; 0 not told
	HostNetwork bool
}

// Client is a connection to one runtime. It is safe for concurrent use.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	rpc    runtime.RuntimeServiceClient
}

// Open prepares a connection to the socket at a path, with or without unix://
// in front. It fails with ErrNoSocket when there is none; whether anybody
// answers shows with the first question.
func Open(socket string) (*Client, error) {
	socket = strings.TrimPrefix(socket, "unix://")
	info, err := os.Stat(socket)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: no such socket: %w", socket, ErrNoSocket)
	case err != nil:
		return nil, fmt.Errorf("container runtime: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("%s: is no socket: %w", socket, ErrNoSocket)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return &Client{socket: socket, conn: conn, rpc: runtime.NewRuntimeServiceClient(conn)}, nil
}

// Socket is the path that was opened.
func (c *Client) Socket() string { return c.socket }

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// List gives the ready sandboxes, without what only Status tells.
func (c *Client) List(ctx context.Context) ([]Sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.rpc.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{Filter: &runtime.PodSandboxFilter{
		State: &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil {
		return nil, c.explain(err)
	}
	all := make([]Sandbox, 0, len(resp.GetItems()))
	for _, item := range resp.GetItems() {
		meta := item.GetMetadata()
		all = append(all, Sandbox{ID: item.GetId(), Namespace: meta.GetNamespace(), Name: meta.GetName(), Created: time.Unix(0, item.GetCreatedAt())})
	}
	return all, nil
}

// Status completes a sandbox. False: it is gone or not ready any more.
func (c *Client) Status(ctx context.Context, s *Sandbox) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.rpc.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: s.ID, Verbose: true})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, c.explain(err)
	}
	st := resp.GetStatus()
	if st.GetState() != runtime.PodSandboxState_SANDBOX_READY {
		return false, nil
	}
	s.HostNetwork = st.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtime.NamespaceMode_NODE
	if !s.HostNetwork {
		s.Addrs = addrs(st.GetNetwork())
	}
	s.PID, s.Netns = fromInfo(resp.GetInfo()["info"])
	return true, nil
}

func addrs(n *runtime.PodSandboxNetworkStatus) []netip.Addr {
	words := []string{n.GetIp()}
	for _, ip := range n.GetAdditionalIps() {
		words = append(words, ip.GetIp())
	}
	var all []netip.Addr
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// sandboxInfo is what is used of the verbose status, which both runtimes give
// under "info": containerd's SandboxInfo (pkg/cri, sandbox_status.go, 1.6 to
// 2.x) and CRI-O's (server/sandbox_status.go). It is no part of CRI, so its
// absence is no error.
type sandboxInfo struct {
	PID         int `json:"pid"`
	RuntimeSpec struct {
		Linux struct {
			Namespaces []struct {
				Type string `json:"type"`
				Path string `json:"path"`
			} `json:"namespaces"`
		} `json:"linux"`
	} `json:"runtimeSpec"`
}

func fromInfo(text string) (pid int, netns string) {
	var info sandboxInfo
	if text == "" || json.Unmarshal([]byte(text), &info) != nil {
		return 0, ""
	}
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			netns = ns.Path
		}
	}
	return info.PID, netns
}

// explain makes a sentence of a gRPC error.
func (c *Client) explain(err error) error {
	s, _ := status.FromError(err)
	switch s.Code() {
	case codes.Unimplemented:
		return fmt.Errorf("%s: %w", c.socket, ErrNoCRI)
	case codes.Unavailable:
		return fmt.Errorf("%s: %w: %s", c.socket, ErrNoSocket, s.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: no answer within %s: %w", c.socket, callTimeout, err)
	}
	return fmt.Errorf("%s: %s: %w", c.socket, s.Code(), err)
}
