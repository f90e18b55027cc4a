// SPDX-License-Identifier: Apache-2.0

package kube

// This file is the HTTP side: one GET, and what its failures mean.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Errors that callers tell apart. They are wrapped with what the server said.
var (
	// ErrNotFound: the server knows no such object.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the credentials are good but do not allow this.
	ErrForbidden = errors.New("not allowed")
	// ErrUnauthorized: the server does not accept the credentials.
	ErrUnauthorized = errors.New("credentials not accepted")
	// ErrUnreachable: no answer that could be understood came.
	ErrUnreachable = errors.New("unreachable")
)

const (
	requestTimeout = 5 * time.Second
	maxBody        = 64 << 20
	pageSize       = 500   // objects per request of a list
	maxObjects     = 20000 // objects of a list that are taken at most
)

// Client asks one API server. It is safe for concurrent use.
type Client struct {
	source string
	base   *url.URL
	http   *http.Client
	header http.Header
}

// NewClient prepares a client; a credential plugin is run here. Nothing is
// sent yet.
func NewClient(ctx context.Context, c Config) (*Client, error) {
	base, err := url.Parse(c.Server)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("server %q of %s is no URL", c.Server, c.Source)
	}
	if c.Exec != nil {
		if err := c.Exec.run(ctx, &c); err != nil {
			return nil, err
		}
	}
	header, err := c.header()
	if err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Source, err)
	}
	return &Client{source: c.Source, base: base, header: header,
		http: &http.Client{Transport: transport, Timeout: requestTimeout, CheckRedirect: noRedirect}}, nil
}

// noRedirect keeps credentials from going elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Source is where the credentials come from, for messages.
func (c *Client) Source() string { return c.source }

// Server is the server's address, for messages.
func (c *Client) Server() string { return c.base.Host }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c Config) header() (http.Header, error) {
	h := http.Header{"User-Agent": {"pathtrace"}}
	token := c.Token
	if c.TokenFile != "" {
		raw, err := c.read(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token of %s: %w", c.Source, err)
		}
		token = strings.TrimSpace(string(raw))
	}
	switch {
	case token != "":
		h.Set("Authorization", "Bearer "+token)
	case c.Username != "":
		r := http.Request{Header: h}
		r.SetBasicAuth(c.Username, c.Password)
	}
	return h, nil
}

func (c Config) transport() (*http.Transport, error) {
	conf := &tls.Config{ServerName: c.ServerName, InsecureSkipVerify: c.Insecure, MinVersion: tls.VersionTLS12}
	if len(c.CA) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("certificate-authority: holds no certificate in PEM")
		}
	}
	if len(c.Cert) > 0 {
		pair, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	t := &http.Transport{TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: requestTimeout, ForceAttemptHTTP2: true}
	if c.ProxyURL != "" {
		proxy, err := url.Parse(c.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("proxy-url: %w", err)
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	return t, nil
}

// status is what the server says when it does not give the object
// (meta/v1 Status).
type status struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

// Accept values: whole objects, or only their metadata.
const (
	acceptWhole    = "application/json"
	acceptMetadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

// get asks for one path below the server's URL and decodes the answer.
func (c *Client) get(ctx context.Context, path string, query url.Values, accept string, into any) error {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header = c.header.Clone()
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, c.base.Host, cause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, c.base.Host, cause(err))
	case len(body) > maxBody:
		return fmt.Errorf("%s: answer larger than %d MiB", c.base.Host, maxBody>>20)
	case resp.StatusCode != http.StatusOK:
		return refusal(c.base.Host, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %s: the answer is not a Kubernetes object: %w", ErrUnreachable, c.base.Host, err)
	}
	return nil
}

// refusal makes a sentence of a status that is not 200. A 404 without a Status
// object comes from something that is no API server.
func refusal(host string, code int, body []byte) error {
	var s status
	known := json.Unmarshal(body, &s) == nil && s.Message != ""
	said := s.Message
	if !known {
		said = http.StatusText(code)
	}
	kinds := map[int]error{http.StatusNotFound: ErrNotFound, http.StatusForbidden: ErrForbidden, http.StatusUnauthorized: ErrUnauthorized}
	kind, ok := kinds[code]
	if !ok || code == http.StatusNotFound && !known {
		return fmt.Errorf("%w: %s answers %d %s", ErrUnreachable, host, code, said)
	}
	return fmt.Errorf("%w: %s: %s", kind, host, said)
}

// cause drops the request's URL that net/http puts in front: it is long and
// the host stands in the message already.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// list gathers a list page by page.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, accept string) ([]T, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", fmt.Sprint(pageSize))
	var all []T
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := c.get(ctx, path, query, accept, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Metadata.Continue == "" || len(all) >= maxObjects {
			return all, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}
