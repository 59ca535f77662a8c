# The table of contents of hyper2kvm: `make help` prints it.
# Stages of `make test` live in STAGES; build/phases runs, times and bounds them.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hyper2kvm
# build/setup leaves the Go to use under this link.
export PATH := $(CACHE)/go/bin:$(PATH)
VERSION := $(or $(shell build/version),unknown)
PROGRAM := bin/hyper2kvm
FUZZTIME ?= 10s
GUEST    ?= web01
TO       ?= migrated
IMAGE    ?= appliance

GO_BUILD    := go build -trimpath -buildvcs=false
# The appliance's libraries; libvirt's is opened when it is first asked for.
TAGS        := appliance,libvirt_dlopen
GUEST_BUILD := CGO_ENABLED=0 $(GO_BUILD) -ldflags '-s -w'
GOFILES      = find . -name '*.go' -type f -not -path '*/node_modules/*'
# Unit tests stay quick whatever the caller's environment asks for.
UNIT        := env -u NEED_TOOLS -u NEED_VMS
WITH_IMPORTS = go list -f '{{.ImportPath}} {{.Deps}} {{.TestImports}} {{.XTestImports}}' ./...
# govmomi is too large to build with the race detector in bearable time.
RACED        = $(WITH_IMPORTS) | grep -v govmomi | cut -d' ' -f1
UNRACED      = $(WITH_IMPORTS) | grep govmomi | cut -d' ' -f1
# Packages whose tests start machines, those that take longest first; and those that have
# variants besides.
OF           = --include='*_test.go' --exclude-dir=node_modules . | sed 's|^\.|hyper2kvm|; s|/[^/]*$$||' | sort -ur
MACHINES     = grep -rlF 'Getenv("NEED_VMS") == ""' $(OF)
VARIANTS     = grep -rlF NEED_VMS $(OF)
WITH         = grep -xFf <($(MACHINES))
WITHOUT      = grep -vxFf <($(MACHINES))

