// SPDX-License-Identifier: Apache-2.0
//
// What libstdc++ asks of a C library of 2.36 and an older one has not: random
// numbers for std::random_device.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

uint32_t arc4random(void) {
  uint32_t number;
  // So few bytes come whole, or not at all.
  while (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
  }
  return number;
}
