// SPDX-License-Identifier: Apache-2.0
//
// Embedding, learned positions, gathered rows and sums: all exact, so results
// are compared bit by bit.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

using ElementwiseTest = PerDtypeTest;

TEST_P(ElementwiseTest, EmbeddingIsZeroForAnotherRanksIds) {
  for (int32_t width : {1, 17, 64}) {
    const Tensor table = Tensor::Random(GetParam(), 10 * width, 1);
    const std::vector<int32_t> ids = {20, 29, 19, 30, 0, 24, -1};
    Tensor out(GetParam(), ids.size() * width);
    const EmbeddingParams params = {
        ids.data(),      table.data(), out.data(),
        /*first_id=*/20,
        /*num_rows=*/10, width,        static_cast<int32_t>(ids.size())};
    ASSERT_TRUE(backend_->Embedding(params).ok());
    for (size_t t = 0; t < ids.size(); ++t) {
      const int32_t row = ids[t] - 20;
      for (int32_t i = 0; i < width; ++i) {
        EXPECT_EQ(out[t * width + i],
                  row >= 0 && row < 10 ? table[row * width + i] : 0.0);
      }
    }
  }
}

TEST_P(ElementwiseTest, EmbeddingTakesUnknownIdsFromWhereTheyWereSampled) {
  const int32_t width = 24;
  const Tensor table = Tensor::Random(GetParam(), 10 * width, 1);
  const std::vector<int32_t> ids = {3, ~0, ~4, 9};
  const std::vector<int32_t> sampled = {7, -1, -1, -1, 12};
  const std::vector<int32_t> rows = {3, 7, -1, 9};  // 12 is another rank's
  Tensor out(GetParam(), ids.size() * width);
  EmbeddingParams params = {
      ids.data(),      table.data(), out.data(),
      /*first_id=*/0,
      /*num_rows=*/10, width,        static_cast<int32_t>(ids.size())};
  params.sampled = sampled.data();
  ASSERT_TRUE(backend_->Embedding(params).ok());
  for (size_t t = 0; t < ids.size(); ++t) {
    for (int32_t i = 0; i < width; ++i) {
      EXPECT_EQ(out[t * width + i],
                rows[t] >= 0 ? table[rows[t] * width + i] : 0.0);
    }
  }
}

TEST_P(ElementwiseTest, RunsOfWordsGoToTheirPlacesAndNowhereElse) {
  std::vector<int32_t> values(700);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1000 + i;
  const std::vector<WordRun> runs = {{0, 5, 1}, {1, 900, 600}, {690, 0, 3}};
  std::vector<int32_t> out(1600, -7);
  std::vector<int32_t> want = out;
  for (const WordRun& run : runs) {
    for (int32_t i = 0; i < run.count; ++i) {
      want[run.to + i] = values[run.from + i];
    }
  }
  ASSERT_TRUE(backend_
                  ->CopyRuns({runs.data(), values.data(), out.data(),
                              static_cast<int32_t>(runs.size())})
                  .ok());
  want.resize(1500);
  out.resize(1500);
  EXPECT_EQ(out, want);
}

TEST_P(ElementwiseTest, AddRowsAddsTheRowAtIndexPlusOffset) {
  const int32_t width = 35;
  const Tensor table = Tensor::Random(GetParam(), 8 * width, 2);
  const Tensor before = Tensor::Random(GetParam(), 3 * width, 3);
  const std::vector<int32_t> indices = {5, 0, 5};
  Tensor x = before;
  ASSERT_TRUE(backend_
                  ->AddRows({x.data(), table.data(), indices.data(),
                             /*offset=*/2, width, 3})
                  .ok());
  Tensor want(GetParam(), 3 * width);
  for (int32_t i = 0; i < 3 * width; ++i) {
    want.Set(i, static_cast<float>(before[i]) +
                    static_cast<float>(
                        table[(indices[i / width] + 2) * width + i % width]));
  }
  EXPECT_TRUE(x.SameBits(want));
}

TEST_P(ElementwiseTest, GatherRowsTakesRowsInTheirOrder) {
  const int32_t width = 19;
  const Tensor x = Tensor::Random(GetParam(), 6 * width, 4);
  const std::vector<int32_t> rows = {5, 1, 1};
  Tensor out(GetParam(), 3 * width);
  ASSERT_TRUE(
      backend_->GatherRows({x.data(), rows.data(), out.data(), width, 3}).ok());
  for (int32_t r = 0; r < 3; ++r) {
    EXPECT_TRUE(out.SameBits(r * width, x, rows[r] * width, width));
  }
}

TEST_P(ElementwiseTest, AddRoundsOnceAndMayAlias) {
  // Long enough for several threads.
  for (int64_t n : {1, 15, 16, 17, 100003}) {
    for (DType a_dtype : {GetParam(), DType::kF32}) {
      const Tensor a = Tensor::Random(a_dtype, n, 5);
      const Tensor b = Tensor::Random(GetParam(), n, 6);
      Tensor want(GetParam(), n), out(GetParam(), n), over_b = b;
      for (int64_t i = 0; i < n; ++i) {
        want.Set(i, static_cast<float>(a[i]) + static_cast<float>(b[i]));
      }
      ASSERT_TRUE(
          backend_->Add({a.data(), a_dtype, b.data(), out.data(), n}).ok());
      EXPECT_TRUE(out.SameBits(want));
      ASSERT_TRUE(
          backend_->Add({a.data(), a_dtype, over_b.data(), over_b.data(), n})
              .ok());
      EXPECT_TRUE(over_b.SameBits(want));
    }
  }
}

TEST_P(ElementwiseTest, NoTokensAreNoWork) {
  EXPECT_TRUE(
      backend_->Embedding({nullptr, nullptr, nullptr, 0, 4, 8, 0}).ok());
  EXPECT_TRUE(backend_->AddRows({nullptr, nullptr, nullptr, 0, 8, 0}).ok());
  EXPECT_TRUE(backend_->GatherRows({nullptr, nullptr, nullptr, 8, 0}).ok());
  EXPECT_TRUE(backend_->Add({nullptr, GetParam(), nullptr, nullptr, 0}).ok());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ElementwiseTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
