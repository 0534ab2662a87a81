# `make` lists the targets; cargo does the building. DESTDIR, PREFIX and SYSCONFDIR work as usual.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
bindir := $(PREFIX)/bin
drop_in := $(SYSCONFDIR)/containers/containers.conf.d/50-runwasm.conf

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
target := $(abspath $(or $(CARGO_TARGET_DIR),target))
binaries := runwasm containerd-shim-wasm-v1
# `make test` runs what these are built into; the others need toolchains of their own.
examples := hello-world http-rust policy artifact multi-platform
other_examples := http-go http-js http-python
example_crates := $(wildcard examples/*/*/Cargo.toml)

# The trials that hold for every OCI runtime are run on this one first, to show that they test
# the standard and not just runwasm. The suite leaves out what only runwasm does.
reference := runc

# Where `make setup` unpacks it.
containerd_2 := /usr/local/lib/runwasm-test/containerd-2/usr/bin/containerd

# Shows how long a step took. The last step of `test` goes without, so that its own summary,
# which has the time too, is the last that is printed.
step := hack/step.sh

# Prerequisites are done in the order in which they are listed.
.NOTPARALLEL:
.PHONY: help setup build images examples hello test test-cri cri-programs bench bench-docs bench-check
.PHONY: lint fmt install uninstall clean

help: ## list the targets (the default)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing on this Debian machine (root)
	@$(step) setup hack/setup.sh

build: ## build runwasm and containerd-shim-wasm-v1
	@$(step) build cargo build --release --locked

images: build ## build the example images and root directories, in target/
	@for example in $(examples); do \
		$(step) "images of $$example" \
			$(MAKE) --no-print-directory -C examples/$$example OUT=$(target) || exit 1; \
	done

examples: setup images ## build all examples, in all languages, and run them (root)
	@$(step) "toolchains" hack/setup.sh --examples
	@$(step) "image by Emscripten" \
		$(MAKE) --no-print-directory -C examples/hello-world OUT=$(target) emscripten
	@for example in $(other_examples); do \
		$(step) "images of $$example" \
			$(MAKE) --no-print-directory -C examples/$$example OUT=$(target) || exit 1; \
	done
	@echo "== examples"
	@cargo test --release --locked --test examples

hello: setup images ## run wasm and Linux on containerd, podman and runwasm (root)
	@hack/hello.sh

test: setup lint images ## every check and every test (root)
	@$(step) "unit tests" cargo test --release --locked --lib --bins
	@$(step) "suite on $(reference)" \
		env RUNTIME=$(reference) cargo test --release --locked --test integration
	@echo "== suite on runwasm"
	@cargo test --release --locked --test integration

# Pods through containerd's CRI, on the containerd that this machine uses and on containerd 2,
# where containerd's own CRI suite and Kubernetes' critest are run as well.
test-cri: setup images cri-programs ## pods through containerd's CRI, its own suite, critest (root)
	@$(step) "pods on $(reference)" env CRI_HANDLER=$(reference) CONTAINERD=$(containerd_2) \
		cargo test --release --locked --test cri
	@$(step) "pods on runwasm, containerd 1.6" cargo test --release --locked --test cri
	@echo "== pods on runwasm, containerd 2"
	@CONTAINERD=$(containerd_2) cargo test --release --locked --test cri

# The client is built from the kubelet's library, the suite from containerd's module, critest from
# Kubernetes' cri-tools, and the registry that it pulls from from go-containerregistry.
cri-programs:
	@$(step) "CRI client" sh -c 'cd hack/kubernetes/cri && \
		go build -buildvcs=false -o $(target)/kubernetes/cri .'
	@$(step) "containerd's CRI suite" sh -c 'cd hack/kubernetes/suite && \
		go test -c -o $(target)/kubernetes/containerd-suite \
			github.com/containerd/containerd/v2/integration'
	@$(step) "critest" sh -c 'cd hack/kubernetes/tools && \
		go test -c -o $(target)/kubernetes/critest sigs.k8s.io/cri-tools/cmd/critest'
	@$(step) "registry" sh -c 'cd hack/kubernetes/tools && \
		go build -buildvcs=false -o $(target)/kubernetes/registry \
			github.com/google/go-containerregistry/cmd/registry'

bench: setup images ## compare with runc, crun and wasmtime (root; BENCH="--rounds 5 --only run")
	@$(step) "what is compared with" hack/bench/setup.sh
	@$(step) bench hack/bench/bench.py run $(BENCH)

bench-docs: ## renew tables and charts of docs/benchmarks.md from the last `make bench`
	@hack/bench/bench.py docs

bench-check: ## say which ratios of the last `make bench` are worse than hack/bench/baseline.json
	@hack/bench/bench.py check

lint: ## formatter, clippy, dependencies' licences and sources, shell scripts
	@$(step) format cargo fmt --check
	@$(step) "format of Go" sh -c \
		'files=$$(gofmt -l hack/kubernetes examples) && echo "$$files" && [ -z "$$files" ]'
	@for crate in $(example_crates); do \
		$(step) "format of $$crate" cargo fmt --check --manifest-path $$crate || exit 1; \
	done
	@$(step) clippy cargo clippy --release --locked --all-targets -- -D warnings
	@$(step) "licences and sources" cargo deny --locked check --hide-inclusion-graph \
		bans licenses sources
	@$(step) "shell scripts" shellcheck hack/*.sh hack/bench/*.sh hack/vm/*.sh hack/vm/init .ci/run examples/hello-world/linux/hello

fmt: ## format the sources
	cargo fmt
	@for crate in $(example_crates); do cargo fmt --manifest-path $$crate || exit 1; done

install: ## put the binaries and podman's configuration in place, after `make build`
	@for binary in $(binaries); do \
		[ -e $(target)/release/$$binary ] || \
			{ echo "$(target)/release/$$binary is missing: run \`make build\` first" >&2; exit 1; }; \
	done
	install -D -m 755 -t $(DESTDIR)$(bindir) $(binaries:%=$(target)/release/%)
	install -d $(DESTDIR)$(dir $(drop_in))
	sed 's|@bindir@|$(bindir)|' hack/50-runwasm.conf >$(DESTDIR)$(drop_in)
	chmod 644 $(DESTDIR)$(drop_in)

uninstall: ## remove what `make install` put in place
	rm -f $(binaries:%=$(DESTDIR)$(bindir)/%) $(DESTDIR)$(drop_in)

clean: ## remove everything that was built
	cargo clean
