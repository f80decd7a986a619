// SPDX-License-Identifier: Apache-2.0

package launch

const isARM64 = 1
