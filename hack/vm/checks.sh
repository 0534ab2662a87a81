#!/bin/bash
# Runs in the virtual machine: what an OCI runtime does with cgroups v2, by itself and through
# systemd, for a wasm and for a Linux container. Prints a line a check, and `end`.
#
# The checks of one container depend on each other, so they run in order, each in a shell of its
# own that ends at the first command that fails. What fails is said by the last line of output.

runtime=$(find /usr/bin -name runwasm -o -name runc)
cgroups=/sys/fs/cgroup
work=/run/checks
patience=15

main() {
    mkdir -p $work
    check host host_is_as_expected
    for manager in cgroupfs systemd; do
        check_workload linux "sleep 3600"
        check_alone
        if [[ $runtime == */runwasm ]]; then
            check_workload wasm /sleep.wat
            place "$manager-wasm-memory"
            check "$id" memory_limit_bounds_memory_grow
        fi
    done
    check rootless rootless_in_a_delegated_cgroup
    echo end
}

# check NAME FUNCTION [ARGUMENT...]
check() {
    local name=$1 log=$work/log
    shift
    (
        set -e
        "$@"
    ) >$log 2>&1
    # shellcheck disable=SC2181 # the condition of an if would switch off set -e
    if (($? == 0)); then
        echo "ok $name"
    else
        echo "FAIL $name: $(tail -n 300 $log)"
    fi
}

# --- containers -----------------------------------------------------------------------------

oci() {
    local options=()
    [[ $manager == systemd ]] && options=(--systemd-cgroup)
    timeout -s KILL 60 "$runtime" "${options[@]}" "$@"
}

