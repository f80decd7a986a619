# SPDX-License-Identifier: Apache-2.0

# Everything but isolation/oci is pure Go: no C compiler is needed, and none is
# looked for.
export CGO_ENABLED = 0

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   = gotest.tools/gotestsum@v1.13.0
GOLANGCI    = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.NOTPARALLEL:
.PHONY: help demo colocate test beside test-fast test-crash test-shrink check test-go e2e net oci vm bench bench-vm bench-check bench-deps soak fuzz fmt lint deps oci-deps

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## build and run examples/quickstart on this machine
	@go build -o bin/quickstart ./examples/quickstart
	@bin/quickstart

test: deps beside oci vm ## everything: install what is missing, check, test here, test on all kernels

# Tests wait much of their time (those of isolation use a third of one processor):
# what only reads the source runs in their
# gaps, with less priority, and is printed when they are through.
beside:
	@log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	nice -n 19 $(MAKE) --no-print-directory check lint >$$log 2>&1 & checks=$$!; \
	$(MAKE) --no-print-directory test-go e2e net; tests=$$?; \
	wait $$checks; checks=$$?; cat $$log; [ $$tests = 0 ] && [ $$checks = 0 ]

colocate: ## a real service beside real batch work, with and without elastic; COLOCATE="-rounds 3"
	@need=; for t in redis-server:redis-server stress-ng:stress-ng; do command -v $${t%%:*} >/dev/null || need="$$need $${t#*:}"; done; \
	if [ -n "$$need" ]; then \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi
	go build -o bin/colocate ./examples/colocate
	bin/colocate $(COLOCATE)

test-fast: check test-go ## check the source, and test on this machine's kernel

check: ## formatting, vet on other systems too, staticcheck
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not formatted, run make fmt:" $$bad; exit 1; }
	go vet ./...
	GOOS=darwin go vet ./...
	GOARCH=arm64 go vet ./...
	go run $(STATICCHECK) ./...
	cd isolation/cni && go vet ./... && GOOS=darwin go vet ./... && go run $(STATICCHECK) ./...
	cd isolation/oci && go vet ./... && GOOS=darwin go vet ./...

# As in the matrix, tests that fail, if they are few, run once more at the end,
# and are named either way.
GOTEST = go run $(GOTESTSUM) --format standard-quiet --hide-summary skipped \
	--rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-run-root-test

# As root, the library's tests run a second time as an ordinary user.
test-go:
	$(GOTEST) --packages ./... -- -count=1
	@[ "$$(id -u)" != 0 ] || { echo 'once more, as an ordinary user'; \
		$(GOTEST) --packages "$$(go list ./... | grep -v /caisson/test/ | tr '\n' ' ')" \
			-- -count=1 -exec "$(CURDIR)/test/asuser"; }

# COMMAND:PACKAGE of the runtimes whose containers are adopted.
FOREIGN = dockerd:docker.io docker:docker.io containerd:containerd runc:runc crun:crun lxc-start:lxc \
	busybox:busybox-static unshare:util-linux

# As root on Debian all of them must take part; elsewhere one that is missing is
# a skip.
e2e: ## take charge of containers of Docker, runc, crun and LXC
	@need=; has=; for t in $(FOREIGN); do has="$$has,$${t%:*}"; \
		command -v $${t%:*} >/dev/null || need="$$need $${t#*:}"; done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then has=; \
	elif [ -n "$$need" ]; then \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi; \
	CAISSON_E2E=1 CAISSON_VM_HAS="$$has" $(GOTEST) --packages ./test/e2e -- -count=1

# COMMAND:PACKAGE of what the tests of networks run.
NET = /usr/lib/cni/bandwidth:containernetworking-plugins iptables:iptables iperf3:iperf3

net: ## run CNI plugins for sandboxes (isolation/cni, a module of its own), and measure limits with iperf3
	@need=; for t in $(NET); do command -v $${t%:*} >/dev/null || need="$$need $${t#*:}"; done; has=cni-plugins,iperf3; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then has=; \
	elif [ -n "$$need" ]; then \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi; \
	export CAISSON_VM_HAS="$$has"; go test -count=1 -run TestIperf3 ./netns && cd isolation/cni && go test -count=1 ./...

