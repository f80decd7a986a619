// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/internal/launch"
)

// IDRange is Count user or group ids from First on.
type IDRange struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// ParseSubIDs returns the ranges that the text of /etc/subuid or /etc/subgid gives
// to a user, in its order: by name, or by his number in decimal. A name may be
// empty. Lines that make no sense, and ranges that no id map can have, are passed
// over, as newuidmap(1) does.
//
// subuid(5).
func ParseSubIDs(text, name string, uid uint32) []IDRange {
	var ranges []IDRange
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] == "" || f[0] != name && f[0] != strconv.FormatUint(uint64(uid), 10) {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || first+count > math.MaxUint32 {
			continue
		}
		ranges = append(ranges, IDRange{uint32(first), uint32(count)})
	}
	return ranges
}

// SubIDs are the further user and group ids that the administrator has given the
// calling user for namespaces of his own, in /etc/subuid and /etc/subgid. A file
// that is missing gives none. Where /etc/nsswitch.conf names another source of
// "subid", newuidmap(1) asks that one and not the files: elsewhere is true, and
// only trying tells.
func SubIDs() (uids, gids []IDRange, elsewhere bool, err error) {
	uid := os.Geteuid()
	name := ""
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	read := func(path string) []IDRange {
		text, rerr := os.ReadFile(path)
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return ParseSubIDs(string(text), name, uint32(uid))
	}
	uids, gids = read("/etc/subuid"), read("/etc/subgid")
	text, rerr := os.ReadFile("/etc/nsswitch.conf")
	if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return uids, gids, otherSubIDs(string(text)), err
}

// otherSubIDs reports whether an nsswitch.conf(5) has subordinate ids elsewhere
// than in files.
func otherSubIDs(text string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		sources, is := strings.CutPrefix(strings.TrimSpace(line), "subid:")
		if is && strings.TrimSpace(sources) != "files" {
			return true
		}
	}
	return false
}

// OwnIDMaps map inside ids uid and gid to the caller's own and nothing else: what
// the kernel lets everybody do, without any program.
func OwnIDMaps(uid, gid uint32) (uids, gids IDMaps) {
	return IDMaps{{Inside: uid, Outside: uint32(os.Geteuid()), Count: 1}}, IDMaps{{Inside: gid, Outside: uint32(os.Getegid()), Count: 1}}
}

// MapSubIDs maps 0 to the id own, and the ids of ranges from 1 on: what a user who
// is root inside needs for files of several owners. Further ranges than a map can
// have are left out.
func MapSubIDs(own uint32, ranges []IDRange) IDMaps {
	maps := IDMaps{{Inside: 0, Outside: own, Count: 1}}
	next := uint64(1)
	for _, r := range ranges {
		longer := append(maps[:len(maps):len(maps)], IDMap{Inside: uint32(next), Outside: r.First, Count: r.Count})
		if longer.Validate() != nil { // it overlaps, or is too long
			continue
		}
		maps, next = longer, next+uint64(r.Count)
	}
	return maps
}

// WriteIDMaps fills the maps of the user namespace of process pid, which nobody
// has filled before: by itself or, for maps of ids that only the administrator can
// have given the caller, by the programs newuidmap(1) and newgidmap(1). Where these
// are not needed, setgroups(2) is forbidden in there, as the kernel wants it.
//
// It fails with an [InvalidError] before anything is written, [ErrNotSupported] for
// ids that the caller is not given, and [os.ErrNotExist] if there is no such
// process. If it fails, the user map may be filled already; the namespace is of no
// use then.
func WriteIDMaps(pid int, uids, gids IDMaps) error {
	if err := errors.Join(uids.Validate(), gids.Validate()); err != nil {
		return err
	}
	return launch.WriteIDMaps(pid, uids.String(), gids.String(), os.Geteuid() == 0 || !gids.Only(os.Getegid()))
}

// Only reports whether the maps are of that one id outside and no other: what a caller
// who has no right to more may map by himself, if it is his own.
func (s IDMaps) Only(outside int) bool {
	return len(s) == 1 && s[0].Count == 1 && int(s[0].Outside) == outside
}
