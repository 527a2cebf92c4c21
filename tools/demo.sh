#!/usr/bin/env bash
# make demo: farseek-mini, a reasoning model that this program made from nothing (recipes/r1-t1), on problems that it never saw.
# Its answers are checked exactly. SEED=N takes other problems, COUNT=N another number of them.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/needs.sh
need_program

model=models/farseek-mini
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
build/farseek data make chain "$work/problems.jsonl" --count "${COUNT:-10}" --min 8 --max 12 --traced 0 --split test --distinct --seed "${SEED:-$RANDOM}" >/dev/null
build/farseek eval "$model" "$work/problems.jsonl" --max-tokens 40 --out "$work/said.jsonl" >"$work/score" 2>/dev/null
echo "Operations from left to right, modulo 10. Between '>' is what the model thinks, behind the last one its answer."
sed -E 's/.*"verdict": "([^"]*)".*"prompt": "([^"]*)".*"output": "([^"]*)".*/\2 \3   \1/' "$work/said.jsonl"
cat "$work/score"
