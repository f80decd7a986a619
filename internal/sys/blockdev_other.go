// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import "errors"

// BlockDevice returns [errors.ErrUnsupported].
func BlockDevice(string) (major, minor uint32, ok bool, err error) {
	return 0, 0, false, errors.ErrUnsupported
}
