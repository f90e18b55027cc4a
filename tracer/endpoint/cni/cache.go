// SPDX-License-Identifier: Apache-2.0

// Package cni reads libcni's result cache, in which every container runtime
// that adds pods by CNI leaves one file per attached network: in goes a folder,
// out come the pods it names with their interfaces, addresses and network
// namespaces. It needs neither runtime nor API and writes nothing.
//
// The files also hold the network configuration and capabilityArgs, either of
// which may contain secrets: they are not decoded and so cannot be printed.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultDir is where libcni keeps its results (libcni/api.go, CacheDir and
// results below it, v1.3).
const DefaultDir = "/var/lib/cni/results"

// cacheKind marks a cache file (libcni/api.go, CNICacheV1, since v0.8).
const cacheKind = "cniCacheV1"

// maxFile bounds a cache file: real ones have 1 to 20 KiB.
const maxFile = 1 << 20

// Attachment is one network attached to one pod sandbox.
type Attachment struct {
	PodNamespace, PodName string

	ContainerID    string   // of the sandbox; one sandbox with several networks has one
	IfName         string   // in the pod
	Netns          string   // path of the namespace, as the runtime named it; "" not told
	HostInterfaces []string // the result's interfaces outside the pod: cali…, or the bridge and veth…
	Addrs          []netip.Addr
	File           string // in the cache
	Written        time.Time
}

// Problem is a file of the cache that could not be used.
type Problem struct {
	File string
	Err  error
}

// Listing is one reading of the cache.
type Listing struct {
	Attachments []Attachment // by file name
	Problems    []Problem
}

// Cache is a folder of results. It is safe for concurrent use. What was
// decoded once is kept until the file changes.
type Cache struct {
	dir string

	mu    sync.Mutex
	known map[string]decoded
}

// decoded is what came of one file.
type decoded struct {
	written    time.Time
	size       int64
	attachment *Attachment // nil: not a pod's
	problem    error
}

// New makes a reader for a results folder, or for the folder that holds it
// under the name "results". Nothing is read yet.
func New(dir string) *Cache {
	if info, err := os.Stat(filepath.Join(dir, "results")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, "results")
	}
	return &Cache{dir: dir, known: map[string]decoded{}}
}

// Dir is the folder that is read.
func (c *Cache) Dir() string { return c.dir }

// List reads the cache. Files that cannot be read or understood are Problems;
// an error means that the folder itself cannot be read (fs.ErrNotExist: it is
// not there), or that ctx is done.
func (c *Cache) List(ctx context.Context) (Listing, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return Listing{}, fmt.Errorf("CNI cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.decodeAll(ctx, entries); err != nil {
		return Listing{}, fmt.Errorf("CNI cache %s: %w", c.dir, err)
	}
	var list Listing
	for _, e := range entries {
		switch d := c.known[e.Name()]; {
		case d.problem != nil:
			list.Problems = append(list.Problems, Problem{File: e.Name(), Err: d.problem})
		case d.attachment != nil:
			list.Attachments = append(list.Attachments, *d.attachment)
		}
	}
	return list, nil
}

// decodeAll brings known up to date. Decoding is what takes the time, so it is
// shared among the processors.
func (c *Cache) decodeAll(ctx context.Context, entries []fs.DirEntry) error {
	results := make([]decoded, len(entries))
	there := make([]bool, len(entries))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(entries)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(entries) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				results[i], there[i] = c.decode(entries[i])
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	now := make(map[string]decoded, len(entries))
	for i, e := range entries {
		if there[i] {
			now[e.Name()] = results[i]
		}
	}
	c.known = now
	return nil
}

// decode gives what a file holds; false for what is no file or gone by now.
// Pipes and the like are not opened: that could wait for ever.
func (c *Cache) decode(e fs.DirEntry) (decoded, bool) {
	info, err := e.Info()
	if err != nil || !info.Mode().IsRegular() {
		return decoded{}, false
	}
	if old, ok := c.known[e.Name()]; ok && old.written.Equal(info.ModTime()) && old.size == info.Size() {
		return old, true
	}
	d := decoded{written: info.ModTime(), size: info.Size()}
	if d.size > maxFile {
		d.problem = fmt.Errorf("larger than %d bytes", maxFile)
		return d, true
	}
	d.attachment, d.problem = readFile(filepath.Join(c.dir, e.Name()))
	if errors.Is(d.problem, fs.ErrNotExist) {
		return decoded{}, false
	}
	if d.attachment != nil {
		d.attachment.File, d.attachment.Written = e.Name(), d.written
	}
	return d, true
}

// readFile decodes one file; nil for an entry that is not a pod's.
func readFile(path string) (*Attachment, error) {
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, errors.New("empty file")
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, err
	}
	return e.attachment()
}

// entry is what is used of a cache file (libcni/api.go, cachedInfo, v1.3).
type entry struct {
	Kind        string      `json:"kind"`
	ContainerID string      `json:"containerId"`
	IfName      string      `json:"ifName"`
	Netns       string      `json:"netns"` // absent in what containerd 1.6 writes
	CNIArgs     [][2]string `json:"cniArgs"`
	Result      result      `json:"result"`
}

// result is a CNI result: interfaces and ips since version 0.3.0 of the
// specification, ip4 and ip6 before (pkg/types/020 and pkg/types/100).
type result struct {
	Interfaces []struct {
		Name    string `json:"name"`
		Sandbox string `json:"sandbox"`
	} `json:"interfaces"`
	IPs []struct {
		Address   netip.Prefix `json:"address"`
		Interface *int         `json:"interface"`
	} `json:"ips"`
	IP4, IP6 *struct {
		IP netip.Prefix `json:"ip"`
	}
}

// attachment gives the pod's side of an entry; nil when it is no pod's: the
// loopback, a container of another system, a result in the format before v0.8.
func (e entry) attachment() (*Attachment, error) {
	if e.Kind != "" && e.Kind != cacheKind {
		return nil, fmt.Errorf("of kind %q, only %s is known", e.Kind, cacheKind)
	}
	a := Attachment{ContainerID: e.ContainerID, IfName: e.IfName, Netns: e.Netns}
	for _, arg := range e.CNIArgs {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			a.PodNamespace = arg[1]
		case "K8S_POD_NAME":
			a.PodName = arg[1]
		}
	}
	if e.Kind == "" || a.PodName == "" || a.PodNamespace == "" || e.IfName == "lo" {
		return nil, nil
	}
	for _, i := range e.Result.Interfaces {
		switch {
		case i.Sandbox == "":
			a.HostInterfaces = append(a.HostInterfaces, i.Name)
		case a.Netns == "":
			a.Netns = i.Sandbox
		}
	}
	a.Addrs = e.Result.addrs()
	return &a, nil
}

// addrs are the pod's addresses: not those that the result places outside.
func (r result) addrs() []netip.Addr {
	var all []netip.Addr
	for _, ip := range r.IPs {
		i := ip.Interface
		if i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Sandbox == "" {
			continue
		}
		all = append(all, ip.Address.Addr().Unmap())
	}
	if r.IP4 != nil {
		all = append(all, r.IP4.IP.Addr().Unmap())
	}
	if r.IP6 != nil {
		all = append(all, r.IP6.IP.Addr().Unmap())
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsValid() })
}
