// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
)

// linkPrefix begins the name of every link that this package makes on the
// machine, and aliasPrefix its alias (ip link show), where "caisson SCOPE OWNER"
// tells whose it is.
const (
	linkPrefix  = "cn"
	aliasPrefix = "caisson"
)

// name is the interface's name inside, as the i-th.
func (n Interface) name(i int) string {
	if n.Name != "" {
		return n.Name
	}
	return "eth" + strconv.Itoa(i)
}

// hash is the same for the same owner and interface, in every process and boot.
func (n *Network) hash(owner string, i int) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", n.scope, owner, i))
}

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// linkName is the name on the machine of the owner's i-th interface: 15 bytes,
// 65 bits of which tell it from every other.
func (n *Network) linkName(owner string, i int) string {
	h := n.hash(owner, i)
	return linkPrefix + nameEncoding.EncodeToString(h[:])[:maxName-len(linkPrefix)]
}

// portMAC begins the addresses of the machine's ends: a bridge takes the lowest of
// its ports for its own, which is any other's before one of these.
const portMAC = 0xfe

// localMAC begins an address that is nobody's hardware's.
const localMAC = 0x02

// macs are the addresses of a veth pair's ends, inside and on the machine:
// locally administered, unicast.
func (n *Network) macs(owner string, i int) (inside, outside net.HardwareAddr) {
	h := n.hash(owner, i)
	inside, outside = net.HardwareAddr(h[10:16]), net.HardwareAddr(h[16:22])
	inside[0] = inside[0]&^1 | 2
	outside[0] = portMAC
	return inside, outside
}

// alias is what the owner's links on the machine are marked with.
func (n *Network) alias(owner string) string { return aliasPrefix + " " + n.scope + " " + owner }

// ownerOf is the inverse of alias, for links of this scope.
func (n *Network) ownerOf(alias string) (owner string, ours bool) {
	owner, ours = strings.CutPrefix(alias, aliasPrefix+" "+n.scope+" ")
	return owner, ours && checkOwner(owner) == nil
}

// pinName is the file of the owner's namespace in the directory of pins.
func (n *Network) pinName(owner string) string { return pinPrefix + n.scope + "-" + owner }

// pinPrefix begins the names of pins.
const pinPrefix = "caisson-"

// checkOwner wants what may be a part of a file name and of an alias: 1 to 64
// letters, digits, '.', '_' and '-', the first of which is a letter or digit.
func checkOwner(owner string) error { return checkWord("owner", owner, 64) }

// checkPoolName wants the same of at most 32 bytes.
func checkPoolName(name string) error { return checkWord("pool", name, 32) }

func checkWord(field, s string, most int) error {
	bad := func(reason string) error {
		return &namespaces.InvalidError{Field: field, Value: clip(s), Reason: reason}
	}
	if s == "" || len(s) > most {
		return bad(fmt.Sprintf("not 1 to %d bytes", most))
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return bad("only ASCII letters and digits, and after the first also '.', '_' and '-'")
		}
	}
	return nil
}
