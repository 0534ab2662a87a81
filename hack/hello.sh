#!/usr/bin/env bash
# Runs the hello-world images on containerd, on podman and straight from a bundle, shows what
# each printed, and fails when one of them did not print what it was given. `make hello` builds
# what this needs first.
#
# Everything it starts is its own and goes away again, also on Ctrl-C: containerd with its own
# directories and socket, podman's storage, the bundles.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# For comparison: RUNWASM=/usr/sbin/runc CTR_RUNTIME=io.containerd.runc.v2 shows how runc runs
# the Linux half.
runwasm=${RUNWASM:-$target/release/runwasm}
ctr_runtime=${CTR_RUNTIME:-io.containerd.wasm.v1}

# The directory's name is also containerd's namespace and the parent of the cgroups, so that
# what is left of them can be told from everything else on the machine.
work=
name=
containerd_pid=
failures=()

main() {
    require_inputs
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d /tmp/runwasm-hello.XXXXXX)
    name=${work##*/}
    start_containerd
    prepare_podman

    show "wasm on containerd" on_containerd hello-rust /hello.wasm
    show "wasm on podman" on_podman hello-rust
    show "wasm from a bundle" from_bundle hello-rust /hello.wasm
    compare "the same program in C" hello-c
    compare "the same program in Go" hello-go
    show "Linux on containerd" on_containerd busybox /bin/hello
    show "Linux on podman" on_podman busybox /bin/hello
    show "Linux from a bundle" from_bundle busybox /bin/hello
    report
}

require_inputs() {
    local file
    ((EUID == 0)) || fail "run this as root: containerd and the containers need it"
    for file in "$runwasm" "$target"/images/{hello-rust,busybox}.tar \
        "$target"/rootfs/{hello-{rust,c,go},busybox}; do
        [[ -e $file ]] || fail "$file is missing; \`make hello\` builds it"
    done
}

fail() {
    echo "hello.sh: $*" >&2
    exit 1
}

# --- what is shown --------------------------------------------------------------------------

header() {
    printf '\n── %s %s\n' "$1" "$(printf '─%.0s' $(seq ${#1} 75))"
}

# announce COMMAND...: shows what is run, without the options that only keep it private.
announce() {
    echo "\$ $*" >&3
}

# show TITLE COMMAND ARG...: runs the command with two more arguments, shows what it prints, and
# notes a failure unless it succeeds and the program got its arguments.
show() {
    local title=$1
    shift
    header "$title"
    if ! "$@" one two 3>&1 2>&1 </dev/null | tee "$work/output" | sed -u 's/^/   /'; then
        failures+=("$title")
    elif ! grep -q '^arg [0-9]: two$' "$work/output"; then
        echo "   (the program was not given its arguments)"
        failures+=("$title")
    fi
}

# compare TITLE NAME: runs another language's program and shows only how it differs from Rust's.
compare() {
    local title=$1 other=$2
    header "$title"
    from_bundle hello-rust /hello.wasm one two >"$work/rust" 2>&1 3>/dev/null </dev/null || true
    if ! from_bundle "$other" /hello.wasm one two >"$work/other" 2>&1 3>/dev/null </dev/null; then
        sed 's/^/   /' "$work/other"
        failures+=("$title")
    elif ! diff <(tail -n +2 "$work/rust") <(tail -n +2 "$work/other") >"$work/diff"; then
        echo "   does not print the same as the Rust program:"
        sed 's/^/   /' "$work/diff"
        failures+=("$title")
    else
        echo "   $(head -n 1 "$work/other"), and then the same $(
            tail -n +2 "$work/other" | wc -l) lines as the Rust program"
    fi
}

