// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/netns/nft"
)

// defaultRoot is that of isolation.Config.
const defaultRoot = "/run/caisson"

// needsFirewall reports whether a network has something that only a firewall does.
func needsFirewall(n netns.Spec) bool {
	return len(n.Ports) > 0 || slices.ContainsFunc(n.Interfaces, func(i netns.Interface) bool {
		_, ranked := i.Bandwidth.Priority.Value()
		return i.Kind == netns.Veth && i.Bridge == "" && (n.Isolated || ranked)
	})
}

// firewall is that of the state directory, or nil as long as nobody wanted one:
// then nothing on the machine is touched. A file says that there is one, to the
// invocations that follow, and whether it masquerades.
func (a *app) firewall(ctx context.Context) (*nft.Firewall, error) {
	root := filepath.Clean(cmp.Or(a.config.Root, defaultRoot))
	note := filepath.Join(root, "net", "firewall") // which clean takes away
	const masquerades = "masquerade\n"
	text, err := os.ReadFile(note)
	wanted := a.publish || a.masquerade
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("state directory: %w", err)
	case !wanted:
		return nil, nil //nolint:nilnil // most have none
	}
	masquerade := a.masquerade || string(text) == masquerades
	if err != nil || masquerade != (string(text) == masquerades) {
		if err := os.MkdirAll(filepath.Dir(note), 0o700); err != nil {
			return nil, err
		}
		text = nil
		if masquerade {
			text = []byte(masquerades)
		}
		if err := os.WriteFile(note, text, 0o600); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256([]byte(root))
	return nft.Open(ctx, nft.Config{Scope: hex.EncodeToString(sum[:4]), Masquerade: masquerade})
}
