// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/workload.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

double MeanOutput(const std::vector<RequestLengths>& lengths) {
  double sum = 0;
  for (const RequestLengths& request : lengths) sum += request.output_len;
  return sum / lengths.size();
}

TEST(WorkloadTest, FilesHaveThePublishedMeans) {
  const auto sharegpt = ReadLengths(WorkloadFile("sharegpt"));
  ASSERT_TRUE(sharegpt.ok()) << sharegpt.status();
  EXPECT_NEAR(MeanOutput(*sharegpt), 337.99, 0.01);
  const auto alpaca = ReadLengths(WorkloadFile("alpaca"));
  ASSERT_TRUE(alpaca.ok()) << alpaca.status();
  EXPECT_NEAR(MeanOutput(*alpaca), 58.45, 0.01);
}

TEST(WorkloadTest, ArrivesAtTheRateInOrder) {
  const auto requests =
      MakeWorkload({{10, 20}}, {.rate = 4, .num_requests = 10000});
  ASSERT_EQ(requests.size(), 10000);
  for (size_t idx = 1; idx < requests.size(); ++idx) {
    EXPECT_GE(requests[idx].arrival_ns, requests[idx - 1].arrival_ns);
  }
  // The sum of n exponential gaps of mean 1/4 s has a standard deviation of
  // sqrt(n) / 4 s = 25 s; four of them.
  EXPECT_NEAR(requests.back().arrival_ns / 1e9, 2500, 100);
}

TEST(WorkloadTest, FollowsFromTheSeed) {
  const std::vector<RequestLengths> lengths = {{1, 2}, {3, 4}, {5, 6}};
  const auto once = MakeWorkload(lengths, {.num_requests = 50, .seed = 3});
  const auto again = MakeWorkload(lengths, {.num_requests = 50, .seed = 3});
  const auto other = MakeWorkload(lengths, {.num_requests = 50, .seed = 4});
  EXPECT_EQ(once[49].arrival_ns, again[49].arrival_ns);
  EXPECT_EQ(once[49].prompt_len, again[49].prompt_len);
  EXPECT_NE(once[49].arrival_ns, other[49].arrival_ns);
}

TEST(WorkloadTest, PrefixesComeInFrontOfPrompts) {
  const auto requests =
      MakeWorkload({{10, 20}}, {.num_requests = 1, .prefix_len = 80});
  EXPECT_EQ(requests[0].prompt_len, 90);
  EXPECT_EQ(requests[0].prefix_len, 80);
}

TEST(WorkloadTest, ChatsCarryWhatWasSaidUpToTheWindow) {
  const auto chats = MakeChats({{10, 5}, {20, 7}, {30, 900}, {1, 1}},
                               /*continue_probability=*/1.1, 60, 800, 1);
  ASSERT_EQ(chats.size(), 4);
  EXPECT_EQ(chats[0].prompt_len, 10);
  EXPECT_EQ(chats[1].prompt_len, 10 + 5 + 20);
  EXPECT_EQ(chats[2].prompt_len, 60);  // 72 cut
  EXPECT_EQ(chats[2].output_len, 800);
}

TEST(WorkloadTest, LognormalLengthsHaveTheirMean) {
  const auto lengths = MakeLognormalLengths(30, 40, 0.5, 2048, 20000, 1);
  // The standard deviation of one is mean * sqrt(exp(sigma^2) - 1) = 21.3; of
  // the mean of 20,000 it is 0.15, four of which, and 0.5 for rounding.
  EXPECT_NEAR(MeanOutput(lengths), 40, 1.1);
}

TEST(WorkloadTest, MergedOnesComeByArrivalUntilTheEnd) {
  const auto a =
      MakeWorkload({{10, 20}}, {.rate = 4, .num_requests = 50, .tenant = "a"});
  const auto b = MakeWorkload(
      {{10, 20}}, {.rate = 8, .num_requests = 50, .seed = 2, .tenant = "b"});
  const int64_t end_ns = b.back().arrival_ns;
  const auto merged = MergeWorkloads({a, b}, end_ns);
  size_t num_b = 0;
  for (size_t idx = 0; idx < merged.size(); ++idx) {
    EXPECT_LE(merged[idx].arrival_ns, end_ns);
    if (idx > 0) {
      EXPECT_GE(merged[idx].arrival_ns, merged[idx - 1].arrival_ns);
    }
    num_b += merged[idx].tenant == "b";
  }
  EXPECT_EQ(num_b, 50);
  EXPECT_GT(merged.size(), 50);
}

TEST(WorkloadTest, SaysWhichLineIsWrong) {
  EXPECT_EQ(ReadLengths("no/such.jsonl").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace quire
