#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian 12 packages that Quire is built with. Does nothing, and
# needs no root, when all are there.
#
# Usage: tools/setup.sh [--cuda] [--fuzz]
#   --cuda  also what tools/cuda_toolkit.sh needs
#   --fuzz  also clang with libFuzzer, for --config=fuzz
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TOOLS=(
  bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto
  bazel-skylib ca-certificates g++ git patchelf python3
  python3-jsonschema # the judge of structured outputs in tests
)
# What tools/cuda_toolkit.sh installs the CUDA toolkit with.
readonly CUDA_TOOLS=(python3-pip)
readonly FUZZ_TOOLS=(clang-14 libclang-rt-14-dev)
# Oldest cargo that builds the text library.
readonly CARGO_OLDEST=1.87

die() {
  echo "setup: $*" >&2
  exit 1
}

# Succeeds if version $1 is at least $2.
at_least() { dpkg --compare-versions "$1" ge "$2"; }

# The libraries are listed once, where the build asserts their versions.
libraries() {
  sed -n '/^_PACKAGES = {/,/^}/s/^ *"\([^"]*\)":.*/\1/p' \
    tools/bazel/system_packages.bzl
}

has_cargo() {
  local version
  version=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [[ -n $version ]] && at_least "$version" "$CARGO_OLDEST"
}

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Reads apt's status lines (kind:package:percent:text) and shows the percent.
show_progress() {
  local kind package percent text last=0 now
  while IFS=: read -r kind package percent text; do
    [[ $kind == dlstatus || $kind == pmstatus ]] || continue
    if [[ -t 2 && -z ${NO_COLOR:-} && -z ${CI:-} ]]; then
      printf '\rsetup: %-11s %3.0f%%\e[K' \
        "$([[ $kind == dlstatus ]] && echo downloading || echo installing)" \
        "$percent" >&2
    else
      now=$SECONDS
      ((now - last >= 10)) || continue
      last=$now
      printf 'setup: %s %.0f%%\n' "$text" "$percent" >&2
    fi
  done
  if [[ -t 2 && -z ${NO_COLOR:-} && -z ${CI:-} ]]; then echo >&2; fi
}

main() {
  [[ $(uname -s) == Linux ]] ||
    die "needs Debian 12 Linux, this is $(uname -s); try a debian:12 container"
  # shellcheck disable=SC1091
  . /etc/os-release
  [[ ${ID:-} == debian && ${VERSION_ID:-} == 12 ]] ||
    die "needs Debian 12, this is ${PRETTY_NAME:-unknown}; try a debian:12 container"

  local package
  local -a wanted=("${TOOLS[@]}") missing=()
  while read -r package; do wanted+=("$package"); done < <(libraries)
  ((${#wanted[@]} > ${#TOOLS[@]})) ||
    die "tools/bazel/system_packages.bzl lists no package"
  if [[ " $* " == *' --cuda '* ]] &&
    ! python3 -m pip --version >/dev/null 2>&1; then
    wanted+=("${CUDA_TOOLS[@]}")
  fi
  [[ " $* " == *' --fuzz '* ]] && wanted+=("${FUZZ_TOOLS[@]}")
  has_cargo || wanted+=(cargo-web rustc-web)
  for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    echo "setup: all ${#wanted[@]} packages are installed" >&2
    return
  fi
  ((EUID == 0)) ||
    die "run as root, or run: apt-get install ${missing[*]}"

  echo "setup: installing ${#missing[@]} packages: ${missing[*]}" >&2
  local log
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update >"$log" 2>&1 || {
    tail -5 "$log" >&2
    die "apt-get update failed; is there a network?"
  }
  # Status lines go through the pipe, everything else into the log.
  if ! apt-get -q -y --no-install-recommends -o APT::Status-Fd=3 \
    install "${missing[@]}" 3>&1 >"$log" 2>&1 </dev/null | show_progress; then
    tail -20 "$log" >&2
    die "apt-get install failed"
  fi
  rm -f "$log"
  echo "setup: done in ${SECONDS} s" >&2
}

main "$@"
