#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A bundled program runs from its folder, and wants no newer C library than
# Ubuntu 22.04 has.
set -euo pipefail

tree=$TEST_TMPDIR/tree
mkdir -p "$tree"
cp -rL tools/bundle.sh tools/bundle "$tree/"
cd "$TEST_TMPDIR"
cat >dice.cc <<'PROGRAM'
#include <cstdio>
#include <random>
int main() {
  std::random_device random;
  unsigned bits = 0;
  for (int i = 0; i < 8; ++i) bits |= random();
  std::puts(bits == 0 ? "stuck" : "random");
}
PROGRAM
g++ -O1 -o dice dice.cc
said=$("$tree/bundle.sh" folder dice)
[[ $said == *'needs GLIBC_2.35: Ubuntu 22.04, Debian 12, Ubuntu 24.04' ]] ||
  { echo "unexpected: $said"; exit 1; }
[[ $(folder/bin/dice) == random ]] || { echo "the bundle does not run"; exit 1; }

# Without what Debian 12's C library has and Ubuntu 22.04's has not.
objdump -T folder/lib/libstdc++.so.6 >symbols
grep -q '(GLIBC_2.2.5) arc4random' symbols ||
  { echo "libstdc++ has kept its version"; exit 1; }
# Symbols are bound at once, and nobody complains of anything.
output=$(LD_BIND_NOW=1 folder/bin/dice 2>&1)
[[ $output == random ]] || { echo "unexpected: $output"; exit 1; }
# The C library of this machine is not asked, though it has the function.
rm folder/lib/libquire_arc4random.so
if folder/bin/dice >/dev/null 2>&1; then
  echo "nothing was tested: it runs without our function"
  exit 1
fi
