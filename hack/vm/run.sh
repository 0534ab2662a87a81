#!/usr/bin/env bash
# run.sh RUNTIME DIRECTORY [SUITE]: runs checks.sh in a virtual machine of its own, which has what
# the host may not have: cgroups v2 and a running systemd. Prints a line a check, `ok NAME` or
# `FAIL NAME` with the reason in indented lines below it, and fails if one of them failed or the
# machine did not come to its end. DIRECTORY keeps the kernel for the next run, and the machine's
# console. SUITE, the binary of integration/, has its trials of Linux containers run there, too.
#
# The processor is emulated, so this works where there is no hardware virtualisation, as in most
# virtual machines. The machine has no disk and no network: all its files are in the initramfs.
set -euo pipefail

# An old processor is emulated a third faster than the newest: there is less to emulate.
processor=Nehalem,+rdrand

# How long the machine may take, in seconds.
time_limit=${VM_TIME_LIMIT:-500}

# The programs in the machine, with the libraries they are linked with.
programs=(bash busctl dbus-daemon env jq setpriv sh systemctl unshare)

# The units of the host's systemd that a boot to the checks needs, and those for a user. Those in
# units/ are ours.
system_units=(
    basic.target dbus.service dbus.socket local-fs.target local-fs-pre.target paths.target
    shutdown.target slices.target sockets.target swap.target sysinit.target timers.target
    umount.target user.slice
)
user_units=(
    basic.target paths.target session.slice shutdown.target sockets.target timers.target
)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
architecture=$(uname -m)