GENERATED := $(wildcard agent/api/config.yaml agent/api/*/config.yaml)

# What is another without C: the packages that have a form of their own then, and pipeline,
# which chooses among what there is.
NOCGO_PACKAGES = ./fixers/guest/libguestfs ./testers/libvirt/... ./pipeline ./agent/problem

# test-unit is not among them: the same tests are run with the tools, and with the race
# detector where that can be built. It is too large for small machines that tests start.
STAGES := fmt-check generate-check vet staticcheck test-nocgo test-tools test-vms

.PHONY: help setup build migrate image guest guest-binaries direct-parts vddk-plugin generate generate-check fmt-check vet staticcheck test test-unit test-nocgo test-tools test-vms test-matrix test-appliance fuzz bench bench-virt-v2v clean

help: ## print this table
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing: Debian packages, a recent Go
	@build/setup

build: setup guest-binaries ## bin/hyper2kvm, with libguestfs, hivex and libvirt
	$(GO_BUILD) -tags $(TAGS) -ldflags '-X main.version=$(VERSION)' -o '$(PROGRAM)' ./agent

migrate: build ## migrate DISK (a VMDK or VMX; default: a sample guest, afresh) into TO and prove that it boots
	@disk='$(DISK)'; \
	if [ -z "$$disk" ]; then disk=$$(go run ./build/guest $(GUEST) | sed -n '/\.vmx$$/p'); rm -rf '$(TO)/$(GUEST)'; fi; \
	set -x; mkdir -p '$(TO)'; bin/hyper2kvm migrate --to '$(TO)' "$$disk"

export KEYS LOCK
image: setup ## the appliance, for USB sticks, vSphere and libvirt, into IMAGE; with KEYS signed, and as an update
	@raw=$$(build/image); go run ./build/appliance --version '$(VERSION)' $(if $(KEYS),--keys '$(KEYS)') $$raw/hyper2kvm.raw '$(IMAGE)'; cp "$$raw/packages.lock" '$(IMAGE)'

guest: setup guest-binaries ## build the sample GUEST, or take it from the cache, and print its files
	@go run ./build/guest $(GUEST)

guest-binaries: setup direct-parts ## the small static programs that run inside guests
	$(GUEST_BUILD) -o testers/probe/bin/probe-amd64 ./testers/probe/guest
	$(GUEST_BUILD) -o pipeline/accel/bin/init-amd64 ./pipeline/accel/init

direct-parts: ## the program of the direct engine's processes, which is embedded
	$(GUEST_BUILD) -tags parts -o fixers/guest/direct/bin/parts-amd64 ./fixers/guest/direct/parts

vddk-plugin: setup ## nbdkit's vddk plugin, and what stands for VMware's library in tests
	@build/vddk-plugin

generate: ## the code that is made of the API's description
	go build -C build/tools -o $(CACHE)/bin/oapi-codegen github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen
	for c in $(GENERATED); do $(CACHE)/bin/oapi-codegen -config $$c agent/api/openapi.yaml; done
	go test -tags $(TAGS) ./agent/spec -run TestTheSchemaIsTheDescriptions -update
	go test -tags $(TAGS) ./vmware -run TestTheDocsHaveTheTable -update

generate-check: ## fail if generated code is not current
	@was=$$(cat $(GENERATED:config.yaml=*.gen.go) | sha256sum); $(MAKE) --no-print-directory generate; \
	[ "$$was" = "$$(cat $(GENERATED:config.yaml=*.gen.go) | sha256sum)" ] || { echo 'it was not: commit what make generate wrote' >&2; exit 1; }

fmt-check: ## fail on a file that gofmt would change
	@diff /dev/null <(gofmt -l $$($(GOFILES)))

vet: ## go vet of the C-free and the appliance's build, which have every file between them
	CGO_ENABLED=0 go vet ./...
	go vet -tags $(TAGS) ./...
	go vet -C initramfs ./...

staticcheck: ## staticcheck, at the version of build/tools/go.mod, of both builds
	go build -C build/tools -o $(CACHE)/bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	CGO_ENABLED=0 $(CACHE)/bin/staticcheck ./...
	$(CACHE)/bin/staticcheck -tags $(TAGS) ./...
	cd initramfs && $(CACHE)/bin/staticcheck ./...

test: ## set up, build and pass every test, machines included
	@build/phases setup build $(STAGES)

test-unit: direct-parts ## tests that need no root, no network, no KVM
	$(UNIT) go test ./...
	$(UNIT) go test -C initramfs ./...

test-nocgo: direct-parts ## build all without a C compiler, and test what is another then
	CGO_ENABLED=0 go build ./...
	$(UNIT) CGO_ENABLED=0 go test $(NOCGO_PACKAGES)

test-tools: guest-binaries vddk-plugin ## all tests that start no machine, with root and programs; a missing one fails
	NEED_TOOLS=1 NEED_VMS=1 go test -race -count=1 -tags $(TAGS) $$($(RACED) | $(WITHOUT))
	NEED_TOOLS=1 NEED_VMS=1 go test -count=1 -tags $(TAGS) $$($(UNRACED) | $(WITHOUT))
	$(UNIT) go test -race -tags $(TAGS) $$($(RACED) | $(WITH))
	NEED_TOOLS=1 go test -C initramfs -race -count=1 ./...

test-vms: guest-binaries vddk-plugin ## the packages whose tests start machines, two at a time: an emulated one keeps one core busy
	NEED_TOOLS=1 NEED_VMS=1 go test -v -count=1 -p 2 -timeout 70m -tags $(TAGS) $$($(MACHINES))

test-matrix: guest-binaries vddk-plugin ## the same with every variant, of which test-vms starts a chosen few; some hours
	NEED_TOOLS=1 NEED_VMS=matrix go test -v -count=1 -p 1 -timeout 8h -tags $(TAGS) $$($(VARIANTS))

test-appliance: image ## build the appliance, boot it from all that it may be on, and have it migrate
	@build/setup --bench
	@build/image --again
	@raw=$$(build/image)/hyper2kvm.raw; export KEYS=$$(build/secure-boot-keys); signed=$$(build/image)/hyper2kvm.raw; next=$$(build/image --next)/hyper2kvm.raw; \
	version=$$(build/version --next); go run ./build/appliance --version $$version --keys $$KEYS --only hyper2kvm-$$version.update $$next $${next%/*}; set -x; \
	APPLIANCE=$$raw NEED_TOOLS=1 NEED_VMS=1 go test -v -count=1 -p 1 -timeout 3h -tags $(TAGS) -run Appliance ./testers/e2e; \
	APPLIANCE=$$raw FORMS='$(abspath $(IMAGE))' SIGNED=$$signed UPDATE=$${next%/*}/hyper2kvm-$$version.update NEED_TOOLS=1 NEED_VMS=1 go test -v -count=1 -timeout 3h -bench Start ./testers/appliance

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@build/fuzz $(FUZZTIME)

bench: build ## run every benchmark, and whole migrations beside virt-v2v's kept run, into bench/README.md
	@build/setup --bench
	@mkdir -p bench $(CACHE)/bench
	go test -run '^$$' -bench . -benchmem ./... | tee $(CACHE)/bench/go.txt
	PATH=$(CURDIR)/bin:$$PATH go run ./build/bench table $(CACHE)/bench/go.txt bench/README.md

bench-virt-v2v: build ## run virt-v2v on the same guest and keep what it took: minutes to an hour without KVM
	@build/setup --bench
	PATH=$(CURDIR)/bin:$$PATH go run ./build/bench virt-v2v

clean: ## remove what was built; caches stay
	rm -rf bin testers/probe/bin/probe-amd64 pipeline/accel/bin/init-amd64 fixers/guest/direct/bin/parts-amd64
