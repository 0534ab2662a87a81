# The toolchains of the examples in other languages, each below OUT/toolchains and at the version
# that a file here pins. A stamp is younger than the file that it was installed from.

toolchains := $(out)/toolchains

node := $(toolchains)/node/node_modules
componentize_js := $(node)/.bin/componentize-js
componentize_py := $(toolchains)/python/bin/componentize-py
wit_bindgen_version := 0.63.0
wit_bindgen := $(toolchains)/bin/wit-bindgen
wit_bindgen_pkg := $(toolchains)/wit-bindgen-pkg
wasm_tools_version := 1.263.0
wasm_tools := $(toolchains)/bin/wasm-tools
wasi_wit := $(toolchains)/wasi-0.2.12

node_stamp := $(toolchains)/node/stamp
python_stamp := $(toolchains)/python/stamp
wit_bindgen_stamp := $(toolchains)/wit-bindgen-$(wit_bindgen_version)
wasm_tools_stamp := $(toolchains)/wasm-tools-$(wasm_tools_version)
wasi_wit_stamp := $(toolchains)/wasi-0.2.12.stamp

cargo_home := $(or $(CARGO_HOME),$(HOME)/.cargo)
cargo_install = cargo install --quiet --locked --root $(toolchains) --no-default-features

# The packages have no use for scripts of their own.
$(node_stamp): ../http-js/package.json ../http-js/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

$(python_stamp): ../http-python/requirements.txt
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

# The Go module that its bindings import lies among its sources; cargo may remove those again.
$(wit_bindgen_stamp):
	$(cargo_install) --force --features go wit-bindgen-cli@$(wit_bindgen_version)
	rm -rf $(wit_bindgen_pkg)
	cp -r $(cargo_home)/registry/src/*/wit-bindgen-go-$(wit_bindgen_version)/src/pkg \
		$(wit_bindgen_pkg)
	touch $@

$(wasm_tools_stamp):
	$(cargo_install) --force --features component wasm-tools@$(wasm_tools_version)
	touch $@

# The definitions of WASI 0.2 that runwasm itself is built with.
$(wasi_wit_stamp): ../../Cargo.lock
	rm -rf $(wasi_wit) && mkdir -p $(wasi_wit)
	cd ../.. && crate=$$(cargo metadata --locked --format-version 1 | \
		jq -er '.packages[] | select(.name == "wasmtime-wasi-http") | .manifest_path') && \
		cp "$${crate%/*}"/wit/deps/*.wit $(wasi_wit)
	grep -q '^package wasi:http@0.2.12;' $(wasi_wit)/http.wit
	touch $@

# $(call wit,DIRECTORY): DIRECTORY/wit with the example's world and the definitions it refers to.
define wit
	rm -rf $(1) && mkdir -p $(1)/wit $(@D)
	cp world.wit $(1)/wit
	cp -r $(wasi_wit) $(1)/wit/deps
endef
