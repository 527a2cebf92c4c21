# Sourced by the scripts beside it: installs the Debian packages that are missing, or says the command that would.
build_packages=(gcc make pkg-config libc6-dev libjson-c-dev libpcre2-dev libutf8proc-dev libedit-dev libssl-dev libsodium-dev libyaml-dev
                libgmp-dev libmpfr-dev libmicrohttpd-dev libcurl4-openssl-dev libgit2-dev libsqlite3-dev liblz4-dev zlib1g-dev
                libcmark-gfm-dev libcmark-gfm-extensions-dev git)
test_packages=(aria2 git-lfs libcmocka-dev minisign python3 python3-pip python3-venv)

need_packages() {
    local missing=() p command machine wanted
    command -v dpkg-query >/dev/null || return 0 # not Debian: the build says what it misses
    machine="$(dpkg --print-architecture)"
    for p in "$@"; do # name, or name:architecture; a package of another architecture does not count
        wanted="$machine"
        [ "${p%:*}" = "$p" ] || wanted="${p##*:}"
        dpkg-query -W -f '${db:Status-Status} ${Architecture}\n' "${p%:*}" 2>/dev/null | grep -xE "installed ($wanted|all)" >/dev/null || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command="apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" = 0 ]; then
        command="env DEBIAN_FRONTEND=noninteractive $command"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        command="sudo -n env DEBIAN_FRONTEND=noninteractive $command"
    else
        echo "farseek: missing packages; as root: $command" >&2
        return 1
    fi
    echo "farseek: installing ${missing[*]}" >&2
    $command >&2 || { ${command%%apt-get*}apt-get update >&2 && $command >&2; }
}

# build/farseek, from the root of the tree, whoever called make.
need_program() {
    need_packages "${build_packages[@]}"
    [ -x build/farseek ] || echo "farseek: building" >&2
    env -u MAKEFLAGS -u MAKELEVEL make -s -j"$(nproc)" build/farseek >&2
}
