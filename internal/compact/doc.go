// SPDX-License-Identifier: Apache-2.0

// Package compact writes JSON on one line without reflection. What is written
// while a sandbox starts is written by it: after a pause the processor has to
// fetch all the code of encoding/json anew, which takes ten times as long as
// running it.
package compact
