// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_team.h"

#include <omp.h>

#include <algorithm>
#include <atomic>

namespace quire {
namespace {

// More threads than this share the counters of the first ones.
constexpr int kMaxShares = 256;

struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

}  // namespace

void ThreadTeam::For(
    int64_t n, int64_t grain,
    absl::FunctionRef<void(int, int64_t, int64_t)> body) const {
  if (n <= 0) return;
  if (num_threads_ == 1 || n <= grain) {
    body(0, 0, n);
    return;
  }
  const int64_t pieces = (n + grain - 1) / grain;
  const int team = static_cast<int>(std::min<int64_t>(num_threads_, pieces));
  const int num_shares = std::min(team, kMaxShares);
  Share shares[kMaxShares];
  for (int i = 0; i < num_shares; ++i) {
    shares[i].next = std::min(n, pieces * i / num_shares * grain);
    shares[i].end = std::min(n, pieces * (i + 1) / num_shares * grain);
  }
#pragma omp parallel num_threads(team)
  {
    const int thread = omp_get_thread_num();
    for (int i = 0; i < num_shares; ++i) {
      Share& share = shares[(thread + i) % num_shares];
      while (true) {
        const int64_t begin =
            share.next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= share.end) break;
        body(thread, begin, std::min(begin + grain, share.end));
      }
    }
  }
}

}  // namespace quire
