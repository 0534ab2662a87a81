#!/usr/bin/env bash
# Installs what building, running and testing need on a Debian 12 (or newer) machine that has
# Rust, git and make. Run as root. What is there already is left alone, so a second run does
# nothing and needs no network. With --examples, installs what the toolchains of `make examples`
# stand on, and nothing else; the toolchains themselves examples/toolchains.mk puts into target/.
set -euo pipefail

# The packages, each with what it is needed for.
packages=(
    build-essential         # the linker and the C library's headers, for every Rust program
    libseccomp-dev          # libcontainer installs seccomp filters with it
    containerd              # runs containers through the shim
    containernetworking-plugins # connects pods to a network, with the one after it:
    iptables                # forwards host ports
    podman                  # runs containers through the command line
    runc                    # the runtime on which the tests of the standard are run first
    crun                    # podman's default runtime, without which it does not start
    buildah                 # builds the example images from scratch
    busybox-static          # the files of the ordinary Linux image
    clang                   # compiles the C example to wasm, with the three after it:
    lld                     # wasm-ld
    wasi-libc               # headers and C library
    libclang-rt-dev-wasm32  # the compiler's runtime library
    curl                    # asks the example servers
    jq                      # edits the config.json of bundles
    procps                  # ps, whose table `runwasm ps` shows
    shellcheck              # checks the scripts
    qemu-system-x86         # the machine with cgroup v2 and systemd for the tests, with the two after it:
    systemd                 # its binary and units are copied into that machine
    dbus                    # the bus on which systemd is asked for scopes
)

# Those for --examples.
example_packages=(
    emscripten              # compiles hello-world's C program to a stand-alone module
    python3-venv            # keeps componentize-py, which compiles Python, to itself
)

# Advisories are not checked: their database is only to be had by git from another host.
cargo_deny_version=0.20.2

# The generations of containerd that the suite runs on: the start of each one's version, and the
# Debian release that has it. They are unpacked beside each other and not installed, so that they
# leave alone the one that this machine uses.
containerds=("1.6=bookworm" "1.7=trixie" "2=forky")
containerds_directory=/usr/local/lib/runwasm-test

# The first Go with //go:wasmexport, a release of it for a Debian that has none, and the first Go
# that fetches others.
go_minimum=1.24
go_release=1.24.13
go_fetching=1.21

# The first Node.js that componentize-js, which compiles JavaScript, runs on.
node_minimum=18

main() {
    require_debian_root
    if [[ ${1-} == --examples ]]; then
        install_packages "${example_packages[@]}"
        install_node
        return
    fi
    require_rust
    install_packages "${packages[@]}"
    unpack_containerds
    install_go
    add_rust_targets
    add_rust_components
    install_cargo_deny
    mount_hugetlb
}

say() {
    echo "setup: $*"
}

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

require_debian_root() {
    local id
    ((EUID == 0)) || fail "run this as root: it installs Debian packages"
    id=$(os_release ID)
    [[ $id == debian ]] ||
        fail "this machine runs '${id:-an unknown system}'; only Debian 12 or newer is set up by this script"
}

# os_release NAME: a field of the system's description of itself.
os_release() {
    # shellcheck source=/dev/null
    [[ -r /etc/os-release ]] && (. /etc/os-release && echo "${!1-}")
}

require_rust() {
    command -v cargo >/dev/null || fail "cargo is not in PATH: install Rust first"
}

# --- Debian packages ------------------------------------------------------------------------

is_installed() {
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

install_packages() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    update_lists
    apt_get install --no-install-recommends "${missing[@]}"
}

# Waits for another apt instead of failing, and asks nothing.
apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq --yes -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

# Once a run is enough.
lists_updated=
update_lists() {
    [[ -z $lists_updated ]] || return 0
    apt_get update
    lists_updated=yes
}

# --- generations of containerd --------------------------------------------------------------

unpack_containerds() {
    local pair
    for pair in "${containerds[@]}"; do
        has_containerd "${pair%=*}" || unpack_containerd "${pair%=*}" "${pair#*=}"
    done
}

# has_containerd GENERATION: whether it is there, runs, and is what it is to be.
has_containerd() {
    local directory=$containerds_directory/containerd-$1 version
    [[ -x $directory/usr/bin/ctr ]] || return 1
    version=$("$directory/usr/bin/containerd" --version 2>/dev/null) || return 1
    # As in "containerd github.com/containerd/containerd 1.7.24~ds1 ...".
    [[ $(cut -d ' ' -f 3 <<<"$version") == "$1".* ]]
}

