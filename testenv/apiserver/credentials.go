// SPDX-License-Identifier: Apache-2.0

// Who may ask: users by token, kubelets by certificate, and the kubeconfig of each.

package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"time"
)

// User is somebody who asks.
type User string

// The users. What Reader may do is up to the roles that a test applies.
const (
	Admin    User = "admin"    // may do everything
	Reader   User = "reader"   // what it was given
	Nobody   User = "nobody"   // nothing
	Stranger User = "stranger" // not known to the server: the token is wrong
)

func (u User) token() string { return string(u) + "-token" }

// writeCredentials writes what the server reads of them when it starts.
func (s *Server) writeCredentials() error {
	var err error
	if s.signer, err = newSigner(); err != nil {
		return err
	}
	serviceAccount, err := newKey()
	if err != nil {
		return err
	}
	key, err := keyPEM(serviceAccount)
	if err != nil {
		return err
	}
	var tokens strings.Builder
	for i, u := range []User{Admin, Reader, Nobody} {
		fmt.Fprintf(&tokens, "%s,%s,%d%s\n", u.token(), u, i, map[User]string{Admin: ",system:masters"}[u])
	}
	return errors.Join(
		os.WriteFile(s.file("client-ca.crt"), s.signer.pem, 0o600),
		os.WriteFile(s.file("service-account.key"), key, 0o600),
		os.WriteFile(s.file("tokens.csv"), []byte(tokens.String()), 0o600),
	)
}

// certificate is the server's own, which it made when it started.
func (s *Server) certificate() ([]byte, error) { return os.ReadFile(s.file("certs/apiserver.crt")) }

// adminClient asks as the administrator.
func (s *Server) adminClient() (*http.Client, error) {
	cert, err := s.certificate()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cert) {
		return nil, errors.New("the server's certificate is not there yet")
	}
	return &http.Client{Timeout: stopLimit, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
	}}, nil
}

// Kubeconfig writes a user's kubeconfig and gives its path.
func (s *Server) Kubeconfig(u User) (string, error) {
	return s.writeKubeconfig(string(u), fmt.Sprintf("token: %q", u.token()))
}

// KubeletConfig writes the kubeconfig of a node's kubelet, which proves itself by
// a certificate, as kubeadm makes it.
func (s *Server) KubeletConfig(node string) (string, error) {
	cert, key, err := s.signer.sign(pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}})
	if err != nil {
		return "", err
	}
	return s.writeKubeconfig("kubelet-"+node, fmt.Sprintf("client-certificate-data: %s, client-key-data: %s", encode(cert), encode(key)))
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func (s *Server) writeKubeconfig(name, user string) (string, error) {
	cert, err := s.certificate()
	if err != nil {
		return "", err
	}
	path := s.file(name + ".kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts:
- {name: test, context: {cluster: test, user: test}}
clusters:
- name: test
  cluster: {server: "https://%s", certificate-authority-data: %s}
users:
- name: test
  user: {%s}
`, s.host, encode(cert), user)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// signer is the authority that client certificates are signed by.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newSigner() (*signer, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := certificateFor(pkix.Name{CommonName: "pathtrace test"})
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &signer{cert, key, certPEM(der)}, err
}

// sign gives a client's certificate and key in PEM.
func (s *signer) sign(subject pkix.Name) (cert, key []byte, err error) {
	private, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template := certificateFor(subject)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, private.Public(), s.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(private)
	return certPEM(der), key, err
}

func certificateFor(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}
