// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{"load": func(args []string) int {
		if err := loadMain(args); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			return 1
		}
		return 0
	}})
}

func TestRequest(t *testing.T) {
	// Every length is that of what follows.
	in := bufio.NewReader(bytes.NewReader(request(7)))
	_, err := in.ReadString('\n')
	require.NoError(t, err)
	for range 3 {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		n, err := strconv.Atoi(strings.Trim(line, "$\r\n"))
		require.NoError(t, err)
		part, err := in.ReadString('\n')
		require.NoError(t, err)
		assert.Len(t, strings.TrimSuffix(part, "\r\n"), n)
	}
}

func TestWays(t *testing.T) {
	var o options
	require.NoError(t, o.setWays("alone,pinned"))
	assert.Equal(t, []way{alone, pinned}, o.ways)
	require.ErrorContains(t, o.setWays("alone,none"), `no way "none"`)
}

// TestLoadIsOpen has a service that stands still for a while: every request that
// was due meanwhile counts as late, by as much as it was.
func TestLoadIsOpen(t *testing.T) {
	testutil.Require(t, testutil.Linux, testutil.Real)
	const rate, stall = 200, 500 * time.Millisecond
	l, err := net.Listen("unix", t.TempDir()+"/s")
	require.NoError(t, err)
	defer l.Close()
	cmd := testutil.Child(t, "load", "-socket", l.Addr().String(), "-rate", "200", "-cost", "1", "-even")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		in := bufio.NewReader(conn)
		for n := 0; ; n++ {
			for range 7 { // lines of a request
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
			}
			if n == 20 {
				time.Sleep(stall)
			}
			if _, err := io.WriteString(conn, ":1\r\n"); err != nil {
				return
			}
		}
	}()
	var s second
	require.NoError(t, json.NewDecoder(out).Decode(&s))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	late := 0
	for _, d := range s.Latencies {
		if d > stall/10 {
			late++
		}
	}
	assert.Greater(t, late, int(rate*stall.Seconds()*0.7), "all that were due while it stood still")
	assert.GreaterOrEqual(t, s.Latencies[len(s.Latencies)-1], stall)
}

func TestReport(t *testing.T) {
	ms := func(n ...int) (ds []time.Duration) {
		for _, v := range n {
			ds = append(ds, time.Duration(v)*time.Millisecond)
		}
		return ds
	}
	results := []outcome{
		{way: alone, latencies: ms(1, 1, 2), seconds: 1, cpus: 2, service: 0.5},
		{way: alone, latencies: ms(1, 1, 4), seconds: 1, cpus: 2, service: 0.5},
		{way: alone, latencies: ms(1, 1, 3), seconds: 1, cpus: 2, service: 0.5},
		{way: managed, latencies: ms(1, 2, 6), seconds: 1, cpus: 2, service: 0.5, batch: 1.2},
	}
	list := rows(results)
	require.Len(t, list, 2)
	assert.InDelta(t, 3, list[0].P99, 1e-9, "the median of the rounds")
	assert.InDelta(t, 2, list[1].Ratio, 1e-9)
	assert.InDelta(t, 0.8, list[1].OfIdle, 1e-9)
	var text, html bytes.Buffer
	report(&text, results)
	assert.Contains(t, text.String(), "elastic")
	require.NoError(t, draw(&html, results))
	assert.Contains(t, html.String(), "6.00 ms, 2.00x")
}

func TestArrivals(t *testing.T) {
	for _, even := range []bool{true, false} {
		sum, most := time.Duration(0), time.Duration(0)
		gaps := arrivals(100, even)
		for _, g := range gaps {
			sum, most = sum+g, max(most, g)
		}
		assert.Len(t, gaps, 100*int(cycle/time.Second))
		assert.InDelta(t, cycle.Seconds(), sum.Seconds(), 1e-5)
		assert.Equal(t, even, most == 10*time.Millisecond)
	}
}

func TestAnswers(t *testing.T) {
	l := load{due: []time.Duration{1, 2, 3, 4}, rate: 2}
	require.NoError(t, l.answered([]byte(":1\r\n:"), 8))
	_, ok := l.told()
	require.False(t, ok, "a second has two requests")
	require.NoError(t, l.answered([]byte("1\r\n:1\r\n"), 7))
	line, ok := l.told()
	require.True(t, ok)
	var s second
	require.NoError(t, json.Unmarshal(line, &s))
	assert.Equal(t, second{Latencies: []time.Duration{5, 7}}, s)
	assert.Equal(t, []time.Duration{4}, l.latencies)
	require.Error(t, l.answered([]byte("-ERR no\r\n"), 8))
	require.NoError(t, (&load{due: l.due}).answered([]byte(":1\n"), 8))
	require.Error(t, (&load{}).answered([]byte(":1\n"), 8), "nobody asked")
}

func TestVerdict(t *testing.T) {
	const ms = time.Millisecond
	good := trial{alone: 2 * ms, p99: 3 * ms, first: elastic.Freeze}
	slow, late, lost := good, good, good
	slow.p99, late.first, lost.service = 4*ms, 0, 1
	var out bytes.Buffer
	require.NoError(t, verdict(&out, []trial{good, good, {alone: 4 * ms, p99: ms, first: elastic.Freeze}}))
	assert.Contains(t, out.String(), "0 of 3 trials, and 1 of as many without a hog")
	for _, bad := range []trial{slow, late, lost} {
		require.Error(t, verdict(io.Discard, []trial{good, good, bad}))
	}
}