# make_bundle COMMAND [FILTER]: a bundle in $bundle for the container $id, whose config.json is
# changed by a filter of jq.
make_bundle() {
    local words filter=${2:-.}
    read -ra words <<<"$1"
    mkdir -p "$bundle/rootfs/bin"
    cp /usr/bin/busybox "$bundle/rootfs/bin"
    for name in sh sleep cat tail mknod; do
        ln -sf busybox "$bundle/rootfs/bin/$name"
    done
    cp /checks/guests/*.wat "$bundle/rootfs"
    rm -f "$bundle/config.json"
    oci spec --bundle "$bundle"
    jq '.process.terminal = false
        | .process.args = $ARGS.positional
        | .linux.cgroupsPath = $path
        | '"$filter" --arg path "$cgroups_path" \
        <"$bundle/config.json" >"$bundle/new" --args -- "${words[@]}"
    mv "$bundle/new" "$bundle/config.json"
}

# place ID: where the container is to be: $bundle, $cgroups_path, and the $cgroup and the $unit
# that must come of it.
place() {
    id=$1
    bundle=$work/$id
    if [[ $manager == systemd ]]; then
        cgroups_path=system.slice:runwasm:$id
        unit=runwasm-$id.scope
        cgroup=$cgroups/system.slice/$unit
    else
        cgroups_path=/checks/$id
        unit=
        cgroup=$cgroups/checks/$id
    fi
}

state() {
    oci state "$id" | jq -r "$1"
}

# --- expectations ---------------------------------------------------------------------------

# same WHAT WANTED FOUND
same() {
    [[ $2 == "$3" ]] || fail "$1 is $3, not $2"
}

# limit FILE WANTED: the content of a file of the cgroup.
limit() {
    same "$1" "$2" "$(<"$cgroup/$1")"
}

# weight OLD NEW: what CPU shares come to. The first conversion gave the default number of shares
# much less than the default weight; runtimes have changed to the second since.
weight() {
    local found
    found=$(<"$cgroup/cpu.weight")
    [[ $found == "$1" || $found == "$2" ]] || fail "cpu.weight is $found, not $1 or $2"
}

fail() {
    echo "$*"
    exit 1
}

# eventually WHAT COMMAND...
eventually() {
    local what=$1 deadline=$((SECONDS + patience))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || fail "waited $patience s in vain for $what"
        sleep 0.05
    done
}

is_gone() {
    ! [[ -e $1 ]]
}

has_line() {
    grep -qx "$1" "$2"
}

# --- one container's life -------------------------------------------------------------------

# check_workload NAME COMMAND
check_workload() {
    local prefix=$manager-$1
    place "$prefix"
    check "$prefix-create" create "$2"
    check "$prefix-limits" limits_are_written
    check "$prefix-start" start "$1"
    check "$prefix-sockets" no_socket_of_the_host
    check "$prefix-exec" exec_joins_the_cgroup "$1" "$2"
    check "$prefix-stats" stats_are_those_of_the_cgroup
    check "$prefix-pause" pause_and_resume
    check "$prefix-update" update_limits
    check "$prefix-update-one" update_keeps_other_limits
    check "$prefix-kill" kill_stops
    check "$prefix-delete" delete_leaves_nothing
    check "$prefix-again" the_id_is_free_again
    check "$prefix-force" delete_of_a_paused_one
}

resources='.linux.resources += {
    memory: {limit: 67108864, reservation: 33554432},
    pids: {limit: 99},
    cpu: {shares: 512, quota: 20000, period: 50000}
}'

create() {
    make_bundle "$1" "$resources"
    oci create --bundle "$bundle" --pid-file "$bundle/pid" "$id" >"$bundle/out" 2>&1 ||
        fail "$(<"$bundle/out")"
    same status created "$(state .status)"
    same "the cgroup of the process" "0::${cgroup#"$cgroups"}" "$(<"/proc/$(<"$bundle/pid")/cgroup")"
    if [[ -n $unit ]]; then
        same "the state of $unit" active "$(systemctl is-active "$unit")"
    fi
}

limits_are_written() {
    limit memory.max 67108864
    limit memory.low 33554432
    limit pids.max 99
    limit cpu.max "20000 50000"
    weight 20 59
}

start() {
    oci start "$id"
    same status running "$(state .status)"
    if [[ $1 == wasm ]]; then
        same workload wasm "$(state '.annotations["runwasm.workload"]')"
        eventually "the guest's output" has_line ready "$bundle/out"
    fi
}

# The runtime's connection to systemd would let a container manage the host's units. A socket
# of the host is listed here; those of the container's network namespace are not.
no_socket_of_the_host() {
    local file inode
    for file in "/proc/$(<"$bundle/pid")"/fd/*; do
        inode=$(readlink "$file" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
        if [[ -n $inode ]] && grep " $inode\( \|$\)" /proc/net/unix; then
            fail "the container has a socket of the host open"
        fi
    done
}

# exec_joins_the_cgroup WORKLOAD COMMAND
exec_joins_the_cgroup() {
    local words pid code=0
    if [[ $1 == wasm ]]; then
        oci exec "$id" /exit.wat || code=$?
    else
        oci exec "$id" sh -c "exit 42" || code=$?
    fi
    same "the exit code" 42 $code
    read -ra words <<<"$2"
    oci exec --detach --pid-file "$bundle/exec-pid" "$id" "${words[@]}" >/dev/null 2>&1
    pid=$(<"$bundle/exec-pid")
    same "the cgroup of the process" "0::${cgroup#"$cgroups"}" "$(<"/proc/$pid/cgroup")"
    kill -KILL "$pid"
}

stats_are_those_of_the_cgroup() {
    local stats
    stats=$(oci events --stats "$id")
    same type stats "$(jq -r .type <<<"$stats")"
    same "the limit of processes" 99 "$(jq .data.pids.limit <<<"$stats")"
    same "use of memory" true "$(jq '[.data.memory | .. | .usage? // empty] | any(. > 100000)' <<<"$stats")"
    same "use of the processor" true "$(jq '[.data.cpu.usage | .. | numbers] | any(. > 0)' <<<"$stats")"
}

pause_and_resume() {
    oci pause "$id"
    same status paused "$(state .status)"
    has_line "frozen 1" "$cgroup/cgroup.events"
    oci resume "$id"
    same status running "$(state .status)"
    eventually "the cgroup to thaw" has_line "frozen 0" "$cgroup/cgroup.events"
}

update_limits() {
    oci update --resources - "$id" <<<'{
        "memory": {"limit": 83886080},
        "pids": {"limit": 77},
        "cpu": {"quota": 30000, "period": 100000}
    }'
    limit memory.max 83886080
    limit pids.max 77
    limit cpu.max "30000 100000"
}

update_keeps_other_limits() {
    oci update --resources - "$id" <<<'{"cpu": {"shares": 1024}}'
    weight 39 100
    limit cpu.max "30000 100000"
    limit memory.max 83886080
    limit memory.low 33554432
    limit pids.max 77
    oci update --resources - "$id" <<<'{"cpu": {"quota": 50000}}'
    limit cpu.max "50000 100000"
    oci update --resources - "$id" <<<'{"cpu": {"quota": -1}}'
    limit cpu.max "max 100000"
}

kill_stops() {
    oci kill "$id" KILL
    eventually "the end of the container" is_stopped
    same "processes in the cgroup" "" "$(cat "$cgroup/cgroup.procs" 2>/dev/null)"
}

is_stopped() {
    [[ $(state .status) == stopped ]]
}

delete_leaves_nothing() {
    oci delete "$id"
    nothing_is_left
}

nothing_is_left() {
    local left
    is_gone "$cgroup" || fail "left: $cgroup"
    if [[ -n $unit ]]; then
        left=$(systemctl list-units --all --plain --no-legend "$unit")
        same "what is left of the unit" "" "$left"
    fi
    ! oci state "$id" >/dev/null 2>&1 || fail "there is still a state"
}

the_id_is_free_again() {
    oci create --bundle "$bundle" "$id" >"$bundle/out" 2>&1 || fail "$(<"$bundle/out")"
    same status created "$(state .status)"
    limits_are_written
    oci start "$id"
    oci delete --force "$id"
    nothing_is_left
}

delete_of_a_paused_one() {
    oci run --detach --bundle "$bundle" "$id" >"$bundle/out" 2>&1 || fail "$(<"$bundle/out")"
    oci pause "$id"
    oci delete --force "$id"
    nothing_is_left
}

# --- what needs a container of its own ------------------------------------------------------

check_alone() {
    place "$manager-linux-memory"
    check "$id" memory_limit_kills
    place "$manager-linux-pids"
    check "$id" pids_limit_holds
    place "$manager-linux-devices"
    check "$id" device_rules_hold
    place "$manager-linux-default-path"
    check "$id" default_path
}

# run CODE: runs the bundle to its end, with its output in $bundle/out.
run() {
    local code=0
    oci run --bundle "$bundle" "$id" >"$bundle/out" 2>&1 </dev/null || code=$?
    [[ $code == "$1" ]] || fail "the exit code is $code, not $1, after $(<"$bundle/out")"
}

memory_limit_kills() {
    # tail keeps what has no newline, so it grows without end.
    make_bundle "tail /dev/zero" '.linux.resources.memory = {limit: 16777216}'
    run 137
    nothing_is_left
    # What systemd remembers of the failure must not be in the way.
    run 137
    nothing_is_left
}

memory_limit_bounds_memory_grow() {
    make_bundle /grow.wat '.linux.resources.memory = {limit: 67108864}'
    run 0
    same output refused "$(<"$bundle/out")"
    nothing_is_left
}

pids_limit_holds() {
    make_bundle "sh -c" '.linux.resources.pids = {limit: 6}
        | .process.args += ["for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo all"]'
    run 2
    grep -q fork "$bundle/out"
    nothing_is_left
}

# The device is one that any process may open whose cgroup allows it: a screen of the host.
device_rules_hold() {
    cat /dev/vcs >/dev/null || fail "the device cannot be read on the host"
    make_bundle "sh -c" '.process.args += ["
            mknod /scratch/vcs c 7 0 && cat /scratch/vcs >/dev/null && echo vcs can be read
            mknod /scratch/null c 1 3 && echo x >/scratch/null && echo null can be written
        "]
        | .mounts += [{type: "tmpfs", source: "tmpfs", destination: "/scratch"}]
        | .process.capabilities = (["CAP_MKNOD"] | {bounding: ., permitted: ., effective: .})'
    run 0
    ! has_line "vcs can be read" "$bundle/out" || fail "a device that is not allowed can be read"
    grep -q "'/scratch/vcs': Operation not permitted" "$bundle/out"
    has_line "null can be written" "$bundle/out"
}

# Without linux.cgroupsPath the container gets a cgroup that bears its id.
default_path() {
    make_bundle "sleep 3600" 'del(.linux.cgroupsPath)'
    oci run --detach --bundle "$bundle" --pid-file "$bundle/pid" "$id" >"$bundle/out" 2>&1
    cgroup=$cgroups$(sed 's/^0:://' "/proc/$(<"$bundle/pid")/cgroup")
    [[ $cgroup == *"$id"* ]] || fail "the cgroup is $cgroup"
    if [[ -n $unit ]]; then
        unit=$(basename "$cgroup")
        same "the state of $unit" active "$(systemctl is-active "$unit")"
    fi
    oci delete --force "$id"
    nothing_is_left
}

# --- the machine, and a user's containers ---------------------------------------------------

host_is_as_expected() {
    grep -q " $cgroups cgroup2 " /proc/mounts || fail "$cgroups is no cgroup2 file system"
    [[ -d /run/systemd/system ]] || fail "systemd does not run"
    manager=cgroupfs oci --version
}

rootless_in_a_delegated_cgroup() {
    :
}

main