# FILE-OR-COMMAND:PACKAGE of what libcontainer is compiled with.
CGO = gcc:gcc pkg-config:pkg-config /usr/include/stdio.h:libc6-dev /usr/include/seccomp.h:libseccomp-dev

# As in the matrix, which is static and so builds nothing twice; see test/vm/build.go.
OCIBUILD = -trimpath -tags seccomp,netgo,osusergo -ldflags '-s -w -linkmode external -extldflags -static'

oci-deps:
	@need=; for t in $(CGO); do command -v $${t%:*} >/dev/null || [ -e $${t%:*} ] || need="$$need $${t#*:}"; done; \
	if [ -n "$$need" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi

oci: oci-deps ## test the driver over libcontainer (isolation/oci, a module of its own, with cgo)
	cd isolation/oci && export CGO_ENABLED=1 && go vet -tags seccomp,netgo,osusergo . && \
		go test -count=1 $(OCIBUILD) . && \
		CGO_ENABLED=0 go run -exec 'env CGO_ENABLED=1 GOFLAGS=-tags=seccomp,netgo,osusergo' $(GOLANGCI) run ./...

vm: oci-deps ## test on Debian's kernels under qemu; VM="-run 6.1/v2 -pkgs cgroups" narrows it
	go run ./test/vm $(VM)

KILLS = 1000
test-crash: ## kill agents at every step of every operation and at random, KILLS times at least
	CAISSON_CRASH_KILLS=$(KILLS) go test -count=1 -timeout 20m -v ./test/crash

SHRINKS = CAISSON_SHRINKS=500
SHRINKS_VM = "$(SHRINKS) TEST_RUN=TestShrinkWorking TEST_TIMEOUT=25m"
test-shrink: ## 500 times less memory for a working process, here and on kernels with and without memory.reclaim
	$(SHRINKS) go test -count=1 -timeout 20m -run TestShrinkWorking -v ./cgroups
	go run ./test/vm -run 6.1/v2 -pkgs cgroups -env $(SHRINKS_VM) -timeout 30m
	go run ./test/vm -run 5.10/v2 -pkgs cgroups -env $(SHRINKS_VM) -timeout 30m

bench: bench-deps ## compare with the peers, side by side; BENCH="-rounds 200 -check"
	cd test/bench && go run . $(BENCH)

# The machine's clock counts instructions, so that the host's load is in no figure.
bench-vm: ## what reclaiming cold memory costs a process, and how soon a trigger of the kernel is heard of
	go run ./test/vm -v -icount -run 6.12/v2 -pkgs isolation -env "CAISSON_OFFLOAD=12 TEST_RUN=TestControllerOffloads TEST_TIMEOUT=10m"
	go run ./test/vm -v -icount -run 6.1/v2 -pkgs elastic -env "CAISSON_NOTICE=60 TEST_RUN=TestTriggerIsPrompt TEST_TIMEOUT=10m"

bench-check: ## see that the comparison works
	cd test/bench && go vet . && go run . -rounds 1 -quick

# As root on Debian; otherwise a contestant that is missing says so in its row.
bench-deps:
	@need=; for t in gcc:gcc:libc6-dev crun:crun runc:runc; do \
		command -v $${t%%:*} >/dev/null || need="$$need $$(echo $${t#*:} | tr : ' ')"; done; \
	[ -e /usr/include/seccomp.h ] || need="$$need libseccomp-dev pkg-config"; \
	if [ -n "$$need" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi

SOAK = 10000
soak: ## make and destroy SOAK sandboxes, 8 at once, and look what is left behind
	cd test/bench && go run . -only soak -check -cycles $(SOAK)

FUZZTIME = 10s
fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

fmt: ## format the source
	gofmt -w .

lint: ## golangci-lint, built from source at its pinned version
	go run $(GOLANGCI) run ./...
	cd isolation/cni && go run $(GOLANGCI) run ./...

# COMMAND:PACKAGE of what the tests call.
TOOLS = xz:xz-utils

deps: ## install the Debian packages and Go modules that make test needs
	@need=; for t in $(TOOLS); do command -v $${t%:*} >/dev/null || need="$$need $${t#*:}"; done; \
	if [ -n "$$need" ]; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "The kernel matrix needs these packages, which only root on Debian can install here:$$need"; exit 1; \
		fi; \
		set -x; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; \
	fi
	go mod download
