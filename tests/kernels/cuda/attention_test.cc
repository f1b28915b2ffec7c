// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/attention_world.h"
#include "tests/kernels/cuda/size_sample.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

constexpr int32_t kNumSms = 132;

class AttentionCudaTest : public testing::TestWithParam<DType> {};

// Inputs are standard normal, so scores stay below 8 in magnitude: float sums
// and exponentials err by less than 1e-5 of a weight, whichever their order.
// On tensor cores each weight is rounded to bfloat16 before it multiplies a
// value, which errs by up to u = 2^-8 of that product; so a result errs by up
// to u times the sum of the products' magnitudes. One rounding to T at the end.
void ExpectNear(const std::vector<AttentionWorld::Expected>& wanted,
                const Tensor& got) {
  const double u = UnitRoundoff(got.dtype());
  const double weight_error = got.dtype() == DType::kBf16 ? u : 0.0;
  ASSERT_EQ(static_cast<int64_t>(wanted.size()), got.size());
  for (int64_t at = 0; at < got.size(); ++at) {
    const AttentionWorld::Expected& want = wanted[at];
    ASSERT_NEAR(got[at], want.value,
                (weight_error + 1e-5) * want.magnitude +
                    u * std::abs(want.value) + 1e-6)
        << "element " << at;
  }
}

std::vector<AttentionWorld::Expected> Reference(
    const AttentionWorld& world, const std::vector<StepSequence>& sequences) {
  std::vector<AttentionWorld::Expected> wanted;
  for (const StepSequence& sequence : sequences) {
    const auto part = world.Reference(sequence);
    wanted.insert(wanted.end(), part.begin(), part.end());
  }
  return wanted;
}

void ExpectNear(const AttentionWorld& world,
                const std::vector<StepSequence>& sequences, const Tensor& got) {
  ExpectNear(Reference(world, sequences), got);
}

// By both families of prefill kernels, each launched with every choice, from
// caches in either order of blocks.
void ExpectNearInEitherMode(const AttentionWorld& world,
                            const std::vector<StepSequence>& sequences,
                            const std::vector<LaunchChoices>& choices = {
                                LaunchChoices()}) {
  const auto wanted = Reference(world, sequences);
  for (LaunchChoices choice : choices) {
    for (KvOrder order : {KvOrder::kTiles, KvOrder::kHeads}) {
      for (bool is_deterministic : {false, true}) {
        if (!IsSampled()) continue;
        SCOPED_TRACE(testing::Message()
                     << (is_deterministic ? "deterministic" : "default")
                     << (order == KvOrder::kHeads ? ", by heads" : ""));
        choice.order = order;
        choice.is_deterministic = is_deterministic;
        ExpectNear(wanted, world.Attend(sequences, choice));
      }
    }
  }
}

TEST_P(AttentionCudaTest, AgreesWithTheReferenceForEveryGroupAndHeadDim) {
  const std::vector<int32_t> contexts = {1, 15, 16, 17, 33, 70, 300};
  const std::vector<StepSequence> sequences = {
      {1, 1, 0},  {15, 1, 1},  {16, 16, 2}, {17, 1, 3},
      {33, 9, 4}, {70, 70, 5}, {300, 1, 6}};
  for (int32_t head_dim : {64, 80, 96, 128, 256, 20, 72}) {
    for (int32_t group : {1, 2, 3, 4, 5, 7, 8, 12, 16}) {
      if (head_dim != 128 && group != 1 && group != 4 && group != 16) continue;
      SCOPED_TRACE(testing::Message()
                   << "head dim " << head_dim << " group " << group);
      const AttentionShape shape = {group * 2, 2, head_dim};
      const AttentionWorld world(GetParam(), shape, contexts);
      ExpectNearInEitherMode(world, sequences);
    }
  }
}

TEST_P(AttentionCudaTest, AgreesWithTheReferenceAroundBlocksSplitsAndWindows) {
  const std::vector<int32_t> contexts = {255, 256, 257, 513, 600};
  const std::vector<StepSequence> sequences = {
      {255, 1, 0}, {256, 2, 1}, {257, 1, 2}, {513, 40, 3}, {600, 3, 4}};
  for (int32_t block_size : {16, 24, 32, 64, 128, 256, 600, 5, 1}) {
    for (int32_t window : {0, 1, 63, 100, 256, 599}) {
      if (block_size != 16 && window != 0 && window != 100) continue;
      SCOPED_TRACE(testing::Message()
                   << "block size " << block_size << " window " << window);
      const AttentionShape shape = {8, 2, 64, window};
      const AttentionWorld world(GetParam(), shape, contexts);
      ExpectNearInEitherMode(world, sequences, {{.block_size = block_size}});
    }
  }
}

