// SPDX-License-Identifier: Apache-2.0

// Package nettest has what the tests of networks share: machines that are network
// namespaces, bridges on them, and traffic between them.
package nettest
