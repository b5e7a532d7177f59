# SPDX-License-Identifier: MIT
# Shared by tools/run and tools/test: finds or installs what they need. Sourced, with the repository root as $root.

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# One row for each thing needed: what to look for | Debian package | who needs it (run, test).
# "cmd X" is a program on PATH, "pc X" a pkg-config module, "file X" a file (a shell pattern).
requirements='
cmd cc|gcc|run
cmd c++|g++|test
cmd python3|python3|run
cmd meson|meson|run
cmd ninja|ninja-build|run
cmd pkg-config|pkg-config|run
pc OpenCL|ocl-icd-opencl-dev|run
pc libcjson|libcjson-dev|run
pc clblast|libclblast-dev|run
file /etc/OpenCL/vendors/pocl*.icd|pocl-opencl-icd|run
pc check|check|test
cmd clang|clang|test
cmd clang-format|clang-format|test
cmd oclgrind|oclgrind|test
file /usr/lib/python3/dist-packages/onnx/__init__.py|python3-onnx|test
'

# What tests/offline compiles with, which not every distribution has: what to look for | Debian packages that have it, of
# which the first one that apt knows is taken.
offline_compilers='
cmd clang-19|clang-19
file /usr/lib/*/amdgcn/bitcode/opencl.bc|rocm-device-libs
cmd ocloc|intel-ocloc intel-opencl-icd
file /usr/lib/clc/nvptx64--nvidiacl.bc|libclc-15 libclc-19 libclc-18
'

present() {
    case $1 in
    "cmd "*) command -v "${1#cmd }" >/dev/null 2>&1 ;;
    "pc "*) pkg-config --exists "${1#pc }" 2>/dev/null ;;
    "file "*) compgen -G "${1#file }" >/dev/null ;;
    esac
}

# Prints "look|package" of what is missing for $1 = run or test (test needs both lists).
missing() {
    local look package who
    while IFS='|' read -r look package who; do
        [ -n "$look" ] || continue
        [ "$who" = run ] || [ "$1" = test ] || continue
        present "$look" || printf '%s|%s\n' "$look" "$package"
    done <<<"$requirements"
}

can_install() {
    command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1; }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Installs the offline compilers that can be had. The suite says which of its parts do not run for want of one.
install_offline_compilers() {
    local look packages package updated=
    while IFS='|' read -r -u 3 look packages; do
        if [ -z "$look" ] || present "$look" || ! can_install; then continue; fi
        [ -n "$updated" ] || { as_root apt-get update -qq && updated=1; }
        for package in $packages; do
            apt-cache show "$package" >/dev/null 2>&1 || continue
            say "installing: $package"
            install_packages "$package" && break
        done
    done 3<<<"$offline_compilers"
}

# Installs what is missing on Debian and Ubuntu; elsewhere says what it is.
install_missing() {
    local list packages
    list=$(missing "$1")
    [ -n "$list" ] || return 0
    packages=$(cut -d'|' -f2 <<<"$list" | sort -u | tr '\n' ' ')
    if ! command -v apt-get >/dev/null 2>&1; then
        printf 'clmoe needs the following, which this system lacks (names of the Debian packages in brackets):\n' >&2
        sed 's/^cmd /  program /; s/^pc /  pkg-config module /; s/^file /  file /; s/|\(.*\)/ [\1]/' <<<"$list" >&2
        exit 1
    fi
    can_install || die "Not root and no sudo: please install first: $packages"
    say "installing: $packages"
    as_root apt-get update -qq || die "apt-get update failed"
    # shellcheck disable=SC2086
    install_packages $packages || die "apt-get could not install: $packages"
    list=$(missing "$1")
    [ -z "$list" ] || die "still missing after the installation: $list"
}

# Makes a vendors directory that holds PoCL alone, and gives PoCL a cache of its own: $1 is the build folder.
pin_pocl() {
    mkdir -p "$1/vendors" "$1/pocl-cache"
    cp /etc/OpenCL/vendors/pocl*.icd "$1/vendors/" || die "PoCL's .icd file is not in /etc/OpenCL/vendors"
    export OCL_ICD_VENDORS="$1/vendors" POCL_CACHE_DIR="$1/pocl-cache"
}
