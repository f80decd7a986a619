// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// place is where an agent keeps its sandboxes, and what it runs in them.
type place struct {
	Root, Parent string
	Machine      string // path of the network namespace that is the machine's
	Pins         string
	Box          []string // the program of a sandbox; its id follows
	OOMGroup     bool     // the machine has memory.oom.group
	Supervisor   []string // of the sandboxes; nil: none
}

func (p place) config() isolation.Config {
	return isolation.Config{
		Root: p.Root, Parent: p.Parent, NetworkNamespace: p.Machine, Supervisor: p.Supervisor,
		Network: netns.Config{Pins: p.Pins, Pools: []netns.PoolConfig{{
			Name: "lan", Subnet: netip.MustParsePrefix("10.7.0.0/24"), Quarantine: time.Millisecond,
		}}},
	}
}

// rates are the n-th limits of a network, in bits a second.
func rates(n int) netns.Bandwidth {
	return netns.Bandwidth{Egress: netns.BitsPerSecond(egress(n)), Ingress: netns.BitsPerSecond(ingress(n))}
}

// A network is made with the 0-th limits, and without one for what comes in.
func egress(n int) uint64 { return uint64(1e8 + 1e6*n) }

func ingress(n int) uint64 {
	if n == 0 {
		return 0
	}
	return uint64(2e8 + 1e6*n)
}

func (p place) records() string { return filepath.Join(p.Root, "sandboxes") }

// limits are the n-th ones: of each knob another value than any other n has.
func limits(n int) cgroups.Resources {
	return cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(float64(50+n) / 100)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(uint64(64+n) << 20)},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(uint64(100 + n))},
	}
}

// spec is the sandbox called id with the n-th limits. Every third leaves the
// limits open, for updates of what nobody has set.
func (p place) spec(id string, n int, with string) isolation.Spec {
	s := isolation.Spec{
		ID: id, Labels: map[string]string{"n": fmt.Sprint(n)},
		Process: isolation.Process{Args: append(append([]string{}, p.Box...), id)},
	}
	if n%2 == 1 {
		s.Logs = &logs.Config{MaxSize: 16 << 10, MaxTotal: 1 << 30, Compress: n%3 == 0, Block: n%4 == 1}
	}
	if n > 0 {
		s.Resources = limits(n)
	}
	if p.OOMGroup {
		s.Resources.Memory.OOMGroup = cgroups.On
	}
	if with == "user" {
		s.Namespaces.User = isolation.NamespaceNew
		s.Namespaces.UIDMap = namespaces.IDMaps{{Inside: 0, Outside: 0, Count: 1}, {Inside: 1, Outside: 100000, Count: 1000}}
		s.Namespaces.GIDMap = s.Namespaces.UIDMap
	}
	if with == "net" {
		s.Network = netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
			Kind: netns.Veth, Pools: []string{"lan"}, Bandwidth: netns.Bandwidth{Egress: netns.BitsPerSecond(egress(0))},
		}}}
	}
	return s
}

// command is one line to an agent; answer is one line back.
type command struct {
	Op string
	ID string
	N  int
}

type answer struct {
	Command   command
	Begun     bool // of churn: it is about to be done
	Err       string
	Sandboxes []found
	Recovered []string
}

// found is what the library says of a sandbox.
type found struct {
	Status    isolation.Status
	Resources cgroups.Resources
	Links     []netns.Attached
	Network   netns.Spec
	Log       string // its directory; empty: none
	Execs     int    // further processes that run
}

// agent is a process that does what it is told, until it is killed.
type agent struct {
	place place
	host  *isolation.Host
	out   sync.Mutex
}

func childAgent(args []string) int {
	a := &agent{}
	if err := json.Unmarshal([]byte(args[0]), &a.place); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		reply := answer{Command: c}
		if err := a.do(c, &reply); err != nil {
			reply.Err = err.Error()
		}
		a.say(reply)
	}
	return 0
}

