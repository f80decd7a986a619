// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// The commands of the sandboxes' processes.
const (
	serveCommand = "serve"
	sendCommand  = "send"
)

// answerSize is what the service sends for each byte that it receives.
const answerSize = 8 << 10

// serve is the service.
func serve() error {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			request, answer := make([]byte, 1), make([]byte, answerSize)
			for {
				if _, err := io.ReadFull(c, request); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// send is the batch job: four connections to the address of its argument, which send
// all they can.
func send() error {
	if len(os.Args) != 3 {
		return errors.New("no address")
	}
	failed := make(chan error)
	for range 4 {
		go func() {
			c, err := net.Dial("tcp", os.Args[2])
			for block := make([]byte, 64<<10); err == nil; {
				_, err = c.Write(block)
			}
			failed <- err
		}()
	}
	return <-failed
}
