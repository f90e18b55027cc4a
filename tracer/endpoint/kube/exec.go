// SPDX-License-Identifier: Apache-2.0

package kube

// This file gets credentials from a plugin, as kubectl does: the program that
// the kubeconfig names is run and prints an ExecCredential
// (client.authentication.k8s.io/v1, k8s.io/client-go/pkg/apis/clientauthentication).

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// execTimeout bounds a plugin: some ask a cloud's metadata service.
const execTimeout = 10 * time.Second

// credential is what is used of an ExecCredential.
type credential struct {
	Status *struct {
		Token string `json:"token"`
		Cert  string `json:"clientCertificateData"`
		Key   string `json:"clientKeyData"`
	} `json:"status"`
}

// run runs the plugin and puts what it gives into c. What it printed is never
// part of an error: it may hold the secret.
func (e *Exec) run(ctx context.Context, c *Config) error {
	info, err := e.info(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, e.Command, e.Args...)
	cmd.Env = append(os.Environ(), "KUBERNETES_EXEC_INFO="+info)
	for _, v := range e.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("credential plugin %s: not found in PATH", e.Command)
	case ctx.Err() != nil:
		return fmt.Errorf("credential plugin %s: no answer: %w", e.Command, ctx.Err())
	case err != nil:
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("credential plugin %s: %w: %s", e.Command, err, first)
	}
	var got credential
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return fmt.Errorf("credential plugin %s: its output is no ExecCredential", e.Command)
	}
	if got.Status == nil || got.Status.Token == "" && got.Status.Cert == "" {
		return fmt.Errorf("credential plugin %s: its output has neither token nor certificate", e.Command)
	}
	c.Token = got.Status.Token
	if got.Status.Cert != "" {
		c.Cert, c.Key = []byte(got.Status.Cert), []byte(got.Status.Key)
	}
	return nil
}

// info is the plugin's input, in the environment.
func (e *Exec) info(c *Config) (string, error) {
	type clusterInfo struct {
		Server string `json:"server"`
		CA     []byte `json:"certificate-authority-data,omitempty"`
	}
	type spec struct {
		Interactive bool         `json:"interactive"`
		Cluster     *clusterInfo `json:"cluster,omitempty"`
	}
	in := struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Spec       spec   `json:"spec"`
	}{Kind: "ExecCredential", APIVersion: e.APIVersion}
	if e.ProvideClusterInfo {
		in.Spec.Cluster = &clusterInfo{Server: c.Server, CA: c.CA}
	}
	text, err := json.Marshal(in)
	return string(text), err
}