TEST_P(AttentionCudaTest, LongContextsAgreeWithTheReference) {
  const AttentionShape shape = {4, 1, 64};
  const AttentionWorld world(GetParam(), shape, {131072, 20000, 4097});
  const std::vector<StepSequence> sequences = {
      {131072, 1, 0}, {20000, 1, 1}, {4097, 1, 2}};
  ExpectNear(world, sequences,
             world.Attend(sequences, {.repeats = 2, .say_decode = true}));
  const std::vector<StepSequence> prefill = {{4097, 6, 2}, {20000, 33, 1}};
  ExpectNearInEitherMode(world, prefill);
}

// Each shape a test of its own: sanitizers take minutes for them.
class AttentionPrefillsTest
    : public testing::TestWithParam<std::tuple<DType, AttentionShape>> {};

TEST_P(AttentionPrefillsTest, ManyOfAnyLengthAgreeWithTheReference) {
  // Around tiles of keys (128, and 64 for a head dim of 256) and of rows: whole
  // prompts, chunks with context before them, and decodes among them.
  const std::vector<int32_t> contexts = {127, 128, 129, 1,   5,   400, 383,
                                         640, 64,  256, 257, 193, 500, 31};
  std::vector<StepSequence> sequences;
  for (int32_t i = 0; i < static_cast<int32_t>(contexts.size()); ++i) {
    const int32_t chunk = i % 3 == 0 ? contexts[i] : std::min(contexts[i], 77);
    sequences.push_back({contexts[i], chunk, i});
  }
  const auto& [dtype, shape] = GetParam();
  const AttentionWorld world(dtype, shape, contexts);
  // With few multiprocessors every thread block does many tiles.
  ExpectNearInEitherMode(world, sequences, {{}, {.num_sms = 2}});
}

TEST_P(AttentionCudaTest, PrefillsDependOnNothingElseInDefaultModeEither) {
  for (const AttentionShape& shape :
       {AttentionShape{8, 2, 128}, {2, 2, 64, 70}, {6, 2, 96}, {4, 1, 256}}) {
    SCOPED_TRACE(testing::Message() << "head dim " << shape.head_dim);
    constexpr int32_t kLength = 700;
    const AttentionWorld world(GetParam(), shape, {kLength, 300});
    const int64_t row = world.row_size();
    const Tensor whole = world.Attend({{kLength, kLength, 0}});
    for (const auto& [end, size] : std::vector<std::pair<int32_t, int32_t>>{
             {5, 5}, {128, 100}, {129, 6}, {700, 7}, {700, 333}, {513, 257}}) {
      for (int32_t block_size : {16, 7, 256}) {
        if (!IsSampled()) continue;
        EXPECT_TRUE(
            world
                .Attend({{300, 31, 1}, {end, size, 0}, {200, 1, 1}},
                        {.block_size = block_size, .num_sms = 3})
                .SameBits(31 * row, whole, (end - size) * row, size * row))
            << size << " up to " << end << ", block size " << block_size;
      }
    }
  }
}

TEST_P(AttentionCudaTest, ARowWithoutKeysIsZero) {
  const AttentionShape shape = {4, 2, 128};
  const AttentionWorld world(GetParam(), shape, {40});
  // Padding of a captured graph: a token of a sequence without context.
  const Tensor out = world.Attend({{0, 1, 0}, {40, 1, 0}, {0, 1, 0}});
  const int64_t row = world.row_size();
  const Tensor alone = world.Attend({{40, 1, 0}});
  for (int64_t i = 0; i < row; ++i) {
    EXPECT_EQ(out[i], 0.0);
    EXPECT_EQ(out[2 * row + i], 0.0);
  }
  EXPECT_TRUE(out.SameBits(row, alone, 0, row));
}

// A recorded step has more tokens than its sequences.
TEST_P(AttentionCudaTest, TokensOfNoSequenceAreLeftAlone) {
  for (int32_t head_dim : {20, 128}) {
    const AttentionShape shape = {4, 2, head_dim};
    const AttentionWorld world(GetParam(), shape, {40});
    const std::vector<StepSequence> sequences = {{40, 1, 0}, {0, 0, 0}};
    for (bool is_deterministic : {false, true}) {
      LaunchChoices choices = {.is_deterministic = is_deterministic};
      const Tensor alone = world.Attend(sequences, choices);
      choices.padding = 70;
      const Tensor out = world.Attend(sequences, choices);
      ASSERT_TRUE(out.SameBits(0, alone, 0, world.row_size()));
      for (int64_t i = world.row_size(); i < out.size(); ++i) {
        ASSERT_TRUE(std::isnan(out[i])) << "element " << i;
      }
    }
  }
}

