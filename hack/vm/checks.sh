#!/bin/bash
# Runs in the virtual machine: what an OCI runtime does with cgroups v2, by itself and through
# systemd, as root and as a user, for wasm and for Linux containers. Prints a line a check.
#
# The checks of one container depend on each other, so they run in order, each in a shell of its
# own that ends at the first command that fails. The last lines of its output say why, and follow
# the line of the check, indented.

runtime=$(readlink /checks/runtime)
cgroups=/sys/fs/cgroup
work=/run/checks
patience=15
user=1000
user_manager=user.slice/user-$user.slice/user@$user.service

main() {
    mkdir -p $work
    manager=cgroupfs
    check host host_is_as_expected
    for manager in cgroupfs systemd user-cgroupfs user-systemd; do
        check_life linux "sleep 3600"
        check_life wasm /sleep.wat
        [[ $manager == user-* ]] || check_limits
    done
    if [[ -x /checks/suite ]]; then
        check suite linux_half_of_the_suite
        if [[ $runtime == */runwasm ]]; then
            check shim shim_without_containerd
            check shim-systemd shim_with_systemd
        fi
    fi
    echo end
}

# check NAME FUNCTION [ARGUMENT...]: fails if the check does.
check() {
    local name=$1 log=$work/log
    shift
    # Another runtime than ours runs Linux only.
    [[ $name == *-wasm-* && $runtime != */runwasm ]] && return 1
    (
        set -e
        "$@"
    ) >$log 2>&1
    # shellcheck disable=SC2181 # as the condition of an if, set -e would have no effect
    if (($? == 0)); then
        echo "ok $name"
    else
        echo "FAIL $name"
        tail -n 40 $log | sed 's/^/    /'
        return 1
    fi
}

# --- containers -----------------------------------------------------------------------------

# oci ARGUMENT...: the runtime, as root or as the user.
oci() {
    local command=(timeout -s KILL 60 "$runtime")
    [[ $manager == *systemd ]] && command+=(--systemd-cgroup)
    case $manager in
    user-*) as_user "${command[@]}" "$@" ;;
    *) "${command[@]}" "$@" ;;
    esac
}

# as_user COMMAND...: a process can only be moved within what is delegated to the user, so the
# one that creates it has to be there already.
as_user() (
    echo "$BASHPID" >$cgroups/delegated/engine/cgroup.procs
    exec setpriv --reuid=$user --regid=$user --clear-groups \
        env HOME=$work/home XDG_RUNTIME_DIR=/run/user/$user "$@"
)

# place ID: where the container is to be: $bundle, $cgroups_path, and the $cgroup and the $unit
# that must come of it.
place() {
    id=$1
    bundle=$work/$id
    unit=
    case $manager in
    cgroupfs)
        cgroups_path=/checks/$id
        cgroup=$cgroups/checks/$id
        ;;
    user-cgroupfs)
        cgroups_path=/delegated/$id
        cgroup=$cgroups/delegated/$id
        ;;
    systemd)
        cgroups_path=system.slice:runwasm:$id
        unit=runwasm-$id.scope
        cgroup=$cgroups/system.slice/$unit
        ;;
    user-systemd)
        cgroups_path=user.slice:runwasm:$id
        unit=runwasm-$id.scope
        cgroup=$cgroups/$user_manager/user.slice/$unit
        ;;
    esac
}

