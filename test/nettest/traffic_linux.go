// SPDX-License-Identifier: Apache-2.0

package nettest

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/require"
)

// question is what Ask sends, and Serve waits for.
const question = "ping"

// Serve answers whoever asks at the address over TCP and UDP with word and the
// asker's address, until the test ends.
func Serve(tb testing.TB, ns *namespaces.Handle, addr, word string) {
	tb.Helper()
	require.NoError(tb, namespaces.Do(func() error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		tb.Cleanup(func() { _ = l.Close() })
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		tb.Cleanup(func() { _ = c.Close() })
		go serveTCP(l, word)
		go serveUDP(c, word)
		return nil
	}, ns))
}

func answer(word string, to net.Addr) []byte {
	from, _ := netip.ParseAddrPort(to.String())
	return []byte(word + " " + from.Addr().Unmap().String())
}

func serveTCP(l net.Listener, word string) {
	buf := make([]byte, len(question)) // io.Copy would keep pipes
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := io.ReadFull(c, buf); err == nil && string(buf) == question {
			_, _ = c.Write(answer(word, c.RemoteAddr()))
		}
		_ = c.Close()
	}
}

func serveUDP(c net.PacketConn, word string) {
	buf := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if string(buf[:n]) == question {
			_, _ = c.WriteTo(answer(word, from), from)
		}
	}
}

// Ask asks a [Serve] from the namespace: its word, and whom it talked to.
func Ask(from *namespaces.Handle, network, addr string, patience time.Duration) (word, peer string, err error) {
	text, err := talk(from, network, addr, question, patience)
	word, peer, _ = strings.Cut(text, " ")
	return word, peer, err
}

// Read is what a TCP server at the address says by itself.
func Read(from *namespaces.Handle, addr string, patience time.Duration) (string, error) {
	return talk(from, "tcp", addr, "", patience)
}

// talk connects, says something and hears the rest.
func talk(from *namespaces.Handle, network, addr, say string, patience time.Duration) (text string, err error) {
	err = namespaces.Do(func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, say); err != nil {
			return err
		}
		if network == "tcp" {
			b, err := io.ReadAll(c)
			text = string(b)
			return err
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		text = string(buf[:n])
		return err
	}, from)
	return text, err
}