TEST_P(AttentionCudaTest, NothingToDoTouchesNothing) {
  AttentionParams params = {};
  params.cache.layout = {1, 1, 64, 16, GetParam()};
  params.num_q_heads = 1;
  EXPECT_EQ(LaunchAttentionCuda(params, {}, nullptr), cudaSuccess);
}

TEST_P(AttentionCudaTest, TooSmallAWorkspaceIsRefused) {
  if (GetParam() == DType::kF32) GTEST_SKIP() << "needs no workspace";
  AttentionParams params = {};
  params.cache.layout = {1, 1, 64, 16, GetParam()};
  params.num_q_heads = 1;
  params.num_tokens = 1;
  params.num_seqs = 1;
  AttentionCudaOptions options = {};
  options.num_sms = kNumSms;
  options.workspace_bytes = 4096;
  EXPECT_EQ(LaunchAttentionCuda(params, options, nullptr),
            cudaErrorInvalidValue);
}

class AttentionChunksTest
    : public testing::TestWithParam<std::tuple<DType, AttentionShape>> {};

// What a sequence's rows are must not depend on how they came about.
TEST_P(AttentionChunksTest, BlockSizeAndBatchAndChunksDoNotShow) {
  const auto& [dtype, shape] = GetParam();
  const int32_t length = shape.head_dim == 256 ? 300 : 700;
  const AttentionWorld world(dtype, shape, {length, 90, 700});
  const int64_t row = world.row_size();
  const Tensor whole =
      world.Attend({{length, length, 0}}, {.is_deterministic = true});
  for (int32_t block_size : {16, 64, 256, 7, length}) {
    SCOPED_TRACE(testing::Message() << "block size " << block_size);
    const LaunchChoices choices = {.block_size = block_size,
                                   .is_deterministic = true};
    if (IsSampled()) {
      EXPECT_TRUE(whole.SameBits(world.Attend({{length, length, 0}}, choices)));
    }
    for (int32_t context : {1, 63, 65, 256, 257, length - 1, length}) {
      if (!IsSampled()) continue;
      // A decode, alone and in company.
      const int64_t at = (context - 1) * row;
      EXPECT_TRUE(
          world.Attend({{context, 1, 0}}, choices).SameBits(0, whole, at, row))
          << "decode at " << context;
      EXPECT_TRUE(
          world.Attend({{90, 31, 1}, {context, 1, 0}, {700, 1, 2}}, choices)
              .SameBits(31 * row, whole, at, row))
          << "decode in company at " << context;
    }
    int32_t begin = 0;
    for (int32_t chunk : {5, 1, 250, 2, 17, 64, 3, 128, 999}) {
      const int32_t size = std::min(chunk, length - begin);
      begin += size;
      if (!IsSampled()) continue;
      EXPECT_TRUE(world.Attend({{begin, size, 0}, {90, 7, 1}}, choices)
                      .SameBits(0, whole, (begin - size) * row, size * row))
          << size << " up to " << begin;
    }
  }
}

// Contiguous rows, token after token, as virtual memory has them.
TEST_P(AttentionCudaTest, TheOrderOfTheCacheDoesNotShow) {
  for (const AttentionShape& shape :
       {AttentionShape{8, 2, 128}, AttentionShape{4, 4, 64},
        AttentionShape{6, 2, 80, 70}, AttentionShape{4, 1, 256}}) {
    const AttentionWorld world(GetParam(), shape, {700, 90, 300});
    const std::vector<StepSequence> sequences = {
        {700, 1, 0}, {90, 90, 1}, {300, 130, 2}, {650, 5, 0}};
    for (bool is_deterministic : {false, true}) {
      if (!IsSampled()) continue;
      const Tensor blocks =
          world.Attend(sequences, {.is_deterministic = is_deterministic});
      const Tensor rows =
          world.Attend(sequences, {.block_size = 1000,
                                   .is_deterministic = is_deterministic,
                                   .order = KvOrder::kTokens});
      EXPECT_TRUE(rows.SameBits(0, blocks, 0, blocks.size()))
          << shape.num_q_heads << " heads of " << shape.head_dim;
      const Tensor heads = world.Attend(
          sequences,
          {.is_deterministic = is_deterministic, .order = KvOrder::kHeads});
      EXPECT_TRUE(heads.SameBits(0, blocks, 0, blocks.size()))
          << shape.num_q_heads << " heads of " << shape.head_dim;
    }
  }
}

