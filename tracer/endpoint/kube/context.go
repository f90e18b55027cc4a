// SPDX-License-Identifier: Apache-2.0

package kube

// This file turns the current context of a kubeconfig into a Config: certificate
// and key files become their contents, whatever is missing a sentence.

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// config takes the current context.
func (f *file) config(read ReadFile) (*Config, error) {
	if f.CurrentContext == "" {
		return nil, errors.New("it has no current-context: set one with kubectl config use-context")
	}
	clusterName, userName, ok := f.context()
	if !ok {
		return nil, fmt.Errorf("its current-context %q is not among its contexts", f.CurrentContext)
	}
	var c *Config
	for _, entry := range f.Clusters {
		if entry.Name == clusterName {
			var err error
			if c, err = entry.Cluster.config(read); err != nil {
				return nil, fmt.Errorf("cluster %q: %w", clusterName, err)
			}
			break
		}
	}
	if c == nil {
		return nil, fmt.Errorf("its context %q names the cluster %q, which is not in it", f.CurrentContext, clusterName)
	}
	for _, entry := range f.Users {
		if entry.Name == userName {
			if err := entry.User.fill(c, read); err != nil {
				return nil, fmt.Errorf("user %q: %w", userName, err)
			}
			return c, nil
		}
	}
	if userName != "" {
		return nil, fmt.Errorf("its context %q names the user %q, who is not in it", f.CurrentContext, userName)
	}
	return c, nil
}

func (f *file) context() (cluster, user string, ok bool) {
	for _, entry := range f.Contexts {
		if entry.Name == f.CurrentContext {
			return entry.Context.Cluster, entry.Context.User, true
		}
	}
	return "", "", false
}

func (c cluster) config(read ReadFile) (*Config, error) {
	if c.Server == "" {
		return nil, errors.New("has no server")
	}
	ca, err := contents(c.CAData, c.CAFile, read)
	if err != nil {
		return nil, fmt.Errorf("certificate-authority: %w", err)
	}
	return &Config{Server: c.Server, ServerName: c.ServerName, Insecure: c.Insecure, CA: ca, ProxyURL: c.ProxyURL, read: read}, nil
}

func (u user) fill(c *Config, read ReadFile) (err error) {
	if u.AuthProvider != nil {
		return fmt.Errorf("auth-provider %s: no longer in use since Kubernetes 1.26: use its exec plugin", u.AuthProvider.Name)
	}
	if c.Cert, err = contents(u.CertData, u.CertFile, read); err != nil {
		return fmt.Errorf("client-certificate: %w", err)
	}
	if c.Key, err = contents(u.KeyData, u.KeyFile, read); err != nil {
		return fmt.Errorf("client-key: %w", err)
	}
	c.Token, c.TokenFile, c.Username, c.Password, c.Exec = u.Token, u.TokenFile, u.Username, u.Password, u.Exec
	return nil
}

// contents is what base64 data or else a file holds; nil for neither.
func contents(data, path string, read ReadFile) ([]byte, error) {
	switch {
	case data != "":
		raw, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, errors.New("the data is not base64") // the decoder's message could show of it
		}
		return raw, nil
	case path != "":
		return read(path)
	}
	return nil, nil
}
