// SPDX-License-Identifier: Apache-2.0

// Package apiserver runs a real Kubernetes API server for tests: etcd and
// kube-apiserver, in a private folder, on loopback, with RBAC. Nothing else of a
// cluster runs beside it: no scheduler, controller or kubelet, so objects stay as
// they are put, status included.
//
//	Find (what .ci/kubernetes built) -> Start -> Apply objects, Kubeconfig of a user -> Close
package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/testenv/owner"
)

// Variable names the folder with the programs that .ci/kubernetes made.
const Variable = "PATHTRACE_KUBERNETES"

// ErrAbsent: there are no programs to run, for a reason that a test may be
// skipped for. It is wrapped with that reason.
var ErrAbsent = errors.New("no kube-apiserver")

// Find gives the folder with kube-apiserver and etcd.
func Find(getenv func(string) string) (string, error) {
	dir := getenv(Variable)
	if dir == "" {
		return "", fmt.Errorf("%w: make test-apiserver builds one and runs this test", ErrAbsent)
	}
	why, err := os.ReadFile(filepath.Join(dir, "unavailable"))
	if err == nil {
		return "", fmt.Errorf("%w: %s", ErrAbsent, strings.TrimSpace(string(why)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, program := range []string{"kube-apiserver", "etcd"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return "", fmt.Errorf("%s: %w: .ci/kubernetes makes it", Variable, err)
		}
	}
	return dir, nil
}

// How long may pass, on a busy machine. Ready takes some six seconds.
const (
	readyLimit = 2 * time.Minute
	stopLimit  = 20 * time.Second
)

// portTries is how often free ports are looked for: another process may take one
// before the server does.
const portTries = 5

// Server is a running API server.
type Server struct {
	programs string
	dir      string // private; removed by Close
	host     string // address:port
	signer   *signer
	http     *http.Client // the administrator's
	etcd     *process
	api      *process
}

// Start starts both programs and returns when the server is ready. It ends with
// Close, or with this process, however that ends; the files of one that was killed
// are removed by the next.
func Start(ctx context.Context, programs string) (*Server, error) {
	if _, err := owner.CleanStale(); err != nil {
		return nil, err
	}
	dir, err := owner.MakeStateDir("kubernetes")
	if err != nil {
		return nil, err
	}
	s := &Server{programs: programs, dir: dir}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a kube-apiserver: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := s.writeCredentials(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.startOn(ctx)
		if try == portTries || !errors.Is(err, errPortTaken) {
			return err
		}
		if err := errors.Join(s.Stop(), os.RemoveAll(s.file("etcd"))); err != nil {
			return err
		}
	}
}

// startOn starts both on ports that were free a moment ago.
func (s *Server) startOn(ctx context.Context) error {
	addrs, err := freeAddresses(3)
	if err != nil {
		return err
	}
	s.host = addrs[2]
	if s.etcd, err = startProcess(s.file("etcd.log"), filepath.Join(s.programs, "etcd"), s.etcdFlags(addrs[0], addrs[1])...); err != nil {
		return err
	}
	if err := s.etcd.await(ctx, func() error { return healthy(ctx, addrs[0]) }); err != nil {
		return err
	}
	if s.api, err = startProcess(s.file("kube-apiserver.log"), filepath.Join(s.programs, "kube-apiserver"), s.apiFlags(addrs[0])...); err != nil {
		return err
	}
	return s.api.await(ctx, func() error { return s.ready(ctx) })
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) etcdFlags(client, peer string) []string {
	return []string{
		"--data-dir=" + s.file("etcd"), "--logger=zap", "--log-level=warn",
		"--listen-client-urls=http://" + client, "--advertise-client-urls=http://" + client,
		"--listen-peer-urls=http://" + peer, "--initial-advertise-peer-urls=http://" + peer, "--initial-cluster=default=http://" + peer,
	}
}

// advertised is what the server tells the cluster to reach it by, the backend of
// the service default/kubernetes. Loopback is refused for that; nobody goes there
// (RFC 5737, TEST-NET-1).
const advertised = "192.0.2.1"

// apiFlags leave out what a handful of questions do not need.
func (s *Server) apiFlags(etcd string) []string {
	host, port, _ := strings.Cut(s.host, ":")
	return []string{
		"--etcd-servers=http://" + etcd, "--etcd-compaction-interval=0", "--etcd-count-metric-poll-period=0", "--etcd-db-metric-poll-interval=0",
		"--bind-address=" + host, "--secure-port=" + port, "--advertise-address=" + advertised,
		"--cert-dir=" + s.file("certs"), "--client-ca-file=" + s.file("client-ca.crt"), "--token-auth-file=" + s.file("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + s.file("service-account.key"), "--service-account-signing-key-file=" + s.file("service-account.key"),
		"--authorization-mode=Node,RBAC", "--disable-admission-plugins=ServiceAccount",
		"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
		"--runtime-config=autoscaling/v1=false,autoscaling/v2=false,batch/v1=false,policy/v1=false", // nothing in the server itself asks for these
		"--enable-priority-and-fairness=false", "--max-requests-inflight=50", "--max-mutating-requests-inflight=50", "--profiling=false",
		"--shutdown-send-retry-after=false",
	}
}

// freeAddresses finds ports of loopback that nobody has.
func freeAddresses(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// healthy asks etcd whether it serves.
func healthy(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(answer, []byte(`"health":"true"`)) {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}

// ready asks the server whether it is, as soon as its certificate is there.
func (s *Server) ready(ctx context.Context) error {
	client, err := s.adminClient()
	if err != nil {
		return err
	}
	s.http = client
	return s.ask(ctx, http.MethodGet, "/readyz", "", nil)
}

// Host is the server's address without scheme.
func (s *Server) Host() string { return s.host }

// Client trusts the server, and is nobody without a token.
func (s *Server) Client() *http.Client { return s.http }

// Pause keeps the server from answering, as a machine that hangs does, until
// resume is called.
func (s *Server) Pause() (resume func() error, err error) { return s.api.pause() }

// Stop ends both programs; their ports refuse from then on. To stop twice is fine.
func (s *Server) Stop() error {
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
	return errors.Join(s.api.stop(), s.etcd.stop())
}

// Close stops the server and removes what it left.
func (s *Server) Close() error {
	return errors.Join(s.Stop(), os.RemoveAll(s.dir))
}
