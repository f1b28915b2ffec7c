// SPDX-License-Identifier: Apache-2.0
//
// What a bench prints of one kernel: the line that tools/kernel_bench.py reads.
//
//   <name>   <us> us[, <other> <us> us]...[; <remark>]
#ifndef TESTS_KERNELS_CUDA_BENCH_LINE_H_
#define TESTS_KERNELS_CUDA_BENCH_LINE_H_

#include <string>
#include <vector>

namespace quire {

// bf16 products of 8,192 cubed by cuBLASLt on an H200, random data: 770 to 798
// TFLOP/s at its power limit.
inline constexpr double kTensorFlopsPerUs = 790e6;
// A copy's bytes read and written on an H200: what weights are read at.
inline constexpr double kCopyBytesPerUs = 4.27e6;

struct BenchLine {
  // What took how long for the same work: "limit" is what the hardware needs
  // at least, anything else a peer. No commas or semicolons in names.
  struct Other {
    std::string name;
    double us;
  };

  std::string name;  // its first words say of what kind it is
  double us;
  std::vector<Other> others = {};
  std::string remark = "";  // for people
};

// REQUIRES: times above 0 and finite.
std::string BenchLineText(const BenchLine& line);

// To standard output at once, with a newline.
void PrintBenchLine(const BenchLine& line);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_BENCH_LINE_H_