# make_bundle COMMAND [FILTER]: a bundle in $bundle for the container $id, whose config.json is
# changed by a filter of jq.
make_bundle() {
    local words name options=() filter=${2:-.}
    read -ra words <<<"$1"
    mkdir -p "$bundle/rootfs/bin"
    cp /usr/bin/busybox "$bundle/rootfs/bin"
    for name in cat mknod sh sleep tail; do
        ln -s busybox "$bundle/rootfs/bin/$name"
    done
    cp /checks/guests/*.wat "$bundle/rootfs"
    if [[ $manager == user-* ]]; then
        options=(--rootless)
        chown -R $user:$user "$bundle"
    fi
    oci spec --bundle "$bundle" "${options[@]}"
    jq '.process.terminal = false
        | .process.args = $ARGS.positional
        | .linux.cgroupsPath = $path
        | '"$filter" --arg path "$cgroups_path" \
        <"$bundle/config.json" >"$bundle/new" --args -- "${words[@]}"
    mv "$bundle/new" "$bundle/config.json"
}

# try COMMAND...: fails with what the command says, whose output is kept in $bundle/out. A
# container that stays shares it.
try() {
    oci "$@" >"$bundle/out" 2>&1 </dev/null || fail "$(<"$bundle/out")"
}

state() {
    oci state "$id" | jq -r "$1"
}

unit_state() {
    if [[ $manager == user-* ]]; then
        as_user systemctl --user is-active "$unit" || true
    else
        systemctl is-active "$unit" || true
    fi
}

# --- expectations ---------------------------------------------------------------------------

fail() {
    echo "$*"
    exit 1
}

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

# in_cgroup PID
in_cgroup() {
    same "the cgroup of the process" "0::${cgroup#"$cgroups"}" "$(<"/proc/$1/cgroup")"
}

has_line() {
    grep -qx "$1" "$2"
}

is_stopped() {
    [[ $(state .status) == stopped ]]
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

# At once, not eventually: an engine that deletes a container may create it again.
nothing_is_left() {
    [[ ! -e $cgroup ]] || fail "left: $cgroup"
    [[ -z $unit ]] || same "the state of $unit" inactive "$(unit_state)"
    ! oci state "$id" >/dev/null 2>&1 || fail "there is still a state"
}

# --- the machine ----------------------------------------------------------------------------

host_is_as_expected() {
    grep -q " $cgroups cgroup2 " /proc/mounts || fail "$cgroups is no cgroup2 file system"
    [[ -d /run/systemd/system ]] || fail "systemd does not run"
    oci --version
    prepare_for_the_user
}

# A service manager of the user, and a cgroup that is his without one.
prepare_for_the_user() {
    local delegated=$cgroups/delegated
    mkdir -p $work/home $delegated/engine
    echo "+cpu +memory +pids" >$cgroups/cgroup.subtree_control
    chown $user:$user $work/home $delegated{,/engine}{,/cgroup.procs,/cgroup.subtree_control}
    systemctl start user@$user.service
}

# --- one container's life -------------------------------------------------------------------

# check_life WORKLOAD COMMAND
check_life() {
    local prefix=$manager-$1
    place "$prefix"
    check "$prefix-create" create "$2" || return
    check "$prefix-limits" limits_are_written
    check "$prefix-start" start "$1"
    # A user's container has the host's network and with it the host's sockets.
    [[ $manager == user-* ]] || check "$prefix-sockets" no_socket_of_the_host
    check "$prefix-exec" exec_returns_the_exit_code "$1"
    check "$prefix-exec-cgroup" exec_joins_the_cgroup "$2"
    check "$prefix-stats" stats_are_those_of_the_cgroup
    check "$prefix-pause" pause_and_resume
    check "$prefix-update" update_limits
    check "$prefix-update-one" update_keeps_other_limits
    check "$prefix-kill" kill_stops
    check "$prefix-delete" delete_leaves_nothing
    check "$prefix-again" the_id_is_free_again
    check "$prefix-force" delete_of_a_paused_one
}

create() {
    make_bundle "$1" '.linux.resources += {
        memory: {limit: 67108864, reservation: 33554432},
        pids: {limit: 99},
        cpu: {shares: 512, quota: 20000, period: 50000}
    }'
    try create --bundle "$bundle" --pid-file "$bundle/pid" "$id"
    same status created "$(state .status)"
    in_cgroup "$(<"$bundle/pid")"
    [[ -z $unit ]] || same "the state of $unit" active "$(unit_state)"
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

# The runtime's connection to systemd would let a container manage the host's units. Sockets of
# the host are listed here; those made in the container's network namespace are not.
no_socket_of_the_host() {
    local file inode
    for file in "/proc/$(<"$bundle/pid")"/fd/*; do
        inode=$(readlink "$file" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
        if [[ -n $inode ]] && grep " $inode\( \|$\)" /proc/net/unix; then
            fail "the container has a socket of the host open"
        fi
    done
}

exec_returns_the_exit_code() {
    local command=(sh -c "exit 42") code=0
    [[ $1 != wasm ]] || command=(/exit.wat)
    oci exec "$id" "${command[@]}" || code=$?
    same "the exit code" 42 $code
}

exec_joins_the_cgroup() {
    local words
    read -ra words <<<"$1"
    oci exec --detach --pid-file "$bundle/exec-pid" "$id" "${words[@]}" >/dev/null 2>&1 </dev/null
    in_cgroup "$(<"$bundle/exec-pid")"
    kill -KILL "$(<"$bundle/exec-pid")"
}

stats_are_those_of_the_cgroup() {
    local before stats
    before=$(processor_time)
    stats=$(oci events --stats "$id")
    same type stats "$(jq -r .type <<<"$stats")"
    same "the limit of processes" 99 "$(jq .data.pids.limit <<<"$stats")"
    same "the limit of memory" 67108864 "$(jq .data.memory.usage.limit <<<"$stats")"
    same "use of memory" true "$(jq '.data.memory.usage.usage > 100000' <<<"$stats")"
    # In nanoseconds.
    same "use of the processor" true "$(jq --argjson least "$before" --argjson most "$(processor_time)" \
        '.data.cpu.usage.total / 1000 | . >= $least and . <= $most' <<<"$stats")"
}

# What the container used, in microseconds.
processor_time() {
    sed -n 's/^usage_usec //p' "$cgroup/cpu.stat"
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
    oci update --resources - "$id" <<<'{"memory": {"limit": 67108864}}'
    limit memory.max 67108864
    limit cpu.max "30000 100000"
    oci update --resources - "$id" <<<'{"cpu": {"quota": -1, "period": 100000}}'
    limit cpu.max "max 100000"
}

kill_stops() {
    oci kill "$id" KILL
    eventually "the end of the container" is_stopped
}

delete_leaves_nothing() {
    oci delete "$id"
    nothing_is_left
}

the_id_is_free_again() {
    try create --bundle "$bundle" "$id"
    same status created "$(state .status)"
    limits_are_written
    oci start "$id"
    oci delete --force "$id"
    nothing_is_left
}

delete_of_a_paused_one() {
    try run --detach --bundle "$bundle" "$id"
    oci pause "$id"
    oci delete --force "$id"
    nothing_is_left
}

# --- what the limits do, each in a container of its own -------------------------------------

check_limits() {
    place "$manager-linux-others"
    check "$id" other_limits_are_written
    place "$manager-linux-memory"
    check "$id" memory_limit_kills
    place "$manager-wasm-memory"
    check "$id" memory_limit_bounds_memory_grow
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
    nothing_is_left
}

other_limits_are_written() {
    make_bundle "sleep 3600" '.linux.resources += {
        cpu: {cpus: "0"},
        memory: {limit: 67108864, swap: 100663296},
        unified: {"memory.high": "50331648"}
    }'
    try run --detach --bundle "$bundle" "$id"
    limit cpuset.cpus 0
    limit memory.max 67108864
    limit memory.swap.max 33554432
    limit memory.high 50331648
    oci delete --force "$id"
    nothing_is_left
}

memory_limit_kills() {
    # tail keeps what has no newline, so it grows without end.
    make_bundle "tail /dev/zero" '.linux.resources.memory = {limit: 16777216}'
    run 137
    # What systemd remembers of the failure must not be in the way.
    run 137
}

memory_limit_bounds_memory_grow() {
    make_bundle /grow.wat '.linux.resources.memory = {limit: 67108864}'
    run 0
    same output refused "$(<"$bundle/out")"
}

pids_limit_holds() {
    make_bundle "sh -c" '.linux.resources.pids = {limit: 6}
        | .process.args += ["for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo all"]'
    run 2
    grep "can't fork" "$bundle/out"
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
    grep "'/scratch/vcs': Operation not permitted" "$bundle/out"
    has_line "null can be written" "$bundle/out"
}

# Without linux.cgroupsPath the container gets a cgroup that bears its id.
default_path() {
    make_bundle "sleep 3600" 'del(.linux.cgroupsPath)'
    try run --detach --bundle "$bundle" --pid-file "$bundle/pid" "$id"
    cgroup=$cgroups$(sed 's/^0:://' "/proc/$(<"$bundle/pid")/cgroup")
    [[ $cgroup == *"$id"* ]] || fail "the cgroup is $cgroup"
    if [[ -n $unit ]]; then
        unit=$(basename "$cgroup")
        same "the state of $unit" active "$(unit_state)"
    fi
    oci delete --force "$id"
    nothing_is_left
}

# --- the suite ------------------------------------------------------------------------------

# Its trials of Linux containers, here on cgroups v2.
linux_half_of_the_suite() {
    RUNTIME=$runtime HOME=/root /checks/suite linux::
}

shim_without_containerd() {
    RUNTIME=$runtime HOME=/root /checks/suite shim_linux::
}

# As a node configures it whose kubelet has systemd as its cgroup driver.
shim_with_systemd() {
    local seen=$work/scopes trial
    mkdir -p /etc/runwasm
    printf '[shim]\nSystemdCgroup = true\n' >/etc/runwasm/config.toml
    : >"$seen"
    while [[ -e $seen ]]; do
        find $cgroups/system.slice -maxdepth 1 -name 'runwasm-*.scope' >>"$seen"
        sleep 0.2
    done &
    # Not the others: when a container ends, systemd removes its cgroup, with the statistics.
    for trial in update_of_linux pause_stops_the_processes; do
        RUNTIME=$runtime HOME=/root /checks/suite shim_linux::$trial
    done
    rm /etc/runwasm/config.toml
    [[ -s $seen ]] || fail "systemd made no scope"
    rm "$seen"
}

main
