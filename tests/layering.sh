#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Asks Bazel whether any room uses one that it must not know. Prints a line per
# rule and, for a broken one, the path that breaks it. Exit 1 if any is broken.
# Bazel cannot query itself from inside a test, so tools/test.sh runs this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rules=(
  "coordinator kernels"
  "coordinator worker"
  "worker coordinator"
  "kernels proto"
  "kernels worker"
  "common kernels"
  "common worker"
  "common coordinator"
  "proto common"
  "coordinator tools"
  "worker tools"
  "kernels tools"
  "common tools"
  "coordinator tests"
  "worker tests"
  "kernels tests"
  "common tests"
)

broken=0
for rule in "${rules[@]}"; do
  read -r from to <<<"$rule"
  # Build macros and settings under //tools/bazel are everybody's.
  path=$(bazel query --noshow_progress --notool_deps \
    --ui_event_filters=-info,-warning \
    "somepath(//$from/..., //$to/... except //tools/bazel/...)" | tr '\n' ' ')
  if [[ -n "$path" ]]; then
    echo "FAIL $from must not use $to: $path"
    broken=1
  else
    echo "ok   $from does not use $to"
  fi
done
exit "$broken"
