// SPDX-License-Identifier: Apache-2.0
//
// The backend's threads. They are OpenMP's, which oneDNN uses too, so that one
// pool serves both and no two pools spin against each other.
#ifndef KERNELS_CPU_THREAD_TEAM_H_
#define KERNELS_CPU_THREAD_TEAM_H_

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace quire {

// Runs loops over several threads. With one thread no OpenMP region is ever
// entered. Thread-compatible: one caller at a time.
class ThreadTeam {
 public:
  // REQUIRES: num_threads >= 1.
  explicit ThreadTeam(int num_threads) : num_threads_(num_threads) {}

  int num_threads() const { return num_threads_; }

  // Covers [0, n) by calls of body(thread, begin, end), thread in
  // [0, num_threads). Each thread first takes its own contiguous share, in
  // pieces of `grain`, so that weights stay with the memory node that first
  // touched them; then it helps with the others' shares. No more than `grain`
  // items run on the calling thread alone. Nothing may depend on which thread
  // ran an item. REQUIRES: grain >= 1; not called from within a body.
  void For(int64_t n, int64_t grain,
           absl::FunctionRef<void(int, int64_t, int64_t)> body) const;

 private:
  int num_threads_;
};

}  // namespace quire

#endif  // KERNELS_CPU_THREAD_TEAM_H_
