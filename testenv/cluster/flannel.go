// SPDX-License-Identifier: Apache-2.0

// The Flannel node: flanneld's tunnel and rules as recorded, and pods added by
// the real CNI plugins through libcni, so that bridge, veths, addresses and CNI
// cache are theirs. Pods of one node meet on the bridge:
//
//	pod eth0 10.244.1.2/24    pod eth0 10.244.1.3/24
//	  |                         |
//	vethXXXXXXXX              vethXXXXXXXX             in hairpin mode
//	  |                         |
//	--+------- cni0 10.244.1.1/24, the pods' gateway --
//	                  |
//	   10.244.2.0/24 dev flannel.1 over eth0 of the node

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// cniPluginDir is where Debian's containernetworking-plugins puts the plugins.
const cniPluginDir = "/usr/lib/cni"

// FlannelNet is the whole pod network.
const FlannelNet = "10.244.0.0/16"

func (e *Env) buildFlannel(ctx context.Context, node *Node, pods []*Pod) error {
	if err := e.buildTunnel(ctx, node); err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	conf, err := flannelConfig(node, e.Dataplane.MTU())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if err := plugFlannelPod(ctx, conf, pod); err != nil {
			return fmt.Errorf("pod %s: %w", pod.FullName(), err)
		}
	}
	if err := e.applySysctls(node); err != nil {
		return err
	}
	return e.restoreRules(ctx, node)
}

// flannelConfig is the network list that the flannel plugin hands on to bridge
// (recorded in /var/lib/cni/flannel), dual-stack, with the address store kept in
// this environment. portmap gets no mappings: its rules are in the recorded set.
func flannelConfig(node *Node, mtu int) (*libcni.NetworkConfigList, error) {
	v6 := flannelNet6(node.Number)
	bridge := map[string]any{
		"type": "bridge", "bridge": "cni0", "mtu": mtu,
		"isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
		"ipam": map[string]any{
			"type":    "host-local",
			"dataDir": filepath.Join(node.CNICache, "networks"),
			"ranges": [][]map[string]string{
				{{"subnet": node.PodNet.String()}}, {{"subnet": v6.String()}},
			},
			"routes": []map[string]string{{"dst": FlannelNet}},
		},
	}
	portmap := map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}}
	text, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "cbr0", "plugins": []any{bridge, portmap},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(text)
}

// flannelNet6 is a node's IPv6 pod network, as a dual-stack flannel hands out.
func flannelNet6(node int) netip.Prefix {
	a := netip.MustParseAddr("fd00:10:244::").As16()
	a[7] = byte(node)
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// plugFlannelPod runs the plugins for one pod and reads the pod's addresses and
// interfaces from their result.
func plugFlannelPod(ctx context.Context, conf *libcni.NetworkConfigList, pod *Pod) error {
	runtime := libcni.NewCNIConfigWithCacheDir([]string{cniPluginDir}, pod.Node.CNICache, &pluginExec{ns: pod.Node.Netns})
	result, err := runtime.AddNetworkList(ctx, conf, flannelArgs(pod))
	if err != nil {
		return fmt.Errorf("CNI add: %w", err)
	}
	r, err := current.GetResult(result)
	if err != nil {
		return fmt.Errorf("CNI result: %w", err)
	}
	return readFlannelResult(pod, r)
}

// flannelArgs is what a runtime gives the plugins of a pod.
func flannelArgs(pod *Pod) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: containerID(pod), NetNS: pod.Netns.Path, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", pod.Namespace},
			{"K8S_POD_NAME", pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", containerID(pod)},
		},
	}
}

func readFlannelResult(pod *Pod, r *current.Result) error {
	for _, i := range r.Interfaces {
		switch {
		case i.Sandbox != "":
			pod.MAC = i.Mac
		case strings.HasPrefix(i.Name, "veth"):
			pod.HostInterface = i.Name
		}
	}
	for _, ip := range r.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		switch addr = addr.Unmap(); {
		case !ok:
		case addr.Is4():
			pod.IPv4 = addr
		default:
			pod.IPv6 = addr
		}
	}
	if pod.HostInterface == "" || !pod.IPv4.IsValid() || !pod.IPv6.IsValid() {
		return fmt.Errorf("CNI result lacks host interface or address: %s", r)
	}
	return nil
}

// containerID is the recorded one, so that the portmap plugin's chains in the
// recorded rules bear the right hash. A pod that was started again has another.
func containerID(pod *Pod) string {
	if pod.starts > 0 {
		return fmt.Sprintf("%s-%d", pod.Name, pod.starts)
	}
	for _, p := range planFlannelPods() {
		if p.name == pod.Name {
			return p.containerID
		}
	}
	return pod.Name
}

// pluginExec runs CNI plugins inside the node's network namespace: that is the
// namespace in which they make bridge and veths.
type pluginExec struct {
	version.PluginDecoder
	ns *netns.Namespace
}

var _ invoke.Exec = (*pluginExec)(nil)

// FindInPath implements invoke.Exec.
func (p *pluginExec) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin implements invoke.Exec. A plugin reports errors on standard output.
func (p *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	err := p.ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s %s", err, strings.TrimSpace(stdout.String()), strings.TrimSpace(stderr.String()))
		}
		return nil, fmt.Errorf("plugin %s: %w", filepath.Base(path), err)
	}
	return stdout.Bytes(), nil
}
