#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Copies built programs and every shared library that is not part of a bare
# system into one folder that runs wherever it is put: programs find their
# libraries beside them. NVIDIA's libraries stay out: a machine with a GPU has
# them, and they are larger than all else together.
#
# Usage: tools/bundle.sh FOLDER [--data=PATH]... PROGRAM...
#   FOLDER    is made, or added to
#   PATH      a file or folder of the repository that tests read
#   PROGRAM   a file, or a Bazel label that was built with the flags that
#             BAZEL_FLAGS holds, as in BAZEL_FLAGS='--config=cuda -c opt'
#
# Programs need no newer C library than the oldest of their symbols: the last
# line says which, and which of Debian 12, Ubuntu 22.04 and 24.04 have it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

die() {
  echo "bundle: $*" >&2
  exit 1
}

# What a bare system has: the C library's own parts and the loader.
is_system() {
  case $1 in
    linux-vdso.so.* | ld-linux-x86-64.so.* | libc.so.* | libm.so.* | \
      libdl.so.* | librt.so.* | libpthread.so.* | libresolv.so.* | \
      libcuda.so.*) return 0 ;;
  esac
  return 1
}

# The file of a program, for a path or a label.
file_of() {
  if [[ $1 != //* ]]; then
    [[ -f $1 ]] || die "no file $1"
    echo "$1"
    return
  fi
  local root path target
  # An alias has no file of its own.
  target=$(${BAZEL:-bazel} query "labels(actual, $1)" 2>/dev/null)
  target=${target:-$1}
  [[ $target == *:* ]] || target=$target:${target##*/}
  path=${target#//}
  # shellcheck disable=SC2086
  root=$(${BAZEL:-bazel} info ${BAZEL_FLAGS:-} bazel-bin 2>/dev/null)
  path=$root/${path/:/\/}
  [[ -f $path ]] || die "$1 is not built: no $path"
  echo "$path"
}

# Gives an ELF file the run path $ORIGIN/$2, in place of the one it has.
set_run_path() {
  patchelf --force-rpath --set-rpath "\$ORIGIN$2" "$1"
}

newest_glibc() {
  objdump -T "$@" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1
}

# Debian 12's libstdc++ is all that needs a C library of 2.36, for one function.
# Ubuntu 22.04 has 2.35: there the function comes from a library of our own.
lower_glibc() {
  local library=$1/libstdc++.so.6
  [[ -f $library && ! -f $1/libquire_arc4random.so ]] || return 0
  [[ $(objdump -T "$library") == *'(GLIBC_2.36) arc4random'* ]] || return 0
  ${CC:-cc} -O2 -fPIC -shared -o "$1/libquire_arc4random.so" \
    "$here/bundle/arc4random.c"
  patchelf --add-needed libquire_arc4random.so "$library"
  python3 "$here/bundle/lower_version.py" "$library" GLIBC_2.36 \
    GLIBC_2.2.5
}

main() {
  (($# >= 2)) || die "usage: tools/bundle.sh FOLDER PROGRAM..."
  command -v patchelf >/dev/null || die "no patchelf: apt-get install patchelf"
  local folder=$1 program file library name
  shift
  mkdir -p "$folder/bin" "$folder/lib"
  while [[ ${1:-} == --data=* ]]; do
    mkdir -p "$folder/data/quire/$(dirname "${1#--data=}")"
    cp -rL "${1#--data=}" "$folder/data/quire/$(dirname "${1#--data=}")/"
    shift
  done
  for program in "$@"; do
    file=$(file_of "$program")
    name=$(basename "$file")
    install -m 755 "$file" "$folder/bin/$name"
    strip --strip-debug "$folder/bin/$name"
    set_run_path "$folder/bin/$name" /../lib
    while read -r library; do
      [[ $library == /* ]] || continue
      name=$(basename "$library")
      is_system "$name" && continue
      [[ -f $folder/lib/$name ]] && continue
      install -m 644 "$library" "$folder/lib/$name"
      set_run_path "$folder/lib/$name" ""
    done < <(ldd "$file" | awk '/not found/ {print "missing:" $1} {print $3}')
    if ldd "$file" | grep -q 'not found'; then
      die "$program: $(ldd "$file" | grep 'not found')"
    fi
  done
  lower_glibc "$folder/lib"
  local glibc
  glibc=$(newest_glibc "$folder"/bin/* "$folder"/lib/*)
  local systems='Ubuntu 24.04'
  if dpkg --compare-versions "${glibc#GLIBC_}" le 2.36; then
    systems="Debian 12, $systems"
  fi
  if dpkg --compare-versions "${glibc#GLIBC_}" le 2.35; then
    systems="Ubuntu 22.04, $systems"
  fi
  echo "bundle: $folder, $(du -sh "$folder" | cut -f1): $# programs," \
    "$(find "$folder/lib" -type f | wc -l) libraries; needs $glibc: $systems"
}

main "$@"