TEST_P(AttentionCudaTest, SplitsAndLoadDoNotShowInLongContexts) {
  // Nodes end every 1024 positions; few sequences are split, many are not.
  const AttentionShape shape = {4, 1, 128};
  const AttentionWorld world(GetParam(), shape, {9000, 1000});
  const int64_t row = world.row_size();
  const Tensor chunk =
      world.Attend({{9000, 30, 0}}, {.is_deterministic = true});
  const LaunchChoices decode = {.repeats = 2, .say_decode = true};
  EXPECT_TRUE(
      world.Attend({{9000, 1, 0}}, decode).SameBits(0, chunk, 29 * row, row));
  std::vector<StepSequence> crowd(300, {1000, 1, 1});
  crowd[150] = {9000, 1, 0};
  crowd[7] = {8990, 1, 0};
  crowd[8] = {999, 1, 1};
  const Tensor together = world.Attend(crowd, decode);
  EXPECT_TRUE(together.SameBits(150 * row, chunk, 29 * row, row));
  EXPECT_TRUE(together.SameBits(7 * row, chunk, 19 * row, row));
  const Tensor alone = world.Attend({{1000, 1, 1}});
  for (int32_t seq : {0, 9, 149, 151, 299}) {
    EXPECT_TRUE(together.SameBits(seq * row, alone, 0, row)) << seq;
  }
}

TEST_P(AttentionCudaTest, CrowdsOfShortRowsDoNotShow) {
  // Splits end every 128 positions: alone, pairs have one each; in a crowd one
  // pair has all of rows that are little longer.
  const std::vector<int32_t> contexts = {129, 160, 161, 170, 176, 177, 191, 192,
                                         193, 256, 257, 289, 300, 319, 513, 1};
  const auto num_contexts = static_cast<int32_t>(contexts.size());
  for (const AttentionShape& shape :
       {AttentionShape{4, 1, 128}, AttentionShape{4, 1, 64, 150}}) {
    SCOPED_TRACE(testing::Message() << "window " << shape.sliding_window);
    const AttentionWorld world(GetParam(), shape, contexts);
    const int64_t row = world.row_size();
    std::vector<StepSequence> crowd;
    for (int32_t i = 0; i < 600; ++i) {
      const int32_t idx = i % num_contexts;
      crowd.push_back({contexts[idx], 1, idx});
    }
    const Tensor together =
        world.Attend(crowd, {.repeats = 2, .say_decode = true});
    for (int32_t idx = 0; idx < num_contexts; ++idx) {
      const Tensor alone = world.Attend({crowd[idx]});
      ExpectNear(world, {crowd[idx]}, alone);
      for (int32_t i = idx; i < 600; i += num_contexts) {
        EXPECT_TRUE(together.SameBits(i * row, alone, 0, row))
            << contexts[idx] << " tokens, sequence " << i;
      }
    }
  }
}

TEST_P(AttentionCudaTest, HowManyDecodeDoesNotShow) {
  const AttentionShape shape = {32, 8, 128};
  const AttentionWorld world(GetParam(), shape, std::vector<int32_t>(16, 260));
  const int64_t row = world.row_size();
  constexpr int32_t kSequences = 128;
  std::mt19937 random(4);
  std::vector<StepSequence> crowd;
  for (int32_t i = 0; i < kSequences; ++i) {
    crowd.push_back({129 + static_cast<int32_t>(random() % 132), 1, i % 16});
  }
  const Tensor together = world.Attend(crowd, {.say_decode = true});
  for (const int32_t count : {128, 64, 32, 1}) {
    if (count == 1 && !IsSampled()) continue;
    for (int32_t first = 0; first < kSequences; first += count) {
      const std::vector<StepSequence> some(crowd.begin() + first,
                                           crowd.begin() + first + count);
      const Tensor got =
          world.Attend(some, {.repeats = 20, .say_decode = true});
      for (int32_t i = 0; i < count; ++i) {
        EXPECT_TRUE(got.SameBits(i * row, together, (first + i) * row, row))
            << some[i].context << " tokens, " << count << " sequences";
      }
    }
  }
}

