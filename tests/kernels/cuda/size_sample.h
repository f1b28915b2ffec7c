// SPDX-License-Identifier: Apache-2.0
//
// Tests that go through many sizes can go through a sample of them: all, or
// with QUIRE_TEST_EVERY=n every n-th, for tools under which a kernel takes a
// hundred times as long.
#ifndef TESTS_KERNELS_CUDA_SIZE_SAMPLE_H_
#define TESTS_KERNELS_CUDA_SIZE_SAMPLE_H_

#include <cstdint>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "glog/logging.h"

namespace quire {

// Whether the next size belongs to the process's sample; the first one does.
// Not thread-safe.
inline bool IsSampled() {
  static const int64_t every = [] {
    const char* text = std::getenv("QUIRE_TEST_EVERY");
    int64_t n = 1;
    if (text != nullptr) {
      CHECK(absl::SimpleAtoi(text, &n) && n > 0)
          << "QUIRE_TEST_EVERY=" << text << ": want a number from 1 on";
    }
    return n;
  }();
  static int64_t next = 0;
  return next++ % every == 0;
}

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_SIZE_SAMPLE_H_
