// SPDX-License-Identifier: Apache-2.0

// Package kube asks a Kubernetes API server about pods and services: a handful
// of GETs with the credentials that are at hand on a node. It writes nothing
// and watches nothing. It is not client-go on purpose: docs/dependencies.md
// says what that would cost and what is missing here (no credential plugins
// built into the client, no caching, no protobuf).
//
//	Locate (where are credentials?) -> Config -> NewClient -> Pod, Service, ...
package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrNoConfig: nothing on this node says how to reach an API server.
var ErrNoConfig = errors.New("no kubeconfig")

// Config is one way to reach an API server.
type Config struct {
	Source             string // where it comes from, for messages
	Server             string // base URL
	ServerName         string // for TLS, when not the server's host
	CA                 []byte // PEM; nil: the system's
	Insecure           bool   // accept any certificate
	Cert, Key          []byte // PEM of a client certificate
	Token              string
	TokenFile          string // read for every client, since it rotates
	Username, Password string
	Exec               *Exec
	ProxyURL           string
	read               ReadFile
}

// Exec is a credential plugin (client.authentication.k8s.io).
type Exec struct {
	APIVersion string   `yaml:"apiVersion"`
	Command    string   `yaml:"command"`
	Args       []string `yaml:"args"`
	Env        []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	ProvideClusterInfo bool `yaml:"provideClusterInfo"`
}

// ReadFile reads a file; os.ReadFile, or one that looks below a prefix.
type ReadFile func(path string) ([]byte, error)

// kubeletConfigs are where distributions keep the kubelet's own credentials:
// kubeadm, the cloud providers' images, k3s, RKE2, MicroK8s.
func kubeletConfigs() []string {
	return []string{
		"/etc/kubernetes/kubelet.conf",
		"/var/lib/kubelet/kubeconfig",
		"/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
		"/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
		"/var/snap/microk8s/current/credentials/kubelet.config",
	}
}

// serviceAccount is where a pod finds its credentials.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// Locate finds credentials: the file given, else those that KUBECONFIG lists,
// else a pod's service account, else the kubelet's own file, which is read by
// host. A file that was named and cannot be used is an error; with nothing
// named and nothing found it is ErrNoConfig.
func Locate(given string, getenv func(string) string, host ReadFile) (*Config, error) {
	if given != "" {
		return load([]string{given}, os.ReadFile, "--kubeconfig "+given)
	}
	if list := getenv("KUBECONFIG"); list != "" {
		return load(filepath.SplitList(list), os.ReadFile, "KUBECONFIG "+list)
	}
	if c, err := inCluster(getenv); c != nil || err != nil {
		return c, err
	}
	for _, path := range kubeletConfigs() {
		c, err := load([]string{path}, host, "the kubelet's "+path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // not this distribution, or not ours to read
		}
		return c, err
	}
	return nil, ErrNoConfig
}

// inCluster gives the configuration of a pod with a service account; nil when
// this is none.
func inCluster(getenv func(string) string) (*Config, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, nil
	}
	ca, err := os.ReadFile(serviceAccount + "ca.crt")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // automountServiceAccountToken: false
	}
	if err != nil {
		return nil, fmt.Errorf("service account: %w", err)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return &Config{
		Source: "this pod's service account", Server: "https://" + host + ":" + port,
		CA: ca, TokenFile: serviceAccount + "token", read: os.ReadFile,
	}, nil
}

// file is what is used of a kubeconfig (k8s.io/client-go/tools/clientcmd/api/v1).
type file struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User user   `yaml:"user"`
	} `yaml:"users"`
}

type cluster struct {
	Server     string `yaml:"server"`
	ServerName string `yaml:"tls-server-name"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	CAFile     string `yaml:"certificate-authority"`
	CAData     string `yaml:"certificate-authority-data"`
	ProxyURL   string `yaml:"proxy-url"`
}

type user struct {
	CertFile     string `yaml:"client-certificate"`
	CertData     string `yaml:"client-certificate-data"`
	KeyFile      string `yaml:"client-key"`
	KeyData      string `yaml:"client-key-data"`
	Token        string `yaml:"token"`
	TokenFile    string `yaml:"tokenFile"`
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	Exec         *Exec  `yaml:"exec"`
	AuthProvider *struct {
		Name string `yaml:"name"`
	} `yaml:"auth-provider"`
}

// load merges kubeconfig files the way kubectl does (of two equal names the
// first counts, missing files of a list are passed over) and takes the current
// context.
func load(paths []string, read ReadFile, source string) (*Config, error) {
	var all file
	found := 0
	for _, path := range paths {
		if path == "" {
			continue
		}
		text, err := read(path)
		if errors.Is(err, fs.ErrNotExist) && len(paths) > 1 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
		var f file
		if err := yaml.Unmarshal(text, &f); err != nil {
			return nil, fmt.Errorf("kubeconfig %s: not understood: %w", path, yamlError(err))
		}
		f.absolute(filepath.Dir(path))
		all.add(f)
		found++
	}
	if found == 0 {
		return nil, fmt.Errorf("kubeconfig: none of the files in %s exists: %w", source, fs.ErrNotExist)
	}
	c, err := all.config(read)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig (%s): %w", source, err)
	}
	c.Source = source
	return c, nil
}

// yamlError keeps values out of the message: a misplaced one may be a secret.
func yamlError(err error) error {
	var wrongType *yaml.TypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("%d of its fields are not of the type a kubeconfig has there", len(wrongType.Errors))
	}
	return err
}

// absolute makes paths relative to the file's folder absolute, as kubectl does.
func (f *file) absolute(dir string) {
	for i := range f.Clusters {
		f.Clusters[i].Cluster.CAFile = absolute(dir, f.Clusters[i].Cluster.CAFile)
	}
	for i := range f.Users {
		u := &f.Users[i].User
		for _, path := range []*string{&u.CertFile, &u.KeyFile, &u.TokenFile} {
			*path = absolute(dir, *path)
		}
		if u.Exec != nil && strings.Contains(u.Exec.Command, "/") {
			u.Exec.Command = absolute(dir, u.Exec.Command)
		}
	}
}

func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (f *file) add(more file) {
	if f.CurrentContext == "" {
		f.CurrentContext = more.CurrentContext
	}
	f.Contexts = append(f.Contexts, more.Contexts...)
	f.Clusters = append(f.Clusters, more.Clusters...)
	f.Users = append(f.Users, more.Users...)
}
