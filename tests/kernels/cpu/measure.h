// SPDX-License-Identifier: Apache-2.0
//
// What the CPU benches measure with and against.
#ifndef TESTS_KERNELS_CPU_MEASURE_H_
#define TESTS_KERNELS_CPU_MEASURE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "glog/logging.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

inline double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

inline std::vector<Bf16> RandomBf16(int64_t count) {
  std::vector<Bf16> values(count);
  uint32_t state = 1;
  for (Bf16& value : values) {
    state = state * 1664525 + 1013904223;
    value = ToBf16(static_cast<int32_t>(state) * 4.6e-10f);
  }
  return values;
}

// Bytes a second of a plain parallel read.
inline double ReadBandwidth(const ThreadTeam& team,
                            const std::vector<uint64_t>& data) {
  std::vector<uint64_t> sums(team.num_threads());
  const double seconds = Seconds([&] {
    team.For(data.size(), 1 << 18, [&](int thread, int64_t begin, int64_t end) {
      uint64_t sum[8] = {};
      for (int64_t i = begin; i + 8 <= end; i += 8) {
        for (int j = 0; j < 8; ++j) sum[j] += data[i + j];
      }
      for (int j = 0; j < 8; ++j) sums[thread] += sum[j];
    });
  });
  CHECK_NE(sums[0], 1u);
  return data.size() * 8 / seconds;
}

inline double ReadBandwidth(int num_threads,
                            const std::vector<uint64_t>& data) {
  return ReadBandwidth(ThreadTeam(num_threads), data);
}

}  // namespace quire

#endif  // TESTS_KERNELS_CPU_MEASURE_H_
