#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets the machine up, runs every test that needs no GPU, builds everything,
# CUDA code included, and ends with a line `N passed, N failed` (test cases).
# Tests tagged gpu are built and named as skipped.
#
# Usage: tools/test.sh [--no_cuda] [target or bazel flag]...  (default: //...)
# CUDA code is compiled when no target is named, unless --no_cuda is given. Its
# toolkit, about 700 MB, is downloaded first (tools/cuda_toolkit.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

patterns=() flags=() cuda=''
for arg in "$@"; do
  case $arg in
    --no_cuda) cuda=no ;;
    --*) flags+=("$arg") ;;
    *) patterns+=("$arg") ;;
  esac
done
if ((${#patterns[@]} == 0)); then
  patterns=(//...)
  cuda=${cuda:-yes}
fi

setup=()
[[ $cuda == yes ]] && setup=(--cuda)
tools/setup.sh "${setup[@]}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

bazel query --keep_going --noshow_progress \
  "attr(tags, '\bgpu\b', tests(set(${patterns[*]})))" \
  >"$scratch/gpu" 2>"$scratch/query.log" || cat "$scratch/query.log" >&2

# Finds a CUDA toolkit or installs one. Named, Bazel sees one that has come
# after its server began.
find_toolkit() {
  local place
  for place in "${CUDA_HOME:-}" /usr/local/cuda; do
    [[ -n $place && -x $place/bin/nvcc ]] && echo "$place" && return
  done
  tools/cuda_toolkit.sh
}

# Compiles all that only --config=cuda has (kernels, for sm_80 and sm_90a, and
# the programs that test and time them), and the worker, which has more with it;
# runs those of the tests that need no GPU. Prints a line for the summary.
compile_cuda() {
  local targets=(//worker:quire_worker) toolkit
  bazel query --noshow_progress --ui_event_filters=-info \
    "attr('target_compatible_with', 'tools/bazel:incompatible', //...)" \
    >"$scratch/cuda" || {
    echo "FAIL no CUDA code was compiled: Bazel does not name it"
    return 1
  }
  mapfile -t -O "${#targets[@]}" targets <"$scratch/cuda"
  toolkit=$(find_toolkit) || {
    echo "FAIL no CUDA code was compiled: there is no toolkit, see above"
    return 1
  }
  CUDA_HOME=$toolkit bazel test --keep_going --build_tests_only=false \
    --test_tag_filters=-gpu --config=cuda "${flags[@]}" -- "${targets[@]}" >&2 || {
    echo "FAIL CUDA code does not compile"
    return 1
  }
  echo "ok all CUDA code compiles"
}

# Builds what no test needs too. Prints a line for the summary.
build_all() {
  bazel build --keep_going "${flags[@]}" -- "${patterns[@]}" >&2 || {
    echo "FAIL not everything builds"
    return 1
  }
  echo "ok everything builds"
}

status=0
bazel test --keep_going --test_tag_filters=-gpu \
  --build_event_json_file="$scratch/events.json" \
  "${flags[@]}" -- "${patterns[@]}" || status=$?
# Who may use whom; Bazel cannot be asked from inside a test.
tests/layering.sh >"$scratch/checks" || status=$?
build_all >>"$scratch/checks" || status=$?
if [[ $cuda == yes ]]; then
  compile_cuda >>"$scratch/checks" || status=$?
fi
python3 tools/test_summary.py --events="$scratch/events.json" \
  --skipped="$scratch/gpu" --checks="$scratch/checks" || exit 1
exit "$status"
