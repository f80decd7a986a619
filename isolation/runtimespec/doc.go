// SPDX-License-Identifier: Apache-2.0

// Package runtimespec converts [isolation.Spec] to the configuration of an OCI
// runtime. Limits are converted by cgroups/runtimespec.
//
// # What is kept
//
// What a runtime executes means what the native driver makes of the spec: the
// same namespaces, files, mounts, identity, limits, and the same filter of system
// calls, which [ToSpec] names call by call. The usual devices can be used in it and
// no others, unless Resources.Devices says more.
//
// A configuration becomes a sandbox in the same way, also where the default of a
// sandbox is another: without linux.seccomp there is no filter, without
// noNewPrivileges programs may gain some. What a root of a sandbox has by itself
// stays: /dev of its own size, and nosuid and nodev on whatever is mounted.
//
// Where runtimes and the native driver differ by themselves: runtimes make
// missing mount points in Root.Path, set the umask to 022 and a HOME where the
// environment has none, and kill a program of another ABI that the filter refuses
// instead of answering ENOSYS. A program without a slash that the native driver
// would look up in the usual directories gets them as its PATH, as runtimes look
// nowhere else.
//
// # What is named
//
// Nothing is dropped in silence: each [Leftover] is a field that the other side
// has no equivalent for, with the reason. What cannot be is an error.
package runtimespec
