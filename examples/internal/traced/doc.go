// SPDX-License-Identifier: Apache-2.0

// Package traced runs a controller that may record what it sees and does.
package traced
