// SPDX-License-Identifier: Apache-2.0
//
// Prints the lines of a bench's cases with made-up times, as the bench does on
// a GPU, for tests of what reads them. Times are of no meaning.
//
//   sample_bench_lines attention_bench|product_bench|sampler_bench
#include <string>

#include "glog/logging.h"
#include "tests/kernels/cuda/bench_cases.h"
#include "tests/kernels/cuda/bench_line.h"

namespace quire {
namespace {

void Print(const std::string& name) {
  PrintBenchLine({name, 20, {{"limit", 15}}, "made up"});
}

void PrintAttention() {
  for (const DecodeCase& c : DecodeCases()) Print(NameOf(c));
  for (const PrefillCase& c : PrefillCases()) Print(NameOf(c));
}

void PrintProducts() {
  for (const int64_t rows : ProductRows()) {
    const BenchLine line = {
        ProductLayerName(rows),
        20,
        {{"limit", 15}, {"Lt guess", 40}, {"Lt tuned", 22}}};
    PrintBenchLine(line);
    for (const char* shape : {"QKV", "O", "gate-up", "down", "head"}) {
      if (shape == std::string("head") && rows > kMaxHeadRows) continue;
      BenchLine product = line;
      product.name = ProductName(shape, rows);
      PrintBenchLine(product);
    }
  }
}

void PrintSampling() {
  for (const char* how :
       {"temperature", "top_k 50", "top_p 0.9", "top_k 50 and top_p 0.9"}) {
    for (const int32_t rows : {1, 32, 256}) {
      for (const bool is_peaked : {true, false}) {
        Print(SamplingName(how, rows, is_peaked));
      }
    }
  }
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  const std::string bench = argv[1];
  if (bench == "attention_bench") quire::PrintAttention();
  if (bench == "product_bench") quire::PrintProducts();
  if (bench == "sampler_bench") quire::PrintSampling();
}
