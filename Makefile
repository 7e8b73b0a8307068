# make lists the targets.

MAKEFLAGS += --no-print-directory

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
DOCKER  ?= docker
IMAGES  ?= causeway
MODULE   = github.com/causeway-p2p/causeway
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# TAGS are those of the images, STATIC what is built for them, and CONTEXT where.
TAGS    ?= $(VERSION) latest
STATIC  ?= ./cmd/...
CONTEXT ?= bin/static
PROTOS   = $(shell find . -name '*.proto')

.PHONY: help build static images compose-images compose-demo compose-down docker-test test race natlab interop lint fmt generate generated tidy vuln bench demo manifests check fuzz soak bench-relay bench-nat

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## build relayd and peer into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

static: ## build them for images, into bin/static/ (Linux, linked statically)
	mkdir -p $(CONTEXT)/data
	CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -ldflags "-s -w -X $(MODULE)/node.stamped=$(VERSION)" -o $(CONTEXT)/ $(STATIC)

# A Dockerfile without the stage that builds: what that makes lies in CONTEXT.
image = sed -e '/ AS build$$/,/^FROM scratch/{/^FROM scratch/!d;}' -e 's|--from=build /src/bin/static/||' $(1) | \
	$(DOCKER) build --quiet --target $(2) --build-arg VERSION=$(VERSION) $(TAGS:%=-t $(IMAGES)/$(2):%) -f - $(CONTEXT) >/dev/null && \
	$(DOCKER) images $(IMAGES)/$(2):$(lastword $(TAGS)) --format '$(TAGS:%=$(IMAGES)/$(2):%)  {{.Size}}'

images: ## the images causeway/relayd and causeway/peer, also where no registry can be reached
	@arch=$$($(DOCKER) version --format '{{.Server.Arch}}') && $(MAKE) static GOARCH=$$arch
	@$(call image,Dockerfile,relayd)
	@$(call image,Dockerfile,peer)

compose-images: TAGS = $(or $(DEMO_NAME),causeway-demo)
compose-images: CONTEXT = bin/demo
compose-images: # those of the demo, under a tag of its own
	@$(MAKE) images TAGS=$(TAGS) CONTEXT=$(CONTEXT) STATIC='./cmd/... ./examples/compose/router ./examples/compose/web'
	@$(call image,examples/compose/Dockerfile,stage)

# Not "go run", which fails after Ctrl-C even if the program has ended well, and adds
# a line of its own to what that says.
compose-demo: ## relays and peers behind real NATs, in Docker (KEEP=1 leaves them running)
	@$(GO) build -o bin/compose ./examples/compose && bin/compose $(if $(KEEP),--keep)

compose-down: ## take down what a demo in Docker has left
	@$(GO) build -o bin/compose ./examples/compose && bin/compose down

docker-test: ## the images and the demo in Docker (needs an engine)
	DOCKER_TESTS=require $(GO) test -count=1 -p 1 -timeout 20m -v ./internal/images ./examples/compose

test: ## the tests, as the README says
	$(GO) test ./...

race: ## the tests under the race detector
	$(GO) test -race -short -timeout 20m ./...

natlab: ## the kernel NAT tests with the real binaries (needs root and nftables)
	NATLAB=require $(GO) test -count=1 -v ./internal/natlab

interop: ## stock go-libp2p of several versions and js-libp2p on our relay, and our peers on theirs
	INTEROP=require $(GO) test -count=1 -timeout 20m -v ./internal/interop

lint: ## golangci-lint, pinned in tools/go.mod
	$(TOOL) golangci-lint run ./...

fmt: ## format everything
	$(TOOL) golangci-lint fmt ./...

generate: ## protobuf code (needs protoc; the plugin is pinned in go.mod)
	$(GO) build -o bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	PATH="$(CURDIR)/bin:$$PATH" protoc --go_out=. --go_opt=module=github.com/causeway-p2p/causeway $(PROTOS)

generated: generate ## fails if the generated code is not what the schemas say
	git diff --exit-code -- '*.pb.go'

tidy: ## fails if go.mod is not tidy
	$(GO) mod tidy -diff

vuln: ## known vulnerabilities, where the database can be reached
	@$(TOOL) govulncheck ./... || { code=$$?; \
	  if [ $$code -eq 3 ]; then exit 3; fi; \
	  echo "govulncheck could not look (exit code $$code): is its database in reach?"; }

bench: ## stock go-libp2p and ours side by side, and whether ours holds its bounds
	$(GO) run ./bench/reachability --check
	$(GO) run ./bench/relay --quick --check --slack 1.5 --rows '^(a|b|d)/'
	$(GO) run ./bench/nat --quick --check

bench-relay: ## the same for the relay in full, with its bounds as they are (12 minutes)
	$(GO) run ./bench/relay --check

bench-nat: ## direct paths through every pair of NATs, stock's nodes and ours, kept in docs/nat-matrix.md (needs root)
	$(GO) run ./bench/nat --check --impl ours,stock,ours-stock,stock-ours --markdown docs/nat-matrix.md

demo: ## the story in one process
	$(GO) run ./examples/quickstart

manifests: ## the Kubernetes manifests against the API's schema, and what a relay needs
	cd deploy/kubernetes/check && $(GO) test -count=1 ./... # the files are outside of that module: no cache

fuzz: ## every fuzz test for 20 seconds
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime 20s $$p || exit 1; \
	  done; done

soak: ## ten minutes of a busy relay, under the race detector
	$(GO) test -race -count=1 -timeout 20m -v -run '^TestSoak$$' ./relay -soak 10m

check: build lint tidy generated vuln test race natlab interop bench demo manifests docker-test ## all that CI runs
