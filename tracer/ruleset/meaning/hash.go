// SPDX-License-Identifier: Apache-2.0

// The hashes in chain names, computed as their writers do, so that a known name
// can be found again.

package meaning

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strings"
)

const (
	// caliChainMax is the longest chain name that iptables takes: Felix cuts
	// names to it (MaxChainNameLength, felix/iptables, from XT_EXTENSION_MAXNAMELEN
	// of 29 with its end, include/uapi/linux/netfilter/x_tables.h, Linux 6.12).
	caliChainMax = 28
	// caliShortened begins the part of a name that is a hash (felix/hashutils).
	caliShortened = "_"
	kubeHashLen   = 16 // characters of base32 in KUBE-SVC-... (pkg/proxy/iptables)
	kubeNFTLen    = 8  // characters of base32 in service-... (pkg/proxy/nftables)
)

// CalicoChain is the name that Felix gives an iptables chain: prefix and id, the
// id hashed if that is too long (GetLengthLimitedID, felix/hashutils/id.go).
func CalicoChain(prefix, id string) string {
	tooLong := len(prefix)+len(id) > caliChainMax
	mistakable := len(prefix)+len(id) == caliChainMax && strings.HasPrefix(id, caliShortened)
	if !tooLong && !mistakable {
		return prefix + id
	}
	sum := sha256.Sum256([]byte(id))
	hash := base64.RawURLEncoding.EncodeToString(sum[:])
	room := max(0, min(len(hash), caliChainMax-len(prefix)-len(caliShortened)))
	return prefix + caliShortened + hash[:room]
}

// KubeServiceHash is the hash in KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-FW- and
// KUBE-XLB- chains (portProtoHash, pkg/proxy/iptables/proxier.go).
func KubeServiceHash(s Service) string {
	return kubeHash(s.String()+strings.ToLower(s.Proto), kubeHashLen)
}

// KubeEndpointHash is the hash in KUBE-SEP- chains; the endpoint is "ip:port"
// (servicePortEndpointChainName, pkg/proxy/iptables/proxier.go).
func KubeEndpointHash(s Service, endpoint string) string {
	return kubeHash(s.String()+strings.ToLower(s.Proto)+endpoint, kubeHashLen)
}

// KubeNFTServiceChain is the tail of the names of a service's chains in
// kube-proxy's nftables mode, after "service-" and its like
// (servicePortChainNameBase, pkg/proxy/nftables/proxier.go).
func KubeNFTServiceChain(s Service) string {
	name := s.Namespace + "/" + s.Name + "/" + strings.ToLower(s.Proto) + "/" + s.Port
	return kubeHash(name, kubeNFTLen) + "-" + name
}

func kubeHash(s string, length int) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:length]
}
