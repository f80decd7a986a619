// SPDX-License-Identifier: Apache-2.0

package crash

// changesHere is changes for the calls that only this architecture has.
func changesHere(*syscallInfo) bool { return false }
