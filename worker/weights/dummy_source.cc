// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/dummy_source.h"

#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "worker/weights/float16.h"
#include "worker/weights/parallel_rows.h"
#include "worker/weights/scratch.h"

namespace quire {
namespace {

// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA'14): every input bit
// changes every output bit with probability near 1/2.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// FNV-1a; stable across runs and machines, unlike absl::Hash.
uint64_t HashName(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : name) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  return hash;
}

// Odd numbers of [-255, 255] times a power of two near 1 / (148 sqrt(cols)), as
// 148 is their deviation: exact in bfloat16's 8 bits, with mean 0 and a
// variance of about 1 / cols.
float ValueOf(uint8_t byte, int exponent) {
  return std::ldexp(static_cast<float>(2 * int{byte} - 255), exponent);
}

template <typename T, typename Convert>
std::array<T, 256> MakeTable(int64_t cols, Convert convert) {
  const double wanted = 1 / (148 * std::sqrt(static_cast<double>(cols)));
  const int exponent = static_cast<int>(std::lround(std::log2(wanted)));
  std::array<T, 256> table;
  for (int i = 0; i < 256; ++i) {
    table[i] = convert(ValueOf(static_cast<uint8_t>(i), exponent));
  }
  return table;
}

// Elements [begin, begin + n) of a tensor; eight come from each hash.
template <typename T>
void FillRun(uint64_t key, int64_t begin, int64_t n,
             const std::array<T, 256>& table, T* out) {
  int64_t i = 0;
  while (i < n) {
    const uint64_t position = static_cast<uint64_t>(begin + i);
    uint64_t hash = Mix(key ^ (position >> 3));
    int64_t lane = static_cast<int64_t>(position & 7);
    hash >>= 8 * lane;
    for (; lane < 8 && i < n; ++lane, ++i, hash >>= 8) {
      out[i] = table[hash & 0xff];
    }
  }
}

// "input_layernorm.weight", "q_norm.weight", GPT-2's "h.0.ln_1.weight".
bool IsNormWeight(absl::string_view name) {
  return absl::EndsWith(name, "norm.weight") ||
         (absl::StrContains(name, ".ln_") && absl::EndsWith(name, ".weight"));
}

template <typename T, typename Convert>
LoadedSlice Fill(uint64_t key, const WeightSlice& slice, DType dtype,
                 Convert convert, ScratchPool& scratch) {
  std::shared_ptr<void> owned =
      scratch.Lend(slice.num_rows * slice.num_cols * int64_t{sizeof(T)});
  T* out = static_cast<T*>(owned.get());
  std::array<T, 256> table = MakeTable<T>(
      slice.tensor.is_vector ? slice.tensor.rows : slice.tensor.cols, convert);
  if (slice.tensor.is_vector && IsNormWeight(slice.tensor.name)) {
    table.fill(convert(1.0f));
  }
  ParallelRows(
      slice.num_rows, slice.num_cols, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          FillRun(key,
                  (slice.first_row + row) * slice.tensor.cols + slice.first_col,
                  slice.num_cols, table, out + row * slice.num_cols);
        }
      });
  return {{out, dtype, slice.num_rows, slice.num_cols, slice.num_cols},
          std::move(owned)};
}

}  // namespace

absl::Status DummySource::Prepare(const TensorSet& /*expected*/) {
  return absl::OkStatus();
}

absl::StatusOr<LoadedSlice> DummySource::Read(const WeightSlice& slice,
                                              DType dtype) {
  const uint64_t key = Mix(Mix(seed_) ^ HashName(slice.tensor.name));
  if (dtype == DType::kBf16) {
    return Fill<uint16_t>(key, slice, dtype, FloatToBfloat16, scratch_);
  }
  return Fill<float>(
      key, slice, dtype, [](float value) { return value; }, scratch_);
}

absl::Status DummySource::Release(const WeightSlice& /*slice*/,
                                  LoadedSlice /*loaded*/) {
  return absl::OkStatus();
}

}  // namespace quire
