# SPDX-License-Identifier: Apache-2.0
#
# Two commands do everything on a fresh Debian 12 or Ubuntu 24.04 (amd64):
# "make demo" and "make test". Each first installs, with apt, what it lacks.

# Two at a time, those that take longest first.
KERNELS   ?= 6.1 7.3 6.12 6.18
SCENARIO  ?=
LIST      ?=
CASE      ?= .
VM_TIMEOUT ?= 34m

GO          := .ci/go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The committed BPF objects are built with this clang, so that the same source
# gives the same bytes everywhere; deps-test installs it.
CLANG       := 14
RELEASE     := $(shell git describe --tags --always --dirty 2>/dev/null)

export CGO_ENABLED := 0
export VM_TIMEOUT CASE
export PATH := $(wildcard /usr/lib/llvm-$(CLANG)/bin):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build generate check-generated fmt-check vet staticcheck check \
	test test-short test-vm test-apiserver scenarios field attacks demo deps-demo deps-test clean FORCE

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

build: build/pathtrace ## build/pathtrace, static

build/pathtrace: FORCE
	$(GO) build -trimpath -ldflags '-s -w $(if $(RELEASE),-X main.release=$(RELEASE))' -o $@ ./cmd/pathtrace

build/vm: FORCE
	$(GO) build -o $@ ./testenv/cmd/vm

build/demo: FORCE
	$(GO) build -o $@ ./testenv/cmd/demo

build/scenario.test: FORCE
	$(GO) test -c -o $@ ./testenv/scenario

build/matrix: FORCE
	$(GO) build -o $@ ./testenv/cmd/matrix

build/rulecases.test: FORCE
	$(GO) test -c -o $@ ./testenv/rulecases

build/field.test: FORCE
	$(GO) test -c -o $@ ./testenv/field

build/tracer.test: FORCE
	$(GO) test -c -o $@ ./tracer

build/kubernetes: FORCE
	.ci/kubernetes $@

generate: ## compile the BPF objects and their Go types again
	$(GO) generate ./bpf

check-generated: ## fail when the committed BPF objects do not match their source
	.ci/check-generated $(CLANG)

fmt-check: ## fail when a Go file is not formatted
	@files=$$($(GO) list -f '{{$$d := .Dir}}{{range .GoFiles}}{{$$d}}/{{.}} {{end}}{{range .TestGoFiles}}{{$$d}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$$d}}/{{.}} {{end}}' ./...) && \
	bad=$$($$($(GO) env GOROOT)/bin/gofmt -l $$files) && \
	{ [ -z "$$bad" ] || { echo "not formatted: $$bad: run gofmt -w on them"; exit 1; }; }

vet: ## go vet
	$(GO) vet ./...

staticcheck: ## staticcheck
	$(GO) run $(STATICCHECK) ./...

check: fmt-check vet staticcheck check-generated ## all checks of the source

test: deps-test ## everything: checks, unit tests, scenarios here and on KERNELS="..."
	@.ci/test $(KERNELS)

test-short: deps-test ## the same without VMs
	@.ci/test --short

test-vm: deps-test ## only the scenarios in VMs, on KERNELS="..."
	@.ci/test --only-vms $(KERNELS)

test-apiserver: deps-test ## only names from a real kube-apiserver, which is built first: minutes, once
	@.ci/test --apiserver

scenarios: deps-test ## the matrix of causes: code x kernel x kind of node, from real runs here and on KERNELS="..."
	@.ci/test --scenarios $(KERNELS)

field: deps-test build build/vm build/field.test ## faults of other people's: each against the right answer; natively, or with fentry on KERNELS="..."; CASE=pattern
	@.ci/field $(if $(filter file,$(origin KERNELS)),,$(KERNELS))

attacks: deps-test build build/vm build/rulecases.test ## rules replaced under traces, at length: wrong and unknown rules; natively, or with fentry on KERNELS="..."
	@.ci/attacks $(if $(filter file,$(origin KERNELS)),,$(KERNELS))

demo: deps-demo build build/demo ## break a small cluster and watch pathtrace find out; SCENARIO=name, LIST=1
	@.ci/as-root env PATHTRACE_BIN=$(CURDIR)/build/pathtrace build/demo $(if $(LIST),--list,$(if $(SCENARIO),--scenario '$(SCENARIO)'))

deps-demo: ## install what the demo lacks
	@.ci/deps.sh demo

deps-test: ## install what the tests lack
	@.ci/deps.sh test

clean: ## remove build/
	rm -rf build

# --- what a trace costs (docs/performance.md) ---
#
# Results go to BENCH_OUT as JSON Lines and to the screen as tables. BENCH_FLAGS
# go to every run. The VM is emulated in one thread, since attaching programs
# while another emulated CPU runs the same code can kill its kernel.

BENCH_OUT    ?= build/bench-results
BENCH_KERNEL ?= 6.12
BENCH_FLAGS  ?=

.PHONY: bench bench-quick bench-native bench-growth bench-own bench-vm

build/bench: FORCE
	$(GO) build -o $@ ./testenv/cmd/bench

bench: bench-native bench-own bench-vm ## what a trace costs others and itself, here and in a VM on BENCH_KERNEL

bench-quick: build build/bench ## a minute's check that others pay no more than the committed baseline says
	.ci/as-root build/bench --quick --guard --backends tracepoint $(BENCH_FLAGS)

bench-native: build build/bench
	@mkdir -p $(BENCH_OUT)
	.ci/as-root build/bench --floor --json $(BENCH_OUT)/native.jsonl $(BENCH_FLAGS)
	.ci/as-root build/bench --floor --cpus 1 --label native-1cpu --json $(BENCH_OUT)/native.jsonl $(BENCH_FLAGS)

bench-own: build build/bench
	@mkdir -p $(BENCH_OUT)
	.ci/as-root build/bench --own --json $(BENCH_OUT)/own.jsonl $(BENCH_FLAGS)

bench-growth: build build/bench ## cost for others as pods and rules grow, here: a quarter of an hour
	@mkdir -p $(BENCH_OUT)
	.ci/as-root build/bench --growth --traffic udp --costs=false --others= --json $(BENCH_OUT)/growth.jsonl $(BENCH_FLAGS)

bench-vm: build build/vm build/bench
	@mkdir -p $(BENCH_OUT)/vm-$(BENCH_KERNEL)
	for cpus in 2 1; do \
		.ci/as-root build/vm --kernel $(BENCH_KERNEL) --cpus $$cpus --single-thread --summary --timeout 40m --out $(BENCH_OUT)/vm-$(BENCH_KERNEL) -- \
			sh -c 'build/bench --label "$$0" --floor --halted --patience 0 --json "$$VM_OUT/$$0.jsonl" "$$@"' vm-$(BENCH_KERNEL)-$${cpus}cpu $(BENCH_FLAGS) || exit; \
	done
