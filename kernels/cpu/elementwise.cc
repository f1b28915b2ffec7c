// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// out = a + b over `n` elements.
template <typename A, typename T>
void AddSpan(const A* a, const T* b, T* out, int64_t n) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t i = 0; i < n; i += lanes) {
    const FloatVec sum =
        hn::Add(LoadUpTo(d, a + i, n - i), LoadUpTo(d, b + i, n - i));
    StoreUpTo(sum, d, out + i, n - i);
  }
}

void AddSpanF32(const void* a, const void* b, void* out, int64_t n) {
  AddSpan(static_cast<const float*>(a), static_cast<const float*>(b),
          static_cast<float*>(out), n);
}

void AddSpanBf16(const void* a, const void* b, void* out, int64_t n) {
  AddSpan(static_cast<const Bf16*>(a), static_cast<const Bf16*>(b),
          static_cast<Bf16*>(out), n);
}

void AddSpanF32Bf16(const void* a, const void* b, void* out, int64_t n) {
  AddSpan(static_cast<const float*>(a), static_cast<const Bf16*>(b),
          static_cast<Bf16*>(out), n);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(AddSpanF32);
HWY_EXPORT(AddSpanBf16);
HWY_EXPORT(AddSpanF32Bf16);

using AddSpanFn = void (*)(const void*, const void*, void*, int64_t);

AddSpanFn ChooseAddSpan(DType a, DType b) {
  if (b == DType::kF32) return HWY_DYNAMIC_DISPATCH(AddSpanF32);
  return a == DType::kF32 ? HWY_DYNAMIC_DISPATCH(AddSpanF32Bf16)
                          : HWY_DYNAMIC_DISPATCH(AddSpanBf16);
}

// Bytes that are worth another thread.
constexpr int64_t kGrainBytes = 64 << 10;

int64_t RowGrain(int64_t row_bytes) {
  return std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, row_bytes));
}

const char* Row(const void* base, int64_t row, int64_t row_bytes) {
  return static_cast<const char*>(base) + row * row_bytes;
}

char* Row(void* base, int64_t row, int64_t row_bytes) {
  return static_cast<char*>(base) + row * row_bytes;
}

}  // namespace

void EmbeddingCpu(const EmbeddingParams& params, DType dtype,
                  const ThreadTeam& team) {
  const int64_t row_bytes = params.width * SizeOf(dtype);
  team.For(params.num_tokens, RowGrain(row_bytes),
           [&](int, int64_t begin, int64_t end) {
             for (int64_t t = begin; t < end; ++t) {
               int64_t id = params.ids[t];
               if (id < 0 && params.sampled != nullptr)
                 id = params.sampled[~id];
               const int64_t row = id - params.first_id;
               char* out = Row(params.out, t, row_bytes);
               if (row >= 0 && row < params.num_rows) {
                 std::memcpy(out, Row(params.table, row, row_bytes), row_bytes);
               } else {
                 std::memset(out, 0, row_bytes);
               }
             }
           });
}

void AddRowsCpu(const AddRowsParams& params, DType dtype,
                const ThreadTeam& team) {
  const int64_t row_bytes = params.width * SizeOf(dtype);
  const AddSpanFn add = ChooseAddSpan(dtype, dtype);
  team.For(params.num_tokens, RowGrain(row_bytes),
           [&](int, int64_t begin, int64_t end) {
             for (int64_t t = begin; t < end; ++t) {
               const int64_t row = int64_t{params.indices[t]} + params.offset;
               char* x = Row(params.x, t, row_bytes);
               add(x, Row(params.table, row, row_bytes), x, params.width);
             }
           });
}

void GatherRowsCpu(const GatherRowsParams& params, DType dtype,
                   const ThreadTeam& team) {
  const int64_t row_bytes = params.width * SizeOf(dtype);
  team.For(params.num_rows, RowGrain(row_bytes),
           [&](int, int64_t begin, int64_t end) {
             for (int64_t r = begin; r < end; ++r) {
               std::memcpy(Row(params.out, r, row_bytes),
                           Row(params.x, params.rows[r], row_bytes), row_bytes);
             }
           });
}

void CopyRunsCpu(const CopyRunsParams& params) {
  for (int32_t i = 0; i < params.num_runs; ++i) {
    const WordRun& run = params.runs[i];
    std::copy_n(params.values + run.from, run.count, params.out + run.to);
  }
}

void AddCpu(const AddParams& params, DType dtype, const ThreadTeam& team) {
  const AddSpanFn add = ChooseAddSpan(params.a_dtype, dtype);
  const int64_t a_bytes = SizeOf(params.a_dtype);
  const int64_t t_bytes = SizeOf(dtype);
  team.For(params.n, kGrainBytes / t_bytes,
           [&](int, int64_t begin, int64_t end) {
             add(Row(params.a, begin, a_bytes), Row(params.b, begin, t_bytes),
                 Row(params.out, begin, t_bytes), end - begin);
           });
}

}  // namespace quire
#endif  // HWY_ONCE
