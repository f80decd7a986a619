// SPDX-License-Identifier: Apache-2.0

package namespaces_test

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/caisson-run/caisson/namespaces"
)

// A socket that was made inside a network namespace stays there, and is used
// from anywhere.
func ExampleDo() {
	h, err := namespaces.OpenPID(4711, namespaces.Network)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("the process has ended")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	var l net.Listener
	err = namespaces.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:80")
		return err
	}, h)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	fmt.Println("listening inside", h, "on", l.Addr())
}

func ExampleIDOf() {
	self, err := namespaces.IDOf(os.Getpid(), namespaces.UTS)
	if err != nil {
		fmt.Println(err)
		return
	}
	parent, err := namespaces.IDOf(os.Getppid(), namespaces.UTS)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("my parent and I have one host name:", self == parent)
}

func ExampleKinds() {
	s := namespaces.KindsOf(namespaces.PID, namespaces.Network)
	fmt.Println(s, s.Has(namespaces.UTS))
	fmt.Printf("%#x\n", s.Flags())
	// Output:
	// pid,net false
	// 0x60000000
}

func ExampleIDMaps() {
	m := namespaces.IDMaps{
		{Inside: 0, Outside: 1000, Count: 1},
		{Inside: 1, Outside: 100000, Count: 65535},
	}
	fmt.Print(m)
	id, ok := m.Outside(33)
	fmt.Println(id, ok)

	m = append(m, namespaces.IDMap{Inside: 5, Outside: 5, Count: 1})
	fmt.Println(m.Validate())
	// Output:
	// 0 1000 1
	// 1 100000 65535
	// 100032 true
	// id map "5 5 1": shares ids inside with "1 100000 65535"
}

// What keeps the caller's network namespace alive.
func ExampleHolders() {
	h, err := namespaces.Current(namespaces.Network)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	holders, err := namespaces.Holders(h.ID())
	if err != nil {
		fmt.Println(err) // of processes that may not be looked at; the rest is listed
	}
	for _, holder := range holders {
		fmt.Println(holder) // member /proc/1/task/1/ns/net of process 1
	}
}

// An ordinary user is root inside, and has the ids that he was given for files of
// other owners.
func ExampleMapSubIDs() {
	given := namespaces.ParseSubIDs("ada:100000:65536\nbob:165536:65536\n", "ada", 1000)
	fmt.Print(namespaces.MapSubIDs(1000, given))
	// Output:
	// 0 1000 1
	// 1 100000 65536
}