main() {
    (($# == 2 || $# == 3)) || fail "usage: run.sh RUNTIME DIRECTORY [SUITE]"
    local runtime=$1 directory=$2 suite=${3-}
    require_tools
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    # One run at a time: they share the directory.
    exec {lock}>"$directory/lock"
    flock "$lock"
    get_kernel "$directory/linux"

    rm -rf "$directory/root"
    make_root "$directory/root" "$runtime" "$directory/linux"
    if [[ -n $suite ]]; then
        add_program "$directory/root" "$suite" /checks/suite
    fi
    (cd "$directory/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$directory/initramfs"
    rm -rf "$directory/root"
    boot "$directory"
    rm "$directory/initramfs"
    report "$directory"
}

fail() {
    echo "hack/vm/run.sh: $*" >&2
    exit 1
}

# require PROGRAM PACKAGE
require() {
    command -v "$1" >/dev/null || fail "$1 is missing; install it: apt-get install -y $2"
}

require_tools() {
    [[ $architecture == x86_64 ]] || fail "there is no virtual machine for $architecture"
    require qemu-system-x86_64 qemu-system-x86
    require busybox busybox-static
    require systemctl systemd
    require dbus-daemon dbus
    require jq jq
    require setpriv util-linux
    require flock util-linux
}

# --- the kernel -----------------------------------------------------------------------------

# Debian's own, unpacked but not installed: this machine does not boot it. The one for clouds
# has all that is needed and is a third of the size.
get_kernel() {
    local directory=$1 package fetched
    [[ ! -e $directory/complete ]] || return 0
    package=$(kernel_package)
    if [[ -z $package ]]; then
        apt-get -qq update
        package=$(kernel_package)
    fi
    [[ -n $package ]] || fail "apt knows no package linux-image-cloud-amd64: a Debian kernel is needed"
    rm -rf "$directory"
    mkdir "$directory"
    (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download "$package") ||
        fail "cannot download $package: run apt-get update and try again"
    fetched=("$directory"/*.deb)
    dpkg-deb --extract "${fetched[0]}" "$directory"
    rm "${fetched[0]}"
    touch "$directory/complete"
}

# What the package that always depends on the newest kernel depends on now.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: *\(linux-image-[^ ]*\)$/\1/p' | head -n 1
}

# --- the machine's files --------------------------------------------------------------------

# make_root ROOT RUNTIME KERNEL
make_root() {
    local root=$1 runtime=$2 kernel=$3 name shim
    mkdir -p "$root"/{dev,etc/systemd,proc,root,run,sys,tmp,usr/bin,usr/lib,usr/lib64,usr/sbin,var}
    for name in bin lib lib64 sbin; do
        ln -s "usr/$name" "$root/$name"
    done
    ln -s /run "$root/var/run"

    add_program "$root" "$(command -v busybox)" /usr/bin/busybox
    for name in $(busybox --list); do
        [[ $name == busybox ]] || ln -s busybox "$root/usr/bin/$name"
    done
    for name in "${programs[@]}"; do
        add_program "$root" "$(command -v "$name")" "/usr/bin/$name"
    done
    add_systemd "$root"
    add_overlay "$root" "$kernel"

    grep -E '^(root|messagebus):' /etc/passwd >"$root/etc/passwd"
    grep -E '^(root|messagebus):' /etc/group >"$root/etc/group"
    echo "user:x:1000:1000::/tmp:/bin/sh" >>"$root/etc/passwd"
    echo "user:x:1000:" >>"$root/etc/group"
    cp "$here/init" "$root/init"
    mkdir "$root/checks"
    cp -r "$here/checks.sh" "$here/guests" "$root/checks"
    name=/usr/bin/$(basename "$runtime")
    add_program "$root" "$runtime" "$name"
    ln -s "$name" "$root/checks/runtime"
    # Ours has a shim beside it.
    shim=${runtime%/*}/containerd-shim-wasm-v1
    [[ ! -e $shim ]] || add_program "$root" "$shim" /usr/bin/containerd-shim-wasm-v1
}

# add_program ROOT FILE [PATH]: a program, and the libraries that the loader finds for it.
add_program() {
    local root=$1 file=$2 path=${3:-$2} library
    rm -f "$root$path"
    install -D -m 755 "$file" "$root$path"
    # A program that is linked statically has no list.
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [[ -e $root$library ]] || install -D -m 755 "$library" "$root$library"
    done
}

# The service manager and the bus, without the many services a host runs.
add_systemd() {
    local root=$1 name
    # Since version 255 services are started by systemd-executor.
    for name in /lib/systemd/systemd /lib/systemd/systemd-executor; do
        [[ ! -e $name ]] || add_program "$root" "$name"
    done
    mkdir -p "$root"/usr/lib/systemd/{system,user} "$root/usr/share/dbus-1/system.d"
    (cd /usr/lib/systemd/user && cp -r "${user_units[@]}" "$root/usr/lib/systemd/user")
    (cd /lib/systemd/system && cp "${system_units[@]}" "$root/usr/lib/systemd/system")
    cp /usr/share/dbus-1/{system,session}.conf "$root/usr/share/dbus-1"
    cp /usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf "$root/usr/share/dbus-1/system.d"
    cp -r "$here"/units/{system,user} "$root/etc/systemd"
}

# runwasm protects its binary with an overlay mount, which is a module in this kernel.
add_overlay() {
    local root=$1 kernel=$2 module
    module=$(find "$kernel" -name 'overlay.ko*')
    [[ -n $module ]] || fail "there is no overlay module in $kernel: remove the directory and try again"
    cp "$module" "$root"
    # Newer kernels come with compressed modules.
    [[ $module != *.xz ]] || busybox unxz "$root/overlay.ko.xz"
}

# --- the run --------------------------------------------------------------------------------

# boot DIRECTORY: the console is written to one file, what the checks say to another.
boot() {
    local directory=$1 kernel
    kernel=$(find "$directory/linux/boot" -name 'vmlinuz-*')
    rm -f "$directory/console" "$directory/results"
    # In the foreground, that is in our process group: who kills that kills the machine.
    timeout --foreground -s KILL "$time_limit" qemu-system-x86_64 \
        -machine pc,accel=tcg -cpu $processor -smp 1 -m 1G \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$kernel" -initrd "$directory/initramfs" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off audit=0 systemd.show_status=no" \
        -serial "file:$directory/console" -serial "file:$directory/results" \
        </dev/null 2>"$directory/qemu" || true
}

report() {
    local directory=$1 results
    touch "$directory/console" "$directory/results"
    results=$(tr -d '\r' <"$directory/results")
    printf '%s\n' "$results"
    if [[ $(tail -n 1 <<<"$results") != end ]]; then
        echo "the virtual machine did not come to its end in $time_limit s; its last words:" >&2
        cat "$directory/qemu" >&2
        tail -n 30 "$directory/console" >&2
        exit 1
    fi
    ! grep -q '^FAIL ' <<<"$results"
}

main "$@"
