// SPDX-License-Identifier: Apache-2.0

// What the cluster is to hold: manifests as kubectl prints them, put there as the
// administrator.

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest is what is to be known of an object to put it where it belongs.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Namespace string `yaml:"namespace"`
		Name      string `yaml:"name"`
	} `yaml:"metadata"`
}

// path is the object's own below the server's address.
func (m manifest) path() string {
	base := "/apis/" + m.APIVersion
	if !strings.Contains(m.APIVersion, "/") {
		base = "/api/" + m.APIVersion
	}
	if m.Metadata.Namespace != "" {
		base += "/namespaces/" + m.Metadata.Namespace
	}
	return base + "/" + strings.ToLower(m.Kind) + "s/" + m.Metadata.Name
}

// Apply makes or changes the objects of manifests (YAML, several with --- between
// them). A status is set as if a controller had: what says so gets it.
func (s *Server) Apply(ctx context.Context, manifests string) error {
	decoder := yaml.NewDecoder(strings.NewReader(manifests))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.apply(ctx, &doc); err != nil {
			return err
		}
	}
}

func (s *Server) apply(ctx context.Context, doc *yaml.Node) error {
	var m manifest
	if err := doc.Decode(&m); err != nil {
		return err
	}
	var object map[string]any
	if err := doc.Decode(&object); err != nil {
		return err
	}
	status, told := object["status"]
	delete(object, "status")
	query := "?" + url.Values{"fieldManager": {"test"}, "force": {"true"}}.Encode()
	err := s.patch(ctx, m.path()+query, "application/apply-patch+yaml", object)
	if err == nil && told {
		err = s.patch(ctx, m.path()+"/status", "application/merge-patch+json", map[string]any{"status": status})
	}
	return err
}

func (s *Server) patch(ctx context.Context, path, contentType string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if err := s.ask(ctx, http.MethodPatch, path, contentType, body); err != nil {
		return fmt.Errorf("apply %s: %w", path, err)
	}
	return nil
}

// Delete asks to delete an object. A pod that has a node stays, marked as going,
// until its kubelet says that it has ended; with now, it is gone at once.
func (s *Server) Delete(ctx context.Context, kind, namespace, name string, now bool) error {
	var m manifest
	m.APIVersion, m.Kind, m.Metadata.Namespace, m.Metadata.Name = "v1", kind, namespace, name
	path := m.path()
	if now {
		path += "?gracePeriodSeconds=0"
	}
	if err := s.ask(ctx, http.MethodDelete, path, "", nil); err != nil {
		return fmt.Errorf("delete %s: %w", path, err)
	}
	return nil
}

// ask sends one request as the administrator and wants success.
func (s *Server) ask(ctx context.Context, method, path, contentType string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.host+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+Admin.token())
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}
