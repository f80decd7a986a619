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

// packages are packages of Debian that are fetched and unpacked together.
type packages struct {
	name     string   // what the directory in the cache begins with
	suites   []string // the first that serves them is taken
	arch     string
	download func(context.Context, apt) error
}

// fetch returns the directory with the unpacked packages, from the cache if it
// has them.
func fetch(ctx context.Context, cache string, p packages) (string, error) {
	var errs []error
	for _, suite := range p.suites {
		dir := filepath.Join(cache, "debian", p.name+suite+"-"+p.arch)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		for _, mirror := range []string{hostMirror(ctx), archive} {
			err := fetchSuite(ctx, dir, mirror, suite, p)
			if err == nil {
				return dir, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", suite, err))
		}
	}
	return "", fmt.Errorf("not in %s, and Debian's mirror did not give it: %w", cache, errors.Join(errs...))
}

// kernelPackages are the kernel and a static busybox.
func kernelPackages(k kernel) packages {
	return packages{"", k.suites, k.arch, func(ctx context.Context, a apt) error {
		meta, err := a.run(ctx, "apt-cache", "show", "--no-all-versions", "linux-image-cloud-"+k.arch)
		if err != nil {
			return err
		}
		image := regexp.MustCompile(`(?m)^Depends: (linux-image-\S+)`).FindSubmatch(meta)
		if image == nil {
			return fmt.Errorf("linux-image-cloud-%s names no kernel", k.arch)
		}
		_, err = a.run(ctx, "apt-get", "download", "-qq", string(image[1]), "busybox-static")
		return err
	}}
}

// systemdPackages are systemd and what it needs, with a system bus.
func systemdPackages(k kernel) packages {
	return packages{"systemd-", k.suites, k.arch, func(ctx context.Context, a apt) error {
		return withDependencies(ctx, a, "systemd", "dbus", "coreutils")
	}}
}

// withDependencies are the named packages and all that they depend on.
func withDependencies(ctx context.Context, a apt, names ...string) error {
	args := append([]string{"apt-get", "install", "-qq", "-y", "--download-only", "--no-install-recommends"}, names...)
	_, err := a.run(ctx, args...)
	return err
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

// apt is a state of apt's own, so that neither root nor a change of this
// machine's sources and architectures is needed.
type apt struct{ dir, arch string }

// run runs one of apt's programs. Downloads go to archives.
func (a apt) run(ctx context.Context, args ...string) ([]byte, error) {
	for _, option := range []string{
		"Dir::State=" + a.dir + "/state", "Dir::State::status=" + a.dir + "/status", "Dir::Cache=" + a.dir + "/cache",
		"Dir::Etc::sourcelist=" + a.dir + "/sources.list", "Dir::Etc::sourceparts=" + a.dir + "/parts",
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch,
		"APT::Sandbox::User=root", "Acquire::Check-Valid-Until=false", "Acquire::Languages=none",
	} {
		args = append(args, "-o", option)
	}
	return command(ctx, a.archives(), nil, args[0], args[1:]...)
}

func (a apt) archives() string { return filepath.Join(a.dir, "cache/archives") }

// fetchSuite leaves the finished directory or nothing.
func fetchSuite(ctx context.Context, dir, mirror, suite string, p packages) (err error) {
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
	source := fmt.Sprintf("deb [arch=%s target=Packages] %s %s main\n", p.arch, mirror, suite)
	for name, text := range map[string]string{"sources.list": source, "status": ""} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o644); err != nil {
			return err
		}
	}

	fmt.Fprintf(os.Stderr, "fetching %s\n", filepath.Base(dir))
	a := apt{tmp, p.arch}
	if _, err := a.run(ctx, "apt-get", "update", "-qq", "--error-on=any"); err != nil {
		return err
	}
	if err := p.download(ctx, a); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.archives(), "*.deb"))
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
