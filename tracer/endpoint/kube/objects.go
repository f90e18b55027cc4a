// SPDX-License-Identifier: Apache-2.0

package kube

// This file has what is used of the API's objects, and the questions asked.
// Fields and paths: k8s.io/api core/v1 and discovery/v1, v0.36.

import (
	"context"
	"encoding/json"
	"net/url"
	"time"
)

// Metadata of an object.
type Metadata struct {
	Name              string     `json:"name"`
	Namespace         string     `json:"namespace"`
	CreationTimestamp time.Time  `json:"creationTimestamp"`
	DeletionTimestamp *time.Time `json:"deletionTimestamp"`
}

// IP is one address in a list.
type IP struct {
	IP string `json:"ip"`
}

// Pod is a pod.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		NodeName    string `json:"nodeName"`
		HostNetwork bool   `json:"hostNetwork"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"` // Pending, Running, Succeeded, Failed, Unknown
		Reason     string `json:"reason"`
		PodIP      string `json:"podIP"`
		PodIPs     []IP   `json:"podIPs"`
		HostIP     string `json:"hostIP"`
		HostIPs    []IP   `json:"hostIPs"`
		Conditions []struct {
			Type    string `json:"type"`
			Status  string `json:"status"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"conditions"`
	} `json:"status"`
}

// Service is a service.
type Service struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Type         string        `json:"type"` // ClusterIP, NodePort, LoadBalancer, ExternalName
		ClusterIP    string        `json:"clusterIP"`
		ClusterIPs   []string      `json:"clusterIPs"`
		ExternalIPs  []string      `json:"externalIPs"`
		ExternalName string        `json:"externalName"`
		Ports        []ServicePort `json:"ports"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []IP `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// ServicePort is a port of a service.
type ServicePort struct {
	Name       string          `json:"name"`
	Protocol   string          `json:"protocol"` // TCP, UDP, SCTP
	Port       uint16          `json:"port"`
	TargetPort json.RawMessage `json:"targetPort"` // number or name
	NodePort   uint16          `json:"nodePort"`
}

// EndpointSlice lists some of a service's backends.
type EndpointSlice struct {
	Metadata    Metadata        `json:"metadata"`
	AddressType string          `json:"addressType"` // IPv4, IPv6, FQDN
	Endpoints   []SliceEndpoint `json:"endpoints"`
	Ports       []struct {
		Name     string `json:"name"`
		Protocol string `json:"protocol"`
		Port     uint16 `json:"port"`
	} `json:"ports"`
}

// SliceEndpoint is one backend of a service. A condition that is absent counts
// as true for ready, and as ready for serving.
type SliceEndpoint struct {
	Addresses  []string `json:"addresses"`
	NodeName   string   `json:"nodeName"`
	Conditions struct {
		Ready       *bool `json:"ready"`
		Serving     *bool `json:"serving"`
		Terminating *bool `json:"terminating"`
	} `json:"conditions"`
	TargetRef *ObjectReference `json:"targetRef"`
}

// ObjectReference names another object.
type ObjectReference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Ready tells whether the backend gets new connections.
func (e SliceEndpoint) Ready() bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// Node is a node.
type Node struct {
	Metadata Metadata `json:"metadata"`
	Status   struct {
		Addresses []struct {
			Type    string `json:"type"` // InternalIP, ExternalIP, Hostname, ...
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

func namespaced(group, namespace, kind string) string {
	if namespace == "" {
		return group + "/" + kind
	}
	return group + "/namespaces/" + url.PathEscape(namespace) + "/" + kind
}

const (
	coreV1      = "/api/v1"
	discoveryV1 = "/apis/discovery.k8s.io/v1"
	serviceName = "kubernetes.io/service-name" // label of a service's slices
)

// Pod gets one pod. It fails with ErrNotFound, ErrForbidden, ErrUnauthorized
// or ErrUnreachable, as all questions here.
func (c *Client) Pod(ctx context.Context, namespace, name string) (Pod, error) {
	var p Pod
	err := c.get(ctx, namespaced(coreV1, namespace, "pods")+"/"+url.PathEscape(name), nil, acceptWhole, &p)
	return p, err
}

// Service gets one service.
func (c *Client) Service(ctx context.Context, namespace, name string) (Service, error) {
	var s Service
	err := c.get(ctx, namespaced(coreV1, namespace, "services")+"/"+url.PathEscape(name), nil, acceptWhole, &s)
	return s, err
}

// EndpointSlices lists the slices of one service.
func (c *Client) EndpointSlices(ctx context.Context, namespace, service string) ([]EndpointSlice, error) {
	query := url.Values{"labelSelector": {serviceName + "=" + service}}
	return list[EndpointSlice](ctx, c, namespaced(discoveryV1, namespace, "endpointslices"), query, acceptWhole)
}

// Names lists the names of pods or services (kind) in a namespace, "" for all
// of them; only, when not "", keeps to objects of that name.
func (c *Client) Names(ctx context.Context, kind, namespace, only string) ([]Metadata, error) {
	query := url.Values{}
	if only != "" {
		query.Set("fieldSelector", "metadata.name="+only)
	}
	found, err := list[struct {
		Metadata Metadata `json:"metadata"`
	}](ctx, c, namespaced(coreV1, namespace, kind), query, acceptMetadata)
	if err != nil {
		return nil, err
	}
	names := make([]Metadata, len(found))
	for i, f := range found {
		names[i] = f.Metadata
	}
	return names, nil
}

// Services lists all services.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	return list[Service](ctx, c, namespaced(coreV1, "", "services"), nil, acceptWhole)
}

// Nodes lists all nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return list[Node](ctx, c, namespaced(coreV1, "", "nodes"), nil, acceptWhole)
}
