// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/caisson-run/caisson/isolation"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
)

// Config says which plugins connect sandboxes.
type Config struct {
	// Lists are network configuration lists, as in /etc/cni/net.d/*.conflist. The
	// first one's interface is "eth0" inside, the second one's "eth1", and so on.
	Lists [][]byte

	// State is the directory of what is kept, an absolute path. It belongs on a file
	// system that is empty after a reboot, and is made if it is missing.
	State string

	// Scope tells what this agent makes from what others on the machine make: 1 to
	// 16 lower case letters and digits. The plugins get "SCOPE-ID" as the container's
	// id.
	Scope string

	// Plugins are the directories of the plugins, in order; none: /opt/cni/bin and
	// /usr/lib/cni.
	Plugins []string

	// Pins is the directory that namespaces are pinned in; empty is netns.DefaultPins.
	Pins string

	// NetworkNamespace is the path of the network namespace that the plugins run
	// in; empty is the caller's own.
	NetworkNamespace string

	// Select says which sandboxes are connected, and with which arguments; nil:
	// those whose spec says nothing about a network, without arguments.
	Select func(isolation.Spec) (Arguments, bool)
}

// Arguments are what the plugins get besides their configuration.
type Arguments struct {
	// Args is CNI_ARGS.
	Args [][2]string `json:"args,omitempty"`

	// Capabilities go into "runtimeConfig" of the plugins that declare them:
	// portMappings, bandwidth, ips, mac.
	Capabilities map[string]any `json:"capabilities,omitempty"`
}

// defaultPlugins is where the specification and Debian have them.
var defaultPlugins = []string{"/opt/cni/bin", "/usr/lib/cni"}

// Validate reports everything that is wrong with c, without looking at the
// machine. Each part of the error matches isolation.ErrInvalid.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, value, reason string) {
		errs = append(errs, &isolation.InvalidError{Field: "cni." + field, Value: value, Reason: reason})
	}
	if len(c.Lists) == 0 || len(c.Lists) > maxLists {
		bad("lists", strconv.Itoa(len(c.Lists)), fmt.Sprintf("not 1 to %d", maxLists))
	}
	names := map[string]bool{}
	for _, text := range c.Lists {
		list, err := parseList(text)
		if err != nil {
			bad("lists", "", err.Error())
			continue
		}
		if names[list.Name] {
			bad("lists", list.Name, "named twice")
		}
		names[list.Name] = true
	}
	if !filepath.IsAbs(c.State) {
		bad("state", c.State, "not an absolute path")
	}
	good := len(c.Scope) >= 1 && len(c.Scope) <= 16
	for i := range len(c.Scope) {
		good = good && ('a' <= c.Scope[i] && c.Scope[i] <= 'z' || '0' <= c.Scope[i] && c.Scope[i] <= '9')
	}
	if !good {
		bad("scope", c.Scope, "not 1 to 16 lower case letters and digits")
	}
	return errors.Join(errs...)
}

// maxLists bounds the interfaces of one sandbox.
const maxLists = 16

// parseList reads a network configuration list whose plugins can be run.
func parseList(text []byte) (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("a list without plugins")
	}
	return list, nil
}

// unspecified is the default of Config.Select.
func unspecified(s isolation.Spec) (Arguments, bool) {
	return Arguments{}, s.Network.Mode == "" && s.Namespaces.Network == isolation.NamespaceDefault
}
