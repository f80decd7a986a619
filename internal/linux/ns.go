// SPDX-License-Identifier: Apache-2.0

package linux

import "errors"

// ErrNotNamespace says that a file is something else than a namespace.
var ErrNotNamespace = errors.New("not a namespace")