func (a *agent) say(r answer) {
	line, _ := json.Marshal(r)
	a.out.Lock()
	defer a.out.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func (a *agent) do(c command, reply *answer) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	switch c.Op {
	case "open":
		a.host, err = isolation.Open(ctx, a.place.config())
		if err != nil {
			return err
		}
		for _, r := range a.host.Recovered() {
			reply.Recovered = append(reply.Recovered, r.String())
			err = errors.Join(err, r.Err)
		}
		return err
	case "report":
		for s := range a.host.Sandboxes(nil) {
			st, err := s.Check(ctx)
			if err != nil {
				return err
			}
			f := found{Status: st, Resources: s.Spec().Resources, Links: s.Interfaces(), Network: s.Spec().Network}
			if s.Logs() != nil {
				f.Log = st.ID
			}
			execs, err := s.Execs(ctx)
			if err != nil {
				return err
			}
			for _, e := range execs {
				if e.Signal(0) == nil {
					f.Execs++
				}
			}
			reply.Sandboxes = append(reply.Sandboxes, f)
		}
		return nil
	case "create", "create-net", "create-user":
		_, with, _ := strings.Cut(c.Op, "-")
		_, err = a.host.Create(ctx, a.place.spec(c.ID, c.N, with))
		return err
	case "churn":
		a.churn(c.N)
		return nil
	case "remove":
		return a.host.Remove(ctx)
	}
	s, err := a.host.Sandbox(ctx, c.ID)
	if err != nil {
		return err
	}
	switch c.Op {
	case "start":
		return s.Start(ctx)
	case "update":
		_, err = s.Update(ctx, limits(c.N))
	case "update-all": // together with one that has what it is to have
		var other *isolation.Sandbox
		if other, err = a.host.Sandbox(ctx, "other"); err == nil {
			_, err = a.host.UpdateAll(ctx, []isolation.SandboxResources{{Sandbox: s, Resources: limits(c.N)}, {Sandbox: other, Resources: limits(5)}})
		}
	case "claim":
		_, err = s.Claim(ctx, isolation.Claim{Owner: "test", Lease: time.Hour, Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(200)}}})
	case "unclaim":
		_, err = s.Unclaim(ctx, "test")
	case "shape":
		err = s.UpdateNetwork(ctx, "", rates(c.N))
	case "exec":
		_, err = s.Exec(ctx, isolation.Process{Args: append(append([]string{}, a.place.Box...), c.ID)})
	case "kill":
		err = s.Kill(ctx)
	case "freeze":
		err = s.Freeze(ctx)
	case "thaw":
		err = s.Thaw(ctx)
	case "destroy":
		err = s.Destroy(ctx)
	default:
		err = errors.New("no such command")
	}
	return err
}

// churn does many operations at once until the process is killed. Before each
// and after it the agent says so.
func (a *agent) churn(seed int) {
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(seed), uint64(worker)))
			id := fmt.Sprintf("churn-%d", worker)
			now := box{}
			if s, err := a.host.Sandbox(context.Background(), id); err == nil {
				st, err := s.Check(context.Background())
				if err != nil {
					a.say(answer{Err: err.Error()})
					return
				}
				now = box{
					exists: true, started: st.State != isolation.StateCreated, running: st.State == isolation.StateRunning,
					frozen: st.Frozen, claimed: len(st.Claims) > 0, network: len(s.Interfaces()) > 0, execs: max(0, st.PIDs-1),
				}
			}
			for {
				c := command{Op: now.next(random), ID: id, N: 1 + random.IntN(30)}
				if c.Op == "create" && worker == 0 {
					c.Op = "create-net"
				}
				a.say(answer{Command: c, Begun: true})
				var reply answer
				if err := a.do(c, &reply); err != nil {
					a.say(answer{Command: c, Err: err.Error()})
					return
				}
				a.say(answer{Command: c})
				now = now.after(c)
			}
		})
	}
	wg.Wait()
}

const workers = 4
