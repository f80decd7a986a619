// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"compress/bzip2"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// quotaImages are empty file systems that count projects, compressed: ext4 of 6 MiB, made
// by mkfs.ext4 -b 1024 -N 256 -O quota,project,^has_journal,^resize_inode,^64bit,^metadata_csum
// -E quotatype=prjquota, and xfs of 16 MiB, made by mkfs.xfs --unsupported -d agcount=1 -m
// reflink=0,rmapbt=0,bigtime=0,inobtcount=0,finobt=0 -i sparse=0,nrext64=0.
//
//go:embed testdata/prjquota.*.bz2
var quotaImages embed.FS

// quotaMount is that file system, mounted with or without project quotas.
func quotaMount(t *testing.T, kind, options string) string {
	t.Helper()
	z, err := quotaImages.Open("testdata/prjquota." + kind + ".bz2")
	require.NoError(t, err)
	image, err := os.Create(t.TempDir() + "/image")
	require.NoError(t, err)
	defer image.Close()
	_, err = io.Copy(image, bzip2.NewReader(z))
	require.NoError(t, err)
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		testutil.Skip(t, "prjquota", "%v", err)
	}
	defer control.Close()
	var loop *os.File
	for range 10 { // another may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		require.NoError(t, err)
		if loop, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0); err != nil {
			testutil.Skip(t, "prjquota", "%v", err)
		}
		if err = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(image.Fd())); err == nil {
			break
		}
		require.ErrorIs(t, err, unix.EBUSY)
		require.NoError(t, loop.Close())
		loop = nil
	}
	require.NotNil(t, loop)
	defer loop.Close()
	t.Cleanup(func() {
		l, err := os.Open(loop.Name())
		require.NoError(t, err)
		defer l.Close()
		assert.NoError(t, unix.IoctlSetInt(int(l.Fd()), unix.LOOP_CLR_FD, 0))
	})
	if kind == "xfs" { // which mounts no two of one image otherwise
		options += ",nouuid"
	}
	dir := t.TempDir()
	if err := unix.Mount(loop.Name(), dir, kind, 0, strings.Trim(options, ",")); err != nil {
		lacks := map[string]testutil.Requirement{"ext4": "prjquota", "xfs": "xfs"} // as this kernel was built
		testutil.Skip(t, lacks[kind], "%v", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// fileAttr gets the attributes of a file, or sets them: FS_IOC_FSGETXATTR and
// FS_IOC_FSSETXATTR. The project is the fourth.
func fileAttr(path string, request uintptr, attr *[7]uint32) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(attr))); errno != 0 {
		return errno
	}
	return nil
}

func project(t *testing.T, path string) uint32 {
	t.Helper()
	var attr [7]uint32
	require.NoError(t, fileAttr(path, 0x801c581f, &attr))
	return attr[3]
}

// leaveProject takes a file out of its project.
func leaveProject(path string) error {
	var attr [7]uint32
	if err := fileAttr(path, 0x801c581f, &attr); err != nil {
		return err
	}
	attr[3] = 0
	return fileAttr(path, 0x401c5820, &attr)
}

// TestUpperQuota: what a sandbox writes to an upper directory on a disk ends where its
// spec says, also when it is root inside and has all capabilities; and another directory
// has another number.
func TestUpperQuota(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { upperQuota(t, kind) })
	}
}

