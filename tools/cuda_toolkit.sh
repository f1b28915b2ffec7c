#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what compiling CUDA code takes (no driver, no GPU) from NVIDIA's
# Python wheels: nvcc with its parts, headers, the static runtime, cuBLAS and
# NCCL. Prints the toolkit's folder, alone, on standard output. Does nothing
# when it is there already.
#
# Usage: tools/cuda_toolkit.sh
# QUIRE_CUDA_CACHE names another folder than ~/.cache/quire/cuda-13.0.
set -euo pipefail

# CUDA 13.0 is the oldest that every wanted driver (580 and later) runs as is.
readonly WHEELS=(
  'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*'
  'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-runtime==13.0.*'
  'nvidia-cublas==13.0.*' 'nvidia-cuda-cupti==13.0.*'
  'nvidia-nccl-cu13==2.28.*'
)
readonly TOOLKIT="${QUIRE_CUDA_CACHE:-$HOME/.cache/quire/cuda-13.0}"

die() {
  echo "cuda_toolkit: $*" >&2
  exit 1
}

main() {
  if [[ -f $TOOLKIT/.complete ]]; then
    echo "$TOOLKIT"
    return
  fi
  [[ $(uname -sm) == 'Linux x86_64' ]] || die "needs x86-64 Linux"
  python3 -m pip --version >/dev/null 2>&1 ||
    die "python3 has no pip: run tools/setup.sh --cuda"

  mkdir -p "$(dirname "$TOOLKIT")"
  # A folder of one's own, moved into place whole: two may install at once.
  local scratch
  scratch=$(mktemp -d "$TOOLKIT.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  echo "cuda_toolkit: downloading ${#WHEELS[@]} wheels, about 700 MB" >&2
  python3 -m pip install --quiet --disable-pip-version-check \
    --root-user-action=ignore --no-deps --no-compile --no-cache-dir \
    --only-binary=:all: --retries 3 --target "$scratch/site" "${WHEELS[@]}" \
    >"$scratch/pip.log" 2>&1 ||
    die "the download failed; is there a network? pip says:" \
      "$(grep -m1 ERROR "$scratch/pip.log" || tail -1 "$scratch/pip.log")"

  local found=$scratch/site/nvidia
  mv "$found/cu13" "$scratch/toolkit"
  cp -r "$found/nccl/include/." "$scratch/toolkit/include/"
  cp "$found"/nccl/lib/* "$scratch/toolkit/lib/"
  # Where an installed toolkit has it.
  ln -s lib "$scratch/toolkit/lib64"
  chmod +x "$scratch"/toolkit/bin/* "$scratch"/toolkit/nvvm/bin/*
  "$scratch/toolkit/bin/nvcc" --version >/dev/null || die "nvcc does not run"
  touch "$scratch/toolkit/.complete"
  rm -rf "$TOOLKIT"
  mv -T "$scratch/toolkit" "$TOOLKIT" || [[ -f $TOOLKIT/.complete ]] ||
    die "could not move the toolkit to $TOOLKIT"
  echo "cuda_toolkit: done in ${SECONDS} s" >&2
  echo "$TOOLKIT"
}

main
