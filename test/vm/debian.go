// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// archive has the suites that Debian's mirrors no longer carry.
const archive = "http://archive.debian.org/debian"

// fetch returns a directory with the unpacked packages of the kernel and of a
// static busybox, from the cache if it has them.
func fetch(ctx context.Context, cache string, k kernel) (string, error) {
	var errs []error
	for _, suite := range k.suites {
		dir := filepath.Join(cache, "debian", suite+"-"+k.arch)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		for _, mirror := range []string{hostMirror(ctx), archive} {
			err := fetchSuite(ctx, dir, mirror, suite, k.arch)
			if err == nil {
				return dir, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", suite, err))
		}
	}
	return "", fmt.Errorf("not in %s, and Debian's mirror did not give it: %w", cache, errors.Join(errs...))
}

// hostMirror is where this machine's apt gets Debian from.
func hostMirror(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err == nil {
		for uri := range strings.FieldsSeq(string(out)) {
			if strings.HasSuffix(strings.TrimRight(uri, "/"), "/debian") {
				return uri
			}
		}
	}
	return "http://deb.debian.org/debian"
}

// fetchSuite runs apt with a state of its own, so that neither root nor a
// change of this machine's sources and architectures is needed. It leaves the
// finished directory or nothing.
func fetchSuite(ctx context.Context, dir, mirror, suite, arch string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "parts", "root"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("deb [arch=%s target=Packages] %s %s main\n", arch, mirror, suite)
	for name, text := range map[string]string{"sources.list": source, "status": ""} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	apt := func(args ...string) ([]byte, error) {
		for _, option := range []string{
			"Dir::State=" + tmp + "/state", "Dir::State::status=" + tmp + "/status", "Dir::Cache=" + tmp + "/cache",
			"Dir::Etc::sourcelist=" + tmp + "/sources.list", "Dir::Etc::sourceparts=" + tmp + "/parts",
			"APT::Architecture=" + arch, "APT::Architectures=" + arch,
			"APT::Sandbox::User=root", "Acquire::Check-Valid-Until=false", "Acquire::Languages=none",
		} {
			args = append(args, "-o", option)
		}
		return command(ctx, tmp, nil, args[0], args[1:]...)
	}

	fmt.Fprintf(os.Stderr, "fetching the %s kernel of Debian %s\n", arch, suite)
	if _, err := apt("apt-get", "update", "-qq", "--error-on=any"); err != nil {
		return err
	}
	meta, err := apt("apt-cache", "show", "--no-all-versions", "linux-image-cloud-"+arch)
	if err != nil {
		return err
	}
	image := regexp.MustCompile(`(?m)^Depends: (linux-image-\S+)`).FindSubmatch(meta)
	if image == nil {
		return fmt.Errorf("linux-image-cloud-%s names no kernel", arch)
	}
	if _, err := apt("apt-get", "download", "-qq", string(image[1]), "busybox-static"); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := command(ctx, tmp, nil, "dpkg-deb", "-x", deb, "root"); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(tmp, "root"), dir)
}

// command runs a program in a directory, with more environment, and returns
// what it printed; its complaints are in the error.
func command(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
