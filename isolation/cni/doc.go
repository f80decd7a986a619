// SPDX-License-Identifier: Apache-2.0

// Package cni gives sandboxes networks of CNI plugins: a chain of programs of
// somebody else, in the place of Spec.Network.
//
// It is a module of its own, so that nobody else links libcni.
//
// # Model
//
// An [Isolator] goes into isolation.Config.Isolators. For each sandbox that it is
// asked to connect it makes and pins a network namespace, runs the plugins of each
// configured list with ADD, one interface a list, and keeps what they were given and
// what they answered. The process is born in that namespace. When the sandbox is
// destroyed the plugins run in reverse with DEL, with the kept result, and the
// namespace goes. [Isolator.Check] runs them with CHECK.
//
// # What a crash leaves
//
// Before the first plugin runs it is on disk which ones will, with what. So a later
// process undoes a chain that did not come to its end, or whose result was not
// written: plugins have to bear a DEL without a result, and without a namespace.
// A plugin that outlives the agent which started it is waited for: it holds a lock
// that is inherited.
//
// # What plugins do
//
// They run as the agent, in the machine's network namespace, and change what they
// like on it: bridges, addresses, firewall rules. netns does nothing of that. What
// belongs to one sandbox they take away at DEL; what they share, a bridge for
// example, stays.
package cni
