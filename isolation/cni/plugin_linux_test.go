// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is a plugin of the tests, which this test binary is when it is started as
// one. It writes down what it is asked for, and fails or waits where its
// configuration says so.
type fault struct {
	CNIVersion string          `json:"cniVersion"`
	PrevResult json.RawMessage `json:"prevResult"`
	Log        string          `json:"log"`
	Fail       []string        `json:"fail"` // commands
	Wait       string          `json:"wait"` // a file that ADD waits for
}

func runFault() int {
	var f fault
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	command := os.Getenv("CNI_COMMAND")
	f.note(command + " " + os.Getenv("CNI_CONTAINERID") + " " + os.Getenv("CNI_IFNAME") + " " + os.Getenv("CNI_ARGS"))
	switch command {
	case "VERSION":
		fmt.Println(`{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}`)
	case "ADD":
		for i := 0; f.Wait != "" && i < 3000; i++ {
			if _, err := os.Stat(f.Wait); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		f.note("added")
		if !slices.Contains(f.Fail, command) {
			fmt.Println(string(f.PrevResult))
		}
	case "DEL":
		if f.PrevResult == nil {
			f.note("without a result")
		}
	}
	if slices.Contains(f.Fail, command) {
		fmt.Printf(`{"cniVersion": %q, "code": 123, "msg": "no %s today"}`, f.CNIVersion, command)
		return 1
	}
	return 0
}

func (f *fault) note(line string) {
	if w, err := os.OpenFile(f.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err == nil {
		_, _ = fmt.Fprintln(w, line)
		_ = w.Close()
	}
}

// withFault is a directory with the plugin, and the file that it writes to.
func withFault(t *testing.T) (dir, log string) {
	dir = t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(exe, filepath.Join(dir, "fault")))
	return dir, filepath.Join(dir, "log")
}
