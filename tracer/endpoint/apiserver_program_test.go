// SPDX-License-Identifier: Apache-2.0

package endpoint

// These tests hold the recorded server that other tests use (package kubetest)
// against the real one, and read what the built program says of both.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/apiserver"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube/kubetest"
)

// realAsRecorded wants both servers to refuse alike.
func realAsRecorded(t *testing.T, c realCluster) {
	recorded := kubetest.Serve(t)
	recorded.Forbidden = []string{"pods", "services", "endpointslices", "nodes"}
	for _, path := range []string{
		"/api/v1/namespaces/prod/pods/web-1", "/api/v1/namespaces/prod/pods", "/api/v1/pods", "/api/v1/services",
		"/api/v1/namespaces/prod/services/two", "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices", "/api/v1/nodes",
	} {
		real := refusalOf(t, c.server.Client(), "https://"+c.server.Host()+path, string(apiserver.Nobody)+"-token")
		fake := refusalOf(t, recorded.Client(), recorded.URL+path, kubetest.Token)
		if fake = strings.ReplaceAll(fake, `User "test"`, `User "nobody"`); real != fake {
			t.Errorf("%s:\nreal     %s\nrecorded %s", path, real, fake)
		}
	}
	recorded.Forbidden = nil
	for _, ask := range []struct{ path, real, fake string }{
		{"/api/v1/namespaces/demo/pods/web-1", "stranger-token", "bad-token"},
		{"/api/v1/namespaces/demo/pods/no", "admin-token", kubetest.Token},
		{"/api/v1/namespaces/demo/services/no", "admin-token", kubetest.Token},
	} {
		real := refusalOf(t, c.server.Client(), "https://"+c.server.Host()+ask.path, ask.real)
		if fake := refusalOf(t, recorded.Client(), recorded.URL+ask.path, ask.fake); real != fake {
			t.Errorf("%s:\nreal     %s\nrecorded %s", ask.path, real, fake)
		}
	}
}

// refusalOf gives what counts of a refusal.
func refusalOf(t *testing.T, client *http.Client, url, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Kind, Status, Message, Reason string
		Code                          int
	}
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatalf("%s: %v: %s", url, err, body)
	}
	return fmt.Sprintf("%d %s %+v", resp.StatusCode, resp.Header.Get("Content-Type"), s)
}

// realProgram reads what users read.
func realProgram(t *testing.T, c realCluster) {
	program := os.Getenv("PATHTRACE_BIN")
	if program == "" {
		t.Skip("PATHTRACE_BIN is not set: run by make test-apiserver")
	}
	run := func(user apiserver.User, args ...string) (stdout, stderr string, status int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(args, "--netns", c.Path("n1"), "--kubeconfig", c.as(t, user), "--cni-cache", t.TempDir())...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	t.Run("resolves", func(t *testing.T) {
		out, errs, status := run(apiserver.Reader, "-o", "json", "-n", "demo", "-s", "web-1", "-d", "svc/two", "--duration", "100ms")
		var start struct {
			Src, Dst struct {
				Kind, Name, Namespace string
				Addresses             []string
				ResolvedBy            string `json:"resolved_by"`
			}
		}
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&start); err != nil || status != 3 {
			t.Fatalf("exit status %d, %v: %s%s", status, err, out, errs)
		}
		how := "Kubernetes API " + c.server.Host()
		for _, w := range []struct{ got, want any }{
			{fmt.Sprintf("%+v", start.Src), "{Kind:pod Name:web-1 Namespace:demo Addresses:[10.244.2.10 fd00:10:244:2::10] ResolvedBy:" + how + ", on node kp-node2}"},
			{fmt.Sprintf("%+v", start.Dst), "{Kind:service Name:two Namespace:demo Addresses:[10.96.10.2 10.244.1.10 10.244.2.10] ResolvedBy:" + how + ", 2 of 2 backends ready}"},
		} {
			if w.got != w.want {
				t.Errorf("got  %s\nwant %s", w.got, w.want)
			}
		}
	})
	for user, want := range map[apiserver.User]string{
		apiserver.Stranger: "(credentials not accepted: " + c.server.Host() + ": Unauthorized)",
		apiserver.Nobody:   `(not allowed: ` + c.server.Host() + `: pods "web-1" is forbidden: User "nobody" cannot get resource "pods" in API group "" in the namespace "prod")`,
	} {
		t.Run("tells "+string(user), func(t *testing.T) {
			out, errs, status := run(user, "-s", "prod/web-1", "-d", "any")
			if status != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
				t.Errorf("exit status %d: %s%s\nwant %s", status, out, errs, want)
			}
		})
	}
	t.Run("doctor", func(t *testing.T) {
		for user, want := range map[apiserver.User]string{
			apiserver.Reader:   ", 9 pods in demo, 6 services in demo",
			apiserver.Nobody:   ", pods may not be listed, services may not be listed",
			apiserver.Stranger: ": credentials not accepted: " + c.server.Host() + ": Unauthorized",
		} {
			out, errs, _ := run(user, "doctor", "-o", "json", "-n", "demo")
			var report struct {
				Names []struct{ Source, Where, Note string }
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			said := false
			for _, n := range report.Names {
				said = said || n.Source == "Kubernetes API" && n.Where == c.server.Host() && n.Note == "with --kubeconfig "+c.as(t, user)+want
			}
			if !said {
				t.Errorf("%s: %+v, want %s", user, report.Names, want)
			}
		}
	})
}
