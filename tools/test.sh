#!/usr/bin/env bash
# make test: every check of the tree on this machine, and what it needs for them. Stages may be named to run only those:
#   tools/test.sh gcc clang san fuzz arm e2e
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/needs.sh

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(gcc clang san fuzz arm e2e)
passed=0
note() { echo "== $*"; }
ok() { passed=$((passed + 1)); }
jobs="$(nproc)"

# The kernels, and with them whole models, in aarch64 under qemu-user: libraries of the other architecture come from the
# same archive.
arm_packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
arm_libraries=(libjson-c-dev:arm64 libpcre2-dev:arm64 libutf8proc-dev:arm64 libssl-dev:arm64 libsodium-dev:arm64 libyaml-dev:arm64
               libgmp-dev:arm64 libmpfr-dev:arm64 libedit-dev:arm64
               libcmocka-dev:arm64)
need_arm() {
    need_packages "${arm_packages[@]}"
    if ! dpkg --print-foreign-architectures | grep -qx arm64; then
        if [ "$(id -u)" = 0 ]; then
            dpkg --add-architecture arm64
            apt-get update >&2
        else
            sudo -n dpkg --add-architecture arm64
            sudo -n apt-get update >&2
        fi
    fi
    need_packages "${arm_libraries[@]}"
}

# The clients and oracles of the end-to-end tests, outside the tree.
venv="${FARSEEK_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/farseek/venv}"
need_venv() {
    local want
    want="$(sha256sum tests/requirements.txt | cut -d' ' -f1)"
    if [ "$(cat "$venv/farseek-requirements" 2>/dev/null)" != "$want" ]; then
        note "python packages for the end-to-end tests in $venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
        echo "$want" > "$venv/farseek-requirements"
    fi
}

together() { # COMMAND...: COMMAND... LINE for every line of stdin, as many at once as there are CPUs; stops at a failure
    local line running=0
    while read -r line; do
        "$@" "$line" < /dev/null &
        running=$((running + 1))
        ok
        if [ "$running" -ge "$jobs" ]; then
            wait -n || exit 1
            running=$((running - 1))
        fi
    done
    for (( ; running > 0; running--)); do wait -n || exit 1; done
}

unit_test() { # runner... TEST
    local t="${*: -1}"
    "$@" > "$t.log" 2>&1 || { cat "$t.log"; echo "FAILED: $t"; return 1; }
}

unit() { # BUILD-folder runner...: every unit test of a build; backwards, since products take longest
    local folder="$1"
    shift
    together unit_test "$@" <<< "$(find "$folder/unit" -type f -name 'test_*' -perm -u+x | sort -r)"
    note "$folder: unit tests passed"
}

