// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/bench_cases.h"

#include "absl/strings/str_cat.h"

namespace quire {

std::vector<DecodeCase> DecodeCases() {
  struct Batch {
    int32_t size;
    std::vector<int32_t> contexts;
  };
  std::vector<DecodeCase> cases;
  const auto add = [&](int32_t q_heads, int32_t kv_heads,
                       const std::vector<Batch>& batches) {
    for (const Batch& batch : batches) {
      for (const int32_t context : batch.contexts) {
        cases.push_back({q_heads, kv_heads, batch.size, context});
      }
    }
  };
  add(32, 8,
      {{1, {512, 1024, 2048, 4096, 8192, 32768}},
       {8, {512, 2048, 4096, 8192, 32768}},
       {32, {512, 1024, 2048, 8192, 32768}},
       {64, {512, 1024, 4096}},
       {128, {512, 1024, 2048, 8192}},
       {256, {512, 1024, 2048}}});
  // Up to 6 GB of keys and values a layer.
  add(40, 40,
      {{1, {512, 2048, 4096, 8192, 32768}},
       {8, {512, 2048, 4096, 8192, 32768}},
       {32, {512, 1024, 2048, 8192}},
       {64, {512, 1024}},
       {128, {512, 1024, 2048}},
       {256, {512, 1024}}});
  return cases;
}

std::string NameOf(const DecodeCase& c) {
  return absl::StrCat("decode ", c.num_q_heads, "/", c.num_kv_heads, ", ",
                      c.batch, " x ", c.context);
}

std::vector<PrefillCase> PrefillCases() {
  return {{1, 128, 128},     {1, 1024, 1024},   {1, 2048, 2048},
          {1, 4096, 4096},   {1, 8192, 8192},   {1, 16384, 16384},
          {1, 8704, 512},    {8, 2048, 2048}};
}

std::string NameOf(const PrefillCase& c) {
  return absl::StrCat("prefill 32/8, ", c.batch, " x ", c.new_tokens, " of ",
                      c.context);
}

std::vector<int64_t> ProductRows() {
  return {1, 8, 32, 64, 128, 256, 512, 768, 1920};
}

std::vector<int64_t> FewProductRows() { return {1, 32, 256}; }

std::string ProductName(const std::string& shape, int64_t rows) {
  return absl::StrCat("product ", shape, ", ", rows, " rows");
}

std::string ProductLayerName(int64_t rows) {
  return absl::StrCat("layer of products, ", rows, " rows");
}

std::string SamplingName(const std::string& how, int32_t rows, bool is_peaked) {
  return absl::StrCat("sampling by ", how, ", ", rows, " rows, ",
                      is_peaked ? "peaked" : "flat");
}

}  // namespace quire