TEST_P(AttentionCudaTest, LittleWorkspaceAndOtherLayersDoNotShow) {
  const AttentionShape shape = {4, 1, 128};
  const AttentionWorld world(GetParam(), shape, {9000, 3000});
  const std::vector<StepSequence> sequences = {
      {9000, 1, 0}, {3000, 1, 1}, {8000, 3, 0}, {500, 1, 1}, {4096, 1, 0}};
  const Tensor usual = world.Attend(sequences);
  ExpectNear(world, sequences, usual);
  EXPECT_TRUE(usual.SameBits(world.Attend(sequences, {.repeats = 5})));
  // A small device with little memory: not all that is split finds room.
  for (int32_t num_sms : {1, 2, 132}) {
    for (int64_t more : {0, 20'000, 100'000}) {
      if (!IsSampled()) continue;
      EXPECT_TRUE(
          usual.SameBits(world.Attend(sequences, {.num_sms = num_sms,
                                                  .least_workspace = true,
                                                  .more_workspace = more})))
          << num_sms << " multiprocessors, " << more << " bytes";
    }
  }
}

TEST_P(AttentionCudaTest, LargeScoresDoNotOverflow) {
  // One key dwarfs the others: its value is the answer.
  constexpr int32_t kDim = 64;
  Tensor q(GetParam(), kDim), cache(GetParam(), 2 * 4 * kDim),
      out(GetParam(), kDim);
  for (int i = 0; i < kDim; ++i) q.Set(i, 100.0f);
  for (int p = 0; p < 4; ++p) {
    for (int i = 0; i < kDim; ++i) {
      cache.Set(p * kDim + i, p == 2 ? 100.0f : -100.0f);
      cache.Set(4 * kDim + p * kDim + i, p);
    }
  }
  const DeviceCopy q_copy(q), cache_copy(cache), out_copy(out),
      zero(std::vector<int32_t>{0}), starts(std::vector<int32_t>{0, 1}),
      context(std::vector<int32_t>{4});
  AttentionParams params = {};
  params.q = q_copy.as<void>();
  params.q_stride = kDim;
  params.out = out_copy.as<void>();
  params.cache = {cache_copy.as<void>(), {1, 1, kDim, 4, GetParam()}, 0, 1};
  params.block_tables = zero.as<int32_t>();
  params.seq_slots = zero.as<int32_t>();
  params.query_start = starts.as<int32_t>();
  params.context_lens = context.as<int32_t>();
  params.max_blocks_per_seq = 1;
  params.num_seqs = 1;
  params.num_tokens = 1;
  params.num_q_heads = 1;
  params.scale = 1.0f;
  AttentionCudaOptions options = {};
  options.num_sms = kNumSms;
  options.workspace_bytes = AttentionCudaWorkspaceBytes(1, 1, kDim, kNumSms);
  const DeviceCopy workspace(options.workspace_bytes);
  options.workspace = workspace.as<void>();
  ASSERT_EQ(LaunchAttentionCuda(params, options, nullptr), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(out.data(), params.out, kDim * SizeOf(GetParam()),
                       cudaMemcpyDeviceToHost),
            cudaSuccess);
  for (int i = 0; i < kDim; ++i) EXPECT_EQ(out[i], 2.0);
}

constexpr DType kDTypes[] = {DType::kF32, DType::kBf16};

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionCudaTest, testing::ValuesIn(kDTypes),
                         [](const auto& info) {
                           return std::string(Name(info.param));
                         });

// As "bfloat16_8_of_128_by_2_window_130".
std::string NameOf(
    const testing::TestParamInfo<std::tuple<DType, AttentionShape>>& info) {
  const auto& [dtype, shape] = info.param;
  return absl::StrCat(Name(dtype), "_", shape.num_q_heads, "_of_",
                      shape.head_dim, "_by_", shape.num_kv_heads, "_window_",
                      shape.sliding_window);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionPrefillsTest,
    testing::Combine(testing::ValuesIn(kDTypes),
                     testing::Values(AttentionShape{8, 2, 128},
                                     AttentionShape{3, 3, 64},
                                     AttentionShape{8, 1, 80},
                                     AttentionShape{2, 1, 96},
                                     AttentionShape{7, 1, 256},
                                     AttentionShape{8, 2, 128, 130},
                                     AttentionShape{2, 2, 64, 5})),
    NameOf);
INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionChunksTest,
    testing::Combine(testing::ValuesIn(kDTypes),
                     testing::Values(AttentionShape{8, 2, 128},
                                     AttentionShape{2, 2, 64},
                                     AttentionShape{16, 1, 96},
                                     AttentionShape{6, 2, 80, 70},
                                     AttentionShape{4, 1, 256})),
    NameOf);

}  // namespace
}  // namespace quire
