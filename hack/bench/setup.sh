#!/usr/bin/env bash
# Installs what the benchmarks compare with, beyond what hack/setup.sh installs: the `wasmtime`
# command, of the version that runwasm is built with, pip, which downloads a large module, and
# strace, which tells the steps of a start apart, and wrk, which loads servers.
# Run as root on Debian. What is there already is left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/bench/tools

install_packages() {
    python3 -m pip --version >/dev/null 2>&1 && command -v strace wrk >/dev/null && return
    echo "setup: installing python3, pip, strace and wrk"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq --yes -o Dpkg::Use-Pty=0 \
        install --no-install-recommends python3 python3-pip strace wrk
}

# The version in Cargo.lock: the same engine on both sides.
install_wasmtime() {
    local version
    version=$(sed -n '/^name = "wasmtime"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
    [[ $("$tools/bin/wasmtime" --version 2>/dev/null) == "wasmtime $version"* ]] && return
    echo "setup: building the wasmtime command $version, about ten minutes on two cores"
    cargo install --quiet --locked "wasmtime-cli@$version" --root "$tools" \
        --target-dir "$target/bench/wasmtime-build"
    rm -rf "$target/bench/wasmtime-build"
}

install_packages
install_wasmtime
