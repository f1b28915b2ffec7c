#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets the machine up, runs every test that needs no GPU, and ends with a line
# `N passed, N failed` (test cases). Tests tagged gpu are named as skipped.
#
# Usage: tools/test.sh [target or bazel flag]...      (default: //...)
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

patterns=() flags=()
for arg in "$@"; do
  if [[ $arg == --* ]]; then flags+=("$arg"); else patterns+=("$arg"); fi
done
((${#patterns[@]} > 0)) || patterns=(//...)

bazel query --keep_going --noshow_progress \
  "attr(tags, '\bgpu\b', tests(set(${patterns[*]})))" \
  >"$scratch/gpu" 2>"$scratch/query.log" || cat "$scratch/query.log" >&2

status=0
bazel test --keep_going --test_tag_filters=-gpu \
  --build_event_json_file="$scratch/events.json" \
  "${flags[@]}" -- "${patterns[@]}" || status=$?
# Who may use whom; Bazel cannot be asked from inside a test.
tests/layering.sh >"$scratch/layering" || status=$?
python3 tools/test_summary.py --events="$scratch/events.json" \
  --skipped="$scratch/gpu" --checks="$scratch/layering" || exit 1
exit "$status"
