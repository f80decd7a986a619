// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"testing"
)

// What the test binary is instead, where these are set.
const (
	asCommand = "CAISSON_TEST_COMMAND" // the command that it tests
	asServer  = "CAISSON_TEST_SERVER"  // a program that answers on port 80 with this word
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "supervise": // whose environment is not ours
		main()
		return
	case os.Getenv(asCommand) == "pause": // a program that runs until somebody ends it
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		<-c
		return
	case os.Getenv(asCommand) != "":
		main()
		return
	case os.Getenv(asServer) != "":
		os.Exit(serve(os.Getenv(asServer)))
	}
	os.Exit(m.Run())
}

func serve(word string) int {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		_, _ = io.WriteString(c, word)
		_ = c.Close()
	}
}
