#!/usr/bin/env bash
# make remake: farseek-mini once more, from nothing but the tree (recipes/r1-t1), in about five CPU minutes; it goes on where it was cut. Then the
# model of the tree is verified by what came out: quantised again, and a third of its last training done again on every instruction set of this machine.
# OUT=FOLDER takes another folder than build/remake.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/needs.sh
need_program

sums="$PWD/recipes/r1-t1/SHA256SUMS"
out="${OUT:-build/remake}"
build/farseek train recipes/r1-t1/recipe.yaml --out "$out" --until mini
(cd "$out" && sha256sum --check "$sums")
third=0
for isa in $(build/farseek doctor --json | sed -nE 's/.*"isa": *\[([^]]*)\].*/\1/p' | tr -d '",'); do
    third=$((third % 3 + 1))
    echo
    echo "== $isa"
    build/farseek verify models/farseek-mini --segment "$third/3" --data "$out" --isa "$isa"
done