# unpack_containerd GENERATION RELEASE
unpack_containerd() (
    target=$containerds_directory/containerd-$1
    mirror=$(debian_mirror "$(os_release VERSION_CODENAME)")
    [[ -n $mirror ]] || fail "no Debian mirror is configured: cannot fetch containerd $1 from $2"
    say "unpacking containerd $1 of Debian $2 to $target"
    mkdir -p "$containerds_directory"
    work=$(mktemp -d "$containerds_directory/new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{state/lists/partial,cache/archives/partial,root}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $2 main" \
        >"$work/sources.list"
    # An apt of its own: other sources, nothing installed, and no trace in the machine's.
    options=(
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State="$work/state" -o Dir::State::Status=/dev/null -o Dir::Cache="$work/cache"
        -o APT::Sandbox::User=root -o Acquire::Languages=none
    )
    apt_get "${options[@]}" update
    (cd "$work" && apt_get "${options[@]}" download containerd)
    dpkg-deb --extract "$work"/containerd_*.deb "$work/root"
    chmod 755 "$work/root"
    rm -rf "$target"
    mv "$work/root" "$target"
    has_containerd "$1" ||
        fail "the containerd of Debian $2 in $target does not run here, or is no $1: $("$target/usr/bin/containerd" --version 2>&1 | head -n 1)"
)

# debian_mirror RELEASE: where this machine's apt has RELEASE from; nothing if it has it not.
debian_mirror() {
    # shellcheck disable=SC2016 # the field is apt's, not the shell's
    apt-get indextargets --format '$(REPO_URI)' \
        "Codename: $1" 'Created-By: Packages' 'Component: main' | head -n 1
}

# --- Go -------------------------------------------------------------------------------------

install_go() {
    has_go "$go_minimum" && return
    has_go "$go_fetching" || install_debian_go
    has_go "$go_minimum" && return
    # Go fetches and verifies its newer releases like any module.
    say "fetching Go $go_release"
    go env -w "GOTOOLCHAIN=go$go_release"
    has_go "$go_minimum" || fail "$(command -v go) could not fetch Go $go_release: put Go $go_minimum or newer in PATH"
}

install_debian_go() {
    local release
    say "installing Go $go_fetching or newer"
    update_lists
    release=$(os_release VERSION_CODENAME)
    if ! offers_go "$release"; then
        release+=-backports
        add_backports "$release"
    fi
    offers_go "$release" ||
        fail "Debian offers no Go $go_fetching or newer here: install one and put it in PATH"
    apt_get install --no-install-recommends --target-release "$release" golang-go
    hash -r
    has_go "$go_fetching" || fail "$(command -v go) is older than $go_fetching: remove it, or put a newer one before it in PATH"
}

# has_go MINIMUM: whether the Go that programs are built with is new enough.
has_go() {
    local version
    version=$(cd / && go env GOVERSION 2>/dev/null) || return 1
    at_least "${version#go}" "$1"
}

# offers_go RELEASE: whether the Go that apt would install from RELEASE is new enough.
offers_go() {
    local version
    version=$(apt-cache --option "APT::Default-Release=$1" policy golang-go |
        sed -n 's/^ *Candidate: *\([0-9]*:\)\?\([0-9.]*\).*/\2/p')
    [[ -n $version ]] && at_least "$version" "$go_fetching"
}

# at_least VERSION MINIMUM
at_least() {
    dpkg --compare-versions "$1" ge "$2"
}

# Debian 12 itself has Go 1.19. Its backports come from the mirror the machine uses already, and
# apt takes nothing from them unless it is told to.
add_backports() {
    local release=$1 mirror
    mirror=$(debian_mirror "${release%-backports}")
    [[ -n $mirror ]] || fail "no Debian mirror is configured: install Go $go_minimum or newer by hand"
    say "adding $release, for Go"
    cat >/etc/apt/sources.list.d/backports-for-go.sources <<EOF
Types: deb
URIs: $mirror
Suites: $release
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    apt_get update
}

# --- Node.js --------------------------------------------------------------------------------

install_node() {
    has_node && return
    install_packages nodejs npm
    hash -r
    has_node || fail "node is missing or older than $node_minimum: put a newer one, and npm, in PATH"
}

has_node() {
    local version
    command -v npm >/dev/null && version=$(node --version 2>/dev/null) || return 1
    at_least "${version#v}" "$node_minimum"
}

# --- Rust -----------------------------------------------------------------------------------

# The guests: WASI 0.1 modules, without and with threads, and WASI 0.2 components.
add_rust_targets() {
    local target
    for target in wasm32-wasip1 wasm32-wasip1-threads wasm32-wasip2; do
        [[ -d $(rustc --print sysroot)/lib/rustlib/$target ]] || with_rustup target add "$target"
    done
}

add_rust_components() {
    cargo fmt --version >/dev/null 2>&1 || with_rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || with_rustup component add clippy
}

with_rustup() {
    command -v rustup >/dev/null ||
        fail "this Rust lacks what \`rustup $*\` adds, and there is no rustup to add it"
    say "rustup $*"
    rustup "$@"
}

install_cargo_deny() {
    local installed
    installed=$(cargo deny --version 2>/dev/null || true)
    [[ $installed == "cargo-deny $cargo_deny_version" ]] && return
    say "building cargo-deny $cargo_deny_version, about four minutes on two cores"
    cargo install --quiet --locked "cargo-deny@$cargo_deny_version"
}

# --- cgroups --------------------------------------------------------------------------------

# On cgroups v1 and on a hybrid, crun wants every controller the kernel has mounted, and some
# minimal machines leave this one out.
mount_hugetlb() {
    [[ $(stat --file-system --format %T /sys/fs/cgroup) == tmpfs ]] || return 0
    grep -q '^hugetlb[[:space:]].*1$' /proc/cgroups || return 0
    grep -qE ' cgroup [^ ]*\bhugetlb\b' /proc/self/mounts && return
    say "mounting the hugetlb cgroup controller"
    mkdir -p /sys/fs/cgroup/hugetlb
    mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb
}

main "$@"
