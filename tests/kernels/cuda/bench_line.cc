// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/bench_line.h"

#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace quire {
namespace {

void CheckTime(double us, const std::string& name) {
  CHECK(std::isfinite(us) && us > 0) << name << " took " << us << " us";
}

}  // namespace

std::string BenchLineText(const BenchLine& line) {
  CheckTime(line.us, line.name);
  std::string text = absl::StrFormat("%-46s %10.2f us", line.name, line.us);
  for (const BenchLine::Other& other : line.others) {
    CheckTime(other.us, other.name);
    // Limits of single rows are hundredths of a microsecond.
    absl::StrAppendFormat(&text, ", %s %.4f us", other.name, other.us);
  }
  if (!line.remark.empty()) absl::StrAppendFormat(&text, "; %s", line.remark);
  return text;
}

void PrintBenchLine(const BenchLine& line) {
  std::printf("%s\n", BenchLineText(line).c_str());
  std::fflush(stdout);
}

}  // namespace quire
