// SPDX-License-Identifier: Apache-2.0

// A pod that ends and comes again under its name, as a StatefulSet's or one
// whose sandbox died: what kubelet, runtime and CNI do then.

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// calicoFresh is added to the last byte of an address to make one that no pod of
// the recorded nodes has.
const calicoFresh = 24

// StopPod ends a pod: its servers, its wiring (CNI DEL) and its namespace.
func (e *Env) StopPod(ctx context.Context, pod *Pod) error {
	for _, key := range e.servedIn(pod.Netns) {
		if err := e.StopServing(pod.Netns, key.proto, key.port); err != nil {
			return err
		}
	}
	unplug := map[Kind]func(context.Context, *Pod) error{Calico: e.unplugCalicoPod, Flannel: e.unplugFlannelPod}[e.Dataplane.Kind()]
	if err := unplug(ctx, pod); err != nil {
		return fmt.Errorf("stop pod %s: %w", pod.FullName(), err)
	}
	return pod.Netns.Remove()
}

func (e *Env) servedIn(ns *netns.Namespace) []serverKey {
	e.mu.Lock()
	defer e.mu.Unlock()
	var keys []serverKey
	for key := range e.servers {
		if key.netns == ns.Name {
			keys = append(keys, key)
		}
	}
	return keys
}

// StartPod starts a stopped pod anew: another namespace, another interface, and,
// unless Calico is told to keep it, another IPv4 address. pod is changed.
func (e *Env) StartPod(ctx context.Context, pod *Pod, keep bool) error {
	pod.starts++
	ns, err := netns.New(fmt.Sprintf("%s-%s-%d", e.name, pod.Name, pod.starts))
	if err != nil {
		return err
	}
	pod.Netns = ns
	if err := ns.Sysctl(noDAD...); err != nil {
		return err
	}
	plug := map[Kind]func(context.Context, *Pod, bool) error{Calico: e.replugCalicoPod, Flannel: e.replugFlannelPod}[e.Dataplane.Kind()]
	if err := plug(ctx, pod, keep); err != nil {
		return fmt.Errorf("start pod %s: %w", pod.FullName(), err)
	}
	if err := e.tuneNeighbors(pod.Node, []*Pod{pod}); err != nil {
		return err
	}
	if err := pod.awaitLinks(); err != nil {
		return err
	}
	for _, key := range defaultServers(ns) {
		if err := e.Serve(ns, key.proto, key.port); err != nil {
			return err
		}
	}
	return nil
}

// calicoEntry is a pod's file in the CNI cache.
func calicoEntry(pod *Pod) (string, error) {
	files, err := filepath.Glob(filepath.Join(pod.Node.CNICache, "results", "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(text), `"`+pod.Netns.Path+`"`) {
			return file, nil
		}
	}
	return "", fmt.Errorf("not in the CNI cache %s", pod.Node.CNICache)
}

func (e *Env) unplugCalicoPod(_ context.Context, pod *Pod) error {
	file, err := calicoEntry(pod)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pod.cached, pod.cachedIn = strings.ReplaceAll(string(text), pod.Netns.Path, "NETNS"), file
	link, err := pod.Node.Netns.Link().LinkByName(pod.HostInterface)
	if err != nil {
		return err
	}
	if err := pod.Node.Netns.Link().LinkDel(link); err != nil {
		return err
	}
	return os.Remove(file)
}

func (e *Env) replugCalicoPod(ctx context.Context, pod *Pod, keep bool) error {
	was := pod.IPv4
	if !keep {
		a := was.As4()
		a[3] += calicoFresh
		pod.IPv4 = netip.AddrFrom4(a)
	}
	if err := plugCalicoPod(pod.Node, pod, e.Dataplane.MTU()); err != nil {
		return err
	}
	for _, p := range CalicoPolicySets() {
		if err := e.joinSet(ctx, p.Set, was, pod.IPv4); err != nil {
			return err
		}
	}
	entry := strings.ReplaceAll(pod.cached, "NETNS", pod.Netns.Path)
	entry = strings.ReplaceAll(entry, was.String()+"/32", pod.IPv4.String()+"/32")
	return os.WriteFile(pod.cachedIn, []byte(entry), 0o600)
}

// joinSet puts a pod's new address into a policy's set where its old one is, as
// Felix does.
func (e *Env) joinSet(ctx context.Context, set string, was, is netip.Addr) error {
	if was == is {
		return nil
	}
	run := func(cmd ...string) error {
		_, err := e.RunTool(ctx, e.Node(1).Netns, "", cmd...)
		return err
	}
	if e.Dataplane.Form() == FormNFTables {
		set = strings.ReplaceAll(set, ":", "-")
		if run("nft", "get", "element", "ip", "calico", set, "{", was.String(), "}") != nil {
			return nil // no member
		}
		return run("nft", "add", "element", "ip", "calico", set, "{", is.String(), "}")
	}
	if run("ipset", "test", set, was.String()) != nil {
		return nil
	}
	return run("ipset", "add", set, is.String())
}

func (e *Env) flannelRuntime(pod *Pod) (*libcni.CNIConfig, *libcni.NetworkConfigList, error) {
	conf, err := flannelConfig(pod.Node, e.Dataplane.MTU())
	return libcni.NewCNIConfigWithCacheDir([]string{cniPluginDir}, pod.Node.CNICache, &pluginExec{ns: pod.Node.Netns}), conf, err
}

func (e *Env) unplugFlannelPod(ctx context.Context, pod *Pod) error {
	runtime, conf, err := e.flannelRuntime(pod)
	if err != nil {
		return err
	}
	return runtime.DelNetworkList(ctx, conf, flannelArgs(pod))
}

func (e *Env) replugFlannelPod(ctx context.Context, pod *Pod, _ bool) error {
	_, conf, err := e.flannelRuntime(pod)
	if err != nil {
		return err
	}
	return plugFlannelPod(ctx, conf, pod)
}