fixtures() { # the models of tests/vectors
    local m
    for m in tests/vectors/*/; do
        [ ! -f "$m/model.safetensors" ] || echo "$m"
    done
}

blocks() { # models in GGUF's block types: quantised activations
    need_venv >&2
    [ -f build/blocks/experts.gguf ] || "$venv/bin/python" tests/e2e/block_models.py build/blocks
    echo build/blocks/*.gguf
}

same_answer() { # BUILD-folder RUNNER MODEL
    local folder="$1" runner="$2" m="$3" ask="--ids 1,2,3,4,5,6,7,8,9 --greedy 5 --json" want got
    want="build/answers/$(basename "$m").json" got="$folder/answers/$(basename "$m").got"
    mkdir -p build/answers "$folder/answers"
    [ "$want" -nt build/farseek ] || build/farseek logits "$m" $ask --isa scalar --chunk 2 > "$want" || { echo "FAILED: build: $m"; return 1; }
    $runner "$folder/farseek" logits "$m" $ask --threads 2 > "$got" || { echo "FAILED: $folder: $m"; return 1; }
    cmp "$want" "$got" || { echo "FAILED: $folder: $m: other bits"; return 1; }
}

same_bits() { # BUILD-folder RUNNER MODEL...: what that build answers is what gcc's scalar code answers
    local folder="$1" runner="$2"
    shift 2
    together same_answer "$folder" "$runner" <<< "$(printf '%s\n' "$@")"
    note "$folder: fixtures have the same bits"
}

training() { # BUILD-folder RUNNER OPTION...: the recipe of tests/training
    local folder="$1/training" runner="$2" program="$1/farseek"
    shift 2
    rm -rf "$folder"
    mkdir -p "$folder"
    cp tests/training/recipe.yaml recipes/r1-t0/config.json "$folder"
    sed 's/"num_nextn_predict_layers": *0/"num_nextn_predict_layers": 1/' recipes/r1-t0/config.json > "$folder/mtp.json"
    $runner "$program" train "$folder/recipe.yaml" --out "$folder/run" "$@" > "$folder/log" 2>&1 || { cat "$folder/log"; echo "FAILED: $program: training"; exit 1; }
}

same_training() { # BUILD-folder RUNNER: what that build trains is what gcc's scalar code trains
    local folder="$1" runner="$2" weights steps=(exact/step-00000003 pairs/step-00000003 rl/step-00000002) until=rl
    [ -n "$runner" ] || { until=fifty-pairs; steps+=(fifty/step-00000050 fifty-pairs/step-00000050); }
    [ build/training/done -nt build/farseek ] && [ build/training/done -nt tests/training/recipe.yaml ] || { training build "" --isa scalar --threads 1 && touch build/training/done; }
    training "$folder" "$runner" --threads 2 --until "$until"
    for weights in "${steps[@]}"; do
        cmp {build,"$folder"}/training/run/"$weights"/model.safetensors || { echo "FAILED: $folder: other weights"; exit 1; }
    done
    ok
    note "$folder: training has the same bits"
}

stage_gcc() {
    make -s -j"$jobs" BUILD=build all unit-build
    unit build
}

stage_clang() {
    make -s -j"$jobs" CC=clang BUILD=build-clang all unit-build
    unit build-clang
    local hash='"conformance": "[0-9a-f]*"'
    [ "$(build/farseek doctor --json | grep -o "$hash")" = "$(build-clang/farseek doctor --json | grep -o "$hash")" ] || { echo "FAILED: gcc and clang print different conformance hashes"; exit 1; }
    ok
    same_bits build-clang "" $(fixtures) $(blocks)
    same_training build-clang ""
}

stage_san() {
    make -s -j"$jobs" SAN=1 BUILD=build-san all unit-build
    unit build-san
    same_bits build-san "" $(fixtures) $(blocks) # and no leak and no fault from opening to closing
    same_training build-san ""
}

stage_fuzz() {
    make -s -j"$jobs" fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-8}"
    ok
}

stage_arm() {
    local run="qemu-aarch64 -L /"
    make -s -j"$jobs" CROSS=aarch64 BUILD=build-aarch64 all
    make -s -j"$jobs" CROSS=aarch64 BUILD=build-aarch64 $(for t in blake3 math rows products attention conformance blocks; do echo "build-aarch64/unit/test_$t"; done)
    unit build-aarch64 $run
    same_bits build-aarch64 "$run" $(fixtures | grep -v long_) $(blocks)
    same_training build-aarch64 "$run"
}

stage_e2e() { # three files at a time: many tests wait, others have a thread a CPU; then what looks at a duration, by itself
    local pytest=("$venv/bin/python" -m pytest -q -p no:cacheprovider --durations 20 tests/e2e)
    export FARSEEK="${FARSEEK:-$PWD/build/farseek}"
    "${pytest[@]}" -m "not alone" -n 3 --dist loadfile --no-loadscope-reorder
    ok
    "${pytest[@]}" -m alone
    ok
}

packages=("${build_packages[@]}" "${test_packages[@]}")
case " ${stages[*]} " in *" clang "*|*" fuzz "*) packages+=(clang llvm libclang-rt-14-dev) ;; esac
need_packages "${packages[@]}"
case " ${stages[*]} " in *" arm "*) need_arm ;; esac
case " ${stages[*]} " in *" e2e "*) need_venv ;; esac
start=$SECONDS
make -s -j"$jobs" BUILD=build all # what the other builds are compared with, and what the end-to-end tests drive
for s in "${stages[@]}"; do
    note "$s"
    "stage_$s"
    note "$s: done after $((SECONDS - start)) s"
done
echo "$passed passed, 0 failed"
