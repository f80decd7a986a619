// SPDX-License-Identifier: Apache-2.0

// Package supervisor is the program that is the parent of a host's processes, so
// that how they end is known whatever becomes of the agent.
//
// The kernel tells how a process ended to its parent alone, before Linux 6.15. An
// agent that is restarted, or killed, finds what ended meanwhile gone: the status
// is "unknown". With a supervisor it is known, on every kernel, and descriptors that
// the agent left with it ([isolation.Sandbox.Keep]) come back.
//
// It is a program of the embedder's, or a subcommand of his, and nothing of it runs
// unless a host's Config names it:
//
//	func main() { os.Exit(supervisor.Main()) }
//
//	host, err := isolation.Open(ctx, isolation.Config{Supervisor: []string{"/usr/lib/agent/supervisor"}})
//
// A host starts one supervisor, at the first start of a sandbox, and finds it again
// after a restart. It is in a session and a group of its own ("_supervisor", below
// the host's parent group), so a service manager that ends the agent's group does
// not end it. It ends by itself when it has no child, holds nothing that nobody has
// asked for, and no agent is connected.
//
// Small is good: the fewer packages the program imports, the less memory it takes.
package supervisor