report() {
    local title
    if ((${#failures[@]} == 0)); then
        printf '\nAll eight containers ran and printed what they were given.\n'
        return
    fi
    printf '\nFailed:\n'
    for title in "${failures[@]}"; do
        echo "   $title"
    done
    exit 1
}

# --- the three ways to run ------------------------------------------------------------------

# on_containerd IMAGE ARG...
on_containerd() {
    local image=$1
    shift
    announce "ctr run --rm --runtime $ctr_runtime localhost/$image:latest $image $*"
    ctr_private run --rm --runtime "$ctr_runtime" --snapshotter native \
        --fifo-dir "$work/fifo" "localhost/$image:latest" "$image" "$@"
}

# on_podman IMAGE ARG...
on_podman() {
    local image=$1
    shift
    announce "podman --runtime ${runwasm#"$PWD/"} run --rm localhost/$image $*"
    # No network: it would need a firewall and a bridge, and the programs do not use one.
    podman_private run --rm --network none --cgroup-parent "/$name" \
        "localhost/$image" "$@"
}

# from_bundle ROOTFS ARG...
from_bundle() {
    local rootfs=$1 bundle=$work/bundle
    shift
    announce "runwasm run --bundle bundle hello   # process.args: $*"
    rm -rf "$bundle"
    mkdir "$bundle"
    cp -a "$target/rootfs/$rootfs" "$bundle/rootfs"
    "$runwasm" spec --bundle "$bundle" || return
    jq '.process.args = $ARGS.positional | .process.terminal = false' --args "$@" \
        <"$bundle/config.json" >"$work/config.json" || return
    mv "$work/config.json" "$bundle/config.json"
    timeout --foreground 60 "$runwasm" --root "$work/runwasm" run --bundle "$bundle" "$name-bundle"
}

# --- private engines ------------------------------------------------------------------------

start_containerd() {
    local image
    # The native snapshotter copies files: it works on every file system, and these are small.
    # Of the plugins, opt would create /opt/containerd and nri a socket in /var/run.
    cat >"$work/containerd.toml" <<EOF
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
address = "$work/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$work/containerd/opt"
EOF
    # It finds the shim in its PATH. In a session of its own, Ctrl-C leaves it running until
    # clean_up is done with it.
    PATH="$target/release:$PATH" setsid containerd --config "$work/containerd.toml" \
        >"$work/containerd.log" 2>&1 </dev/null &
    containerd_pid=$!
    wait_for_containerd
    for image in hello-rust busybox; do
        ctr_private images import --snapshotter native "$target/images/$image.tar" >/dev/null
    done
}

wait_for_containerd() {
    local _
    for _ in {1..100}; do
        ctr_private version >/dev/null 2>&1 && return
        kill -0 "$containerd_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 5 "$work/containerd.log" >&2
    fail "containerd did not start; above is the end of its log"
}

ctr_private() {
    timeout --foreground 60 ctr --address "$work/containerd.sock" --namespace "$name" "$@"
}

prepare_podman() {
    local image files processes pid_max
    # Started by root, podman asks for 1,048,576 open files and processes, which a machine
    # without CAP_SYS_RESOURCE (many VMs and containers) refuses: ask for what there is. podman
    # lowers its own process limit to pid_max first. Locks are files here, because those in
    # shared memory are one set for the whole machine.
    files=$(ulimit -Hn)
    processes=$(ulimit -Hu)
    pid_max=$(</proc/sys/kernel/pid_max)
    if [[ $processes == unlimited ]] || ((processes > pid_max)); then
        processes=$pid_max
    fi
    cat >"$work/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
lock_type = "file"
runtime_supports_json = ["crun", "runc", "runwasm"]
EOF
    for image in hello-rust busybox; do
        podman_private load --quiet --input "$target/images/$image.tar" >/dev/null
    done
}

podman_private() {
    # cgroupfs and file: neither systemd nor its journal needs to be there. vfs: see native above.
    CONTAINERS_CONF=$work/containers.conf timeout --foreground 60 podman \
        --root "$work/podman/root" --runroot "$work/podman/run" --tmpdir "$work/podman/tmp" \
        --storage-driver vfs --cgroup-manager cgroupfs --events-backend file \
        --runtime "$runwasm" "$@"
}

# --- leaving nothing behind -----------------------------------------------------------------

clean_up() {
    local code=$?
    trap '' INT TERM
    set +e
    if [[ -n $work ]]; then
        remove_containers >"$work/clean_up.log" 2>&1
        stop_containerd
        remove_files
    fi
    exit "$code"
}

# Every run removes its own container; this is for those that failed or were interrupted.
remove_containers() {
    local id
    podman_private rm --all --force --time 0
    for id in $(ctr_private containers list --quiet); do
        ctr_private tasks delete --force "$id"
        ctr_private containers delete "$id"
    done
    if [[ -e $work/runwasm/$name-bundle ]]; then
        "$runwasm" --root "$work/runwasm" delete --force "$name-bundle"
    fi
}

stop_containerd() {
    [[ -n $containerd_pid ]] || return
    kill "$containerd_pid" 2>/dev/null
    wait "$containerd_pid"
}

remove_files() {
    local mount
    # Innermost first: the mount table lists mounts in the order they were made.
    awk -v dir="$work/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount "$mount"; done
    # Engines leave the parent of their containers' cgroups, empty.
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null
    rm -rf "$work"
}

main
