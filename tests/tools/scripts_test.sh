#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The scripts parse, and setup.sh takes its libraries from the list that the
# build asserts.
set -euo pipefail

for script in tools/*.sh; do
  bash -n "$script"
  [[ -x $script ]] || { echo "$script is not executable"; exit 1; }
done

listed=$(grep -c '^    "[a-z]' tools/bazel/system_packages.bzl)
# Every list entry, and nothing else, comes out of setup.sh's own reading.
read_by_setup=$(sed -n '/^libraries() {/,/^}/p' tools/setup.sh)
eval "$read_by_setup"
found=$(libraries | wc -l)
if ((found != listed)) || ! libraries | grep -qx 'libgrpc++-dev'; then
  echo "setup.sh reads $found packages of $listed:"
  libraries
  exit 1
fi

# A machine that is not Debian 12 hears it in one line.
fake=$TEST_TMPDIR/bin
mkdir -p "$fake"
printf '#!/bin/sh\necho Darwin\n' >"$fake/uname"
chmod +x "$fake/uname"
if output=$(PATH=$fake:$PATH tools/setup.sh 2>&1); then
  echo "setup.sh accepted a Darwin machine"
  exit 1
fi
[[ $(wc -l <<<"$output") == 1 && $output == *"needs Debian 12"* ]] ||
  { echo "unexpected: $output"; exit 1; }

# A toolkit that cannot be downloaded is one line, and leaves nothing behind.
if python3 -m pip --version >/dev/null 2>&1; then
  if output=$(PIP_INDEX_URL=http://127.0.0.1:9/ PIP_CONFIG_FILE=/dev/null \
    QUIRE_CUDA_CACHE=$TEST_TMPDIR/toolkits/cuda tools/cuda_toolkit.sh 2>&1); then
    echo "cuda_toolkit.sh installed from nowhere"
    exit 1
  fi
  [[ $(grep -c 'the download failed' <<<"$output") == 1 &&
    $(wc -l <<<"$output") == 2 ]] || { echo "unexpected: $output"; exit 1; }
  left=$(ls "$TEST_TMPDIR/toolkits")
  [[ -z $left ]] || { echo "left behind: $left"; exit 1; }
fi
