#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests under AddressSanitizer with UndefinedBehaviorSanitizer, then
# under ThreadSanitizer, and stops at the first that is not clean. Kept out of
# tools/test.sh because it builds everything twice more: about half an hour on
# two cores.
#
# Usage: tests/sanitizers.sh [target]...      (default: //tests/...)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(($# > 0)) || set -- //tests/...
bazel test --config=asan --config=ubsan --test_tag_filters=-gpu -- "$@"
bazel test --config=tsan --test_tag_filters=-gpu -- "$@"
