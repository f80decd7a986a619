// SPDX-License-Identifier: Apache-2.0

package isolationtest

// OwnHost is for the tests that are outside of the package.
var OwnHost = ownHost
