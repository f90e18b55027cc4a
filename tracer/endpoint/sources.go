// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file says which sources know pods and services by name, where each is
// looked for, and in which order they are asked. A source is one file here and
// one row in Resolver.sources.

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cni"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// Sources says where names are looked up. The zero value is what fits a node
// as it stands: default paths below /, and what the environment names.
type Sources struct {
	// Namespace of names given without one; "" is default.
	Namespace string
	// CNICache is the folder with libcni's results; "" is the usual one.
	CNICache string
	// CRISocket is the container runtime's socket, with or without unix://;
	// "" tries the usual ones.
	CRISocket string
	// Kubeconfig is the file to reach the API server with; "" tries
	// KUBECONFIG, the service account of a pod this runs in, and the
	// kubelet's own.
	Kubeconfig string
	// HostRoot is where the node's /proc, /run and /var are mounted when this
	// runs in a container; "" is /. Paths given in the fields above are taken
	// as they are, without it.
	HostRoot string
	// Warn takes what a user should know although a name was resolved, one
	// line each; nil drops it.
	Warn func(line string)
}

// DefaultNamespace is where a pod without a namespace in its name is looked for.
const DefaultNamespace = "default"

// Resolver resolves endpoints on one node. It is safe for concurrent use.
type Resolver struct {
	mu      sync.Mutex // held while a name is looked up: sources keep connections
	ns      *node.Namespaces
	opt     Sources
	host    hostRoot
	cache   *cni.Cache
	runtime *runtimeSource
	cluster *clusterSource
	warned  map[string]bool
}

// NewResolver makes a resolver for the node with the default sources. Nothing
// is opened before a name asks for it.
func NewResolver(ns *node.Namespaces) *Resolver { return NewResolverWith(ns, Sources{}) }

// NewResolverWith makes a resolver for the node with sources to choose.
func NewResolverWith(ns *node.Namespaces, opt Sources) *Resolver {
	if opt.Namespace == "" {
		opt.Namespace = DefaultNamespace
	}
	if opt.Warn == nil {
		opt.Warn = func(string) {}
	}
	r := &Resolver{ns: ns, opt: opt, host: hostRoot(opt.HostRoot), warned: map[string]bool{}}
	dir := opt.CNICache
	if dir == "" {
		dir = r.host.path(cni.DefaultDir)
	}
	r.cache = cni.New(dir)
	r.runtime = newRuntimeSource(opt.CRISocket, r.host)
	r.cluster = newClusterSource(opt.Kubeconfig, r.host)
	return r
}

// Close ends what connections to the runtime and the API server there are.
func (r *Resolver) Close() error {
	r.cluster.close()
	return r.runtime.close()
}

// warn tells a line once.
func (r *Resolver) warn(line string) {
	if !r.warned[line] {
		r.warned[line] = true
		r.opt.Warn(line)
	}
}

// podName is a pod's full name.
type podName struct{ namespace, name string }

// String is namespace/name.
func (p podName) String() string { return p.namespace + "/" + p.name }

// sandbox is one incarnation of a pod as one source knows it.
type sandbox struct {
	podName
	id             string       // the runtime's id; "" not told
	addrs          []netip.Addr // as told by the source
	netns          uint32       // inode; 0 not known
	hostInterfaces []string     // candidates for the pod's interface on the node
	hostNetwork    bool         // shares the node's namespace
	node           string       // the other node it runs on; "" this one
	created        time.Time
}

// answer is what a source says about a name.
type answer struct {
	found []sandbox // live ones
	how   string    // for resolved_by: "CNI cache"
	miss  string    // why it was not found, as in "not in the CNI cache (3 pods)"
	names []podName // the pods it knows, to propose near ones
}

// source knows pods by name.
type source interface {
	// title is what messages call it.
	title() string
	// find looks a pod up. An error says that the pod is known but cannot be
	// an end; what goes wrong in asking is a miss.
	find(ctx context.Context, v *view, pod podName) (answer, error)
	// list gives the live pods of this node, as far as it knows them.
	list(ctx context.Context, v *view) ([]sandbox, error)
}

// sources lists where pods are looked for, in order.
func (r *Resolver) sources() []source {
	return []source{
		&cacheSource{resolver: r},
		&calicoSource{resolver: r},
		r.runtime,
		r.cluster,
	}
}
