// SPDX-License-Identifier: Apache-2.0

// Package kubetest is an API server for tests: it answers GETs over TLS from
// objects that a real kube-apiserver 1.36 gave (testdata: services, endpoint
// slices and nodes as recorded; pods are made up after the same API), with
// paging, selectors and refusals in the form the real one gives them.
package kubetest

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
)

//go:embed testdata
var testdata embed.FS

// Token is the bearer token that the server takes.
const Token = "good-token"

// Server is an API server.
type Server struct {
	*httptest.Server
	sync.Mutex // held while a request is answered: to change the rest meanwhile
	Pods       []kube.Pod
	Services   []kube.Service       // besides the recorded ones
	Slices     []kube.EndpointSlice // likewise; of the service of the same name
	// Forbidden lists the kinds (pods, services, ...) that the credentials
	// may not read.
	Forbidden []string
	// PageSize is how many objects a list gives at once; 0 what was asked for.
	PageSize int
	// Asked lists the paths asked for, with their query.
	Asked []string
}

// Serve starts a server. It ends with the test.
func Serve(t testing.TB, pods ...kube.Pod) *Server {
	t.Helper()
	s := &Server{Pods: pods}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

// Host is the server's address without scheme.
func (s *Server) Host() string { return s.Listener.Addr().String() }

// CA is the server's certificate in PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Kubeconfig writes a kubeconfig with a token and gives its path.
func (s *Server) Kubeconfig(t testing.TB, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts:
- {name: test, context: {cluster: test, user: test}}
clusters:
- name: test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: test
  user: {token: %q}
`, s.URL, base64.StdEncoding.EncodeToString(s.CA()), token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// object is what all objects have, and the object whole.
type object struct {
	Metadata struct {
		kube.Metadata
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	whole json.RawMessage
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	s.Asked = append(s.Asked, r.URL.RequestURI())
	if r.Method != http.MethodGet {
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "only GET is expected")
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+Token && len(r.TLS.PeerCertificates) == 0 {
		refuse(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	namespace, kind, name := split(r.URL.Path)
	if slices.Contains(s.Forbidden, kind) {
		refuse(w, http.StatusForbidden, "Forbidden", forbidden(r.URL.Path, namespace, kind, name))
		return
	}
	all, err := s.objects(kind)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	all = slices.DeleteFunc(all, func(o object) bool { return namespace != "" && o.Metadata.Namespace != namespace })
	if name == "" {
		s.list(w, r, all)
		return
	}
	for _, o := range all {
		if o.Metadata.Name == name {
			_, _ = w.Write(o.whole) // the client complains of what does not arrive
			return
		}
	}
	refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", kind, name))
}

// forbidden says what the credentials may not do, as RBAC does.
func forbidden(path, namespace, kind, name string) string {
	verb, what, group, where := "list", kind, "", fmt.Sprintf("in the namespace %q", namespace)
	if strings.HasPrefix(path, discoveryV1) {
		group = "discovery.k8s.io"
		what += "." + group
	}
	if name != "" {
		verb, what = "get", fmt.Sprintf("%s %q", what, name)
	}
	if namespace == "" {
		where = "at the cluster scope"
	}
	return fmt.Sprintf(`%s is forbidden: User "test" cannot %s resource %q in API group %q %s`, what, verb, kind, group, where)
}

// Where the API's groups begin.
const (
	coreV1      = "/api/v1/"
	discoveryV1 = "/apis/discovery.k8s.io/v1/"
)

// split takes a path apart: /api/v1/namespaces/NS/KIND/NAME and the like.
func split(path string) (namespace, kind, name string) {
	path = strings.TrimPrefix(strings.TrimPrefix(path, coreV1), discoveryV1)
	words := strings.Split(path, "/")
	if words[0] == "namespaces" && len(words) > 2 {
		namespace, words = words[1], words[2:]
	}
	if len(words) > 1 {
		name = words[1]
	}
	return namespace, words[0], name
}

// objects gives the recorded objects of a kind and the test's own.
func (s *Server) objects(kind string) ([]object, error) {
	var raws struct {
		Items []json.RawMessage `json:"items"`
	}
	if kind != "pods" {
		text, err := testdata.ReadFile("testdata/" + kind + ".json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &raws); err != nil {
			return nil, err
		}
	}
	all := make([]object, len(raws.Items))
	for i, raw := range raws.Items {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, err
		}
		all[i].whole = raw
	}
	switch kind {
	case "pods":
		return appendOwn(all, s.Pods)
	case "services":
		return appendOwn(all, s.Services)
	case "endpointslices":
		return appendOwn(all, s.Slices)
	}
	return all, nil
}

// appendOwn adds objects of the test's, labelled as slices of the service that
// has their name.
func appendOwn[T any](all []object, own []T) ([]object, error) {
	for _, one := range own {
		raw, err := json.Marshal(one)
		if err != nil {
			return nil, err
		}
		o := object{whole: raw}
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, err
		}
		o.Metadata.Labels = map[string]string{"kubernetes.io/service-name": o.Metadata.Name}
		all = append(all, o)
	}
	return all, nil
}

// list gives one page of what the selectors leave.
func (s *Server) list(w http.ResponseWriter, r *http.Request, all []object) {
	query := r.URL.Query()
	if key, value, ok := strings.Cut(query.Get("labelSelector"), "="); ok {
		all = slices.DeleteFunc(all, func(o object) bool { return o.Metadata.Labels[key] != value })
	}
	if value, ok := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name="); ok {
		all = slices.DeleteFunc(all, func(o object) bool { return o.Metadata.Name != value })
	}
	from, _ := strconv.Atoi(query.Get("continue")) // "" is 0
	size, _ := strconv.Atoi(query.Get("limit"))
	if s.PageSize != 0 {
		size = s.PageSize
	}
	next := ""
	page := all[min(from, len(all)):]
	if len(page) > size {
		page, next = page[:size], strconv.Itoa(from+size)
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"kind":"List","metadata":{"continue":%q},"items":[`, next)
	for i, o := range page {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(o.whole)
	}
	body.WriteString("]}")
	_, _ = w.Write(body.Bytes()) // the client complains of what does not arrive
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}

// NewPod makes a running pod; the first address is that of its node.
func NewPod(namespace, name, node, hostIP string, addrs ...string) kube.Pod {
	var p kube.Pod
	p.Metadata.Namespace, p.Metadata.Name = namespace, name
	p.Spec.NodeName, p.Status.HostIP, p.Status.Phase = node, hostIP, "Running"
	p.Status.HostIPs = []kube.IP{{IP: hostIP}}
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, kube.IP{IP: a})
	}
	if len(addrs) > 0 {
		p.Status.PodIP = addrs[0]
	}
	return p
}
