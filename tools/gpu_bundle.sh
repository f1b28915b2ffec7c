#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds every test that needs a GPU, the benches of GPUs and the programs that
# serve, and bundles them (bundle.sh) for gpu_check.sh. FOLDER/MANIFEST names
# each, a line `test NAME`, `bench NAME` or `program NAME`, below a line with the
# commit: what a bundle lost on its way, gpu_check.sh reports. Programs have the
# same kernels: of 690 MB, zstd -12 --long=30 makes 41.
#
# Usage: tools/gpu_bundle.sh FOLDER [--no-data] [--list]
#   FOLDER     is made, and must not exist
#   --no-data  without what tests and benches read, 31 MB: gpu_check.sh takes it
#              from the checkout that it lies in
#   --list     only prints the manifest
# BAZEL and BAZEL_FLAGS are those of bundle.sh; flags by default
# '--config=cuda90 --config=opt', for Hopper GPUs alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly programs=(//tools:quire //tools:loadgen
  //coordinator:quire_coordinator //worker:quire_worker)
# Benches of whole steps and of what groups cost the coordinator.
readonly more_benches=(//tools/bench:engine_bench
  //tests/coordinator:group_step_bench)
readonly data=(tests/golden tools/demo_model tools/bench tools/workloads)
export BAZEL=${BAZEL:-bazel}
export BAZEL_FLAGS=${BAZEL_FLAGS:---config=cuda90 --config=opt}

die() {
  echo "gpu_bundle: $*" >&2
  exit 2
}

query() {
  $BAZEL query --noshow_progress --ui_event_filters=-info "$1"
}

# Lines `kind label`.
list_targets() {
  local tests="attr(tags, '\bgpu\b', tests(//tests/...))"
  query "$tests" | sed 's/^/test /'
  query "attr(tags, '\bbench\b', attr('target_compatible_with', \
    'tools/bazel:incompatible', kind(cc_binary, //tests/...)))" |
    sed 's/^/bench /'
  printf 'bench %s\n' "${more_benches[@]}"
  # Programs that serve, and those that tests start.
  (
    query "kind(cc_binary, labels(data, $tests))"
    printf '%s\n' "${programs[@]}"
  ) | LC_ALL=C sort -u | sed 's/^/program /'
}

write_manifest() {
  local change=''
  git diff --quiet HEAD -- || change=' and changes'
  echo "commit $(git rev-parse --short=12 HEAD)$change"
  sed 's|//.*:||' <<<"$1"
}

folder='' with_data=1 only_list=''
for arg in "$@"; do
  case $arg in
    --no-data) with_data='' ;;
    --list) only_list=1 ;;
    -*) die "unknown option $arg" ;;
    *) folder=$arg ;;
  esac
done
[[ -n $folder || -n $only_list ]] || die "usage: tools/gpu_bundle.sh FOLDER"
targets=$(list_targets)
grep -q '^test ' <<<"$targets" || die "Bazel knows no test of GPUs"
# Programs lie in one folder.
twice=$(sed 's|.*:||' <<<"$targets" | sort | uniq -d)
[[ -z $twice ]] || die "two targets are named $twice"
if [[ -n $only_list ]]; then
  write_manifest "$targets"
  exit
fi
[[ ! -e $folder ]] || die "$folder exists"

mapfile -t labels < <(sed 's/^[a-z]* //' <<<"$targets")
# shellcheck disable=SC2086
$BAZEL build $BAZEL_FLAGS "${labels[@]}"
arguments=()
[[ -z $with_data ]] || arguments=("${data[@]/#/--data=}")
tools/bundle.sh "$folder" "${arguments[@]}" "${labels[@]}"
write_manifest "$targets" >"$folder/MANIFEST"
du -sh "$folder"