func upperQuota(t *testing.T, kind string) {
	testutil.Require(t, testutil.Root, testutil.UserNamespaces, testutil.EachKernel)
	testutil.CheckLeaks(t)
	if !userOverlay(t) {
		return // Linux 5.11, and quotactl_fd(2) of 5.14
	}
	h := open(t)
	disk := quotaMount(t, kind, "prjquota")
	const size = 2 << 20
	ids := namespaces.IDMaps{{Inside: 0, Outside: 100000, Count: 1000}}
	layer := image(t)
	limited := func(id string) isolation.Spec {
		s := inRoot(t, spec(t, id, "fill", "/file"), isolation.Root{Layers: []string{layer}, Upper: filepath.Join(disk, id), Size: size})
		s.Namespaces.User, s.Namespaces.Network, s.Namespaces.UIDMap, s.Namespaces.GIDMap = isolation.NamespaceNew, isolation.NamespaceNew, ids, ids
		s.Process.Capabilities, s.Security.Seccomp = []string{isolation.AllCapabilities}, isolation.Off
		for _, dir := range []string{s.Root.Upper, s.Root.Upper + "/upper", s.Root.Upper + "/work"} { // which its root owns
			require.NoError(t, errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 100000, 100000)))
		}
		return s
	}
	filled := func(s isolation.Spec) (written int, full bool) {
		box := create(t, h, s)
		var got struct {
			Written int
			Full    bool
		}
		require.NoError(t, json.NewDecoder(run(t, box)).Decode(&got))
		require.NoError(t, box.Destroy(deadline(t)))
		return got.Written, got.Full
	}
	first := limited("first")
	written, _ := filled(first)
	assert.LessOrEqual(t, written, size)
	assert.Greater(t, written, size/2)
	info, err := os.Stat(first.Root.Upper + "/upper/file")
	require.NoError(t, err, "it stays")
	assert.LessOrEqual(t, info.Size(), int64(size))

	second := limited("second")
	written, _ = filled(second)
	assert.Greater(t, written, size/2, "it has room of its own")
	one, two := project(t, first.Root.Upper), project(t, second.Root.Upper)
	assert.NotEqual(t, one, two)
	assert.Equal(t, one, project(t, first.Root.Upper+"/upper/file"))
	require.NoError(t, os.Remove(first.Root.Upper+"/upper/file"))

	// From inside nobody changes the number of what is his.
	inside := limited("inside")
	inside.Process.Args = append([]string{"/bin/test"}, testutil.ChildArgs(t, "escape", "make=/own", "project=/own")[1:]...)
	box := create(t, h, inside)
	var results map[string]string
	require.NoError(t, json.NewDecoder(run(t, box)).Decode(&results))
	require.NoError(t, box.Destroy(deadline(t)))
	assert.Equal(t, succeeded, results["make=/own"])
	assert.NotEqual(t, succeeded, results["project=/own"])
	assert.Equal(t, project(t, inside.Root.Upper), project(t, inside.Root.Upper+"/upper/own"))

	// The same directory again keeps its number, with another limit.
	first.ID, first.Root.Size = "again", size/2
	written, _ = filled(first)
	assert.LessOrEqual(t, written, size/2)
	assert.Equal(t, one, project(t, first.Root.Upper))

	// Below that it would be the same number for two; and files that count for nobody.
	below := limited("below")
	below.Root.Upper = first.Root.Upper + "/upper/nested"
	// xfs makes no directory where nothing is left, and since Linux 5.14 it gives back
	// what a file had some time after its removal.
	require.NoError(t, os.Remove(first.Root.Upper+"/upper/file"))
	require.Eventually(t, func() bool {
		_, err = h.Create(deadline(t), below)
		return !errors.Is(err, unix.ENOSPC)
	}, testutil.Patience(10*time.Second), 10*time.Millisecond)
	require.ErrorIs(t, err, isolation.ErrNotSupported)
	full := limited("full")
	require.NoError(t, os.WriteFile(full.Root.Upper+"/upper/old", []byte("x"), 0o600))
	_, err = h.Create(deadline(t), full)
	require.ErrorContains(t, err, `"old" is in it`)
	assert.Zero(t, project(t, full.Root.Upper))

	// Where quotas are not enforced, and where there are none.
	for _, dir := range []string{quotaMount(t, kind, ""), "/dev/shm/" + filepath.Base(disk)} {
		s := below
		s.Root.Upper = dir + "/upper"
		t.Cleanup(func() { _ = os.RemoveAll("/dev/shm/" + filepath.Base(disk)) })
		_, err = h.Create(deadline(t), s)
		require.ErrorIs(t, err, isolation.ErrNotSupported, dir)
	}
	below.Namespaces.User, below.Namespaces.UIDMap, below.Namespaces.GIDMap = isolation.NamespaceHost, nil, nil
	require.ErrorIs(t, below.Validate(), isolation.ErrInvalid)
}
