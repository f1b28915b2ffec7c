// SPDX-License-Identifier: Apache-2.0
//
// Groups of four and eight ranks, and four groups of two, as real processes:
// every stream is what one rank alone makes of it, when a rank is killed, too.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"
#include "tests/integration/stream.h"

namespace quire {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(120);

// Of a stream that is under way: far from its end.
constexpr int kSomeTokens = 20;

using Tokens = std::vector<uint32_t>;

// Eight heads, and fewer KV heads than ranks, tiny, in float32; the vocabulary
// of phi_gqa is not a multiple of any of these numbers of ranks.
class ManyRanksTest : public testing::TestWithParam<const char*> {
 protected:
  void Start(int data_parallel_size, int tensor_parallel_size) {
    ProcessClusterOptions options;
    options.model = Folder();
    options.data_parallel_size = data_parallel_size;
    options.tensor_parallel_size = tensor_parallel_size;
    // Blocks of so small a model would be millions in host memory.
    options.coordinator_flags = {"--skip_tokenizer_init", "--swap_space=0",
                                 "--on_group_lost=reform"};
    auto cluster = ProcessCluster::Start(options);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
  }

  static std::string Folder() {
    return ModelFolder(absl::StrCat("tests/golden/", GetParam()));
  }

  // Prompts of the golden files, and their beginnings.
  static std::vector<Tokens> Prompts() {
    std::ifstream file(Folder() + "/golden.json");
    const auto golden = nlohmann::json::parse(file);
    std::vector<Tokens> prompts;
    for (const auto& entry : golden["prompts"]) {
      const Tokens whole = entry["prompt"];
      prompts.push_back(whole);
      for (size_t size = 3; size < whole.size(); size += 5) {
        prompts.emplace_back(whole.begin(), whole.begin() + size);
      }
    }
    return prompts;
  }

  // What all prompts at once become. `harm`, if any, is done on this thread
  // once a stream has some tokens: children die with the thread they are of.
  std::vector<Tokens> Streams(int max_tokens,
                              const std::function<void()>& harm = nullptr) {
    const std::vector<Tokens> prompts = Prompts();
    std::vector<Tokens> streams(prompts.size());
    std::atomic<bool> is_under_way = false;
    absl::Notification under_way;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < prompts.size(); ++i) {
      threads.emplace_back([&, i] {
        streams[i] = Stream(prompts[i], max_tokens, [&](int64_t num_tokens) {
          if (num_tokens < kSomeTokens || is_under_way.exchange(true)) return;
          under_way.Notify();
        });
      });
    }
    if (harm) {
      // Failed streams never notify; nor does a stream wait for this.
      if (under_way.WaitForNotificationWithTimeout(kTimeout)) harm();
    }
    for (std::thread& thread : threads) thread.join();
    return streams;
  }

  Tokens Stream(const Tokens& prompt, int max_tokens,
                const std::function<void(int64_t num_tokens)>& on_chunk) {
    const auto stub = v1::Inference::NewStub(grpc::CreateChannel(
        cluster_->public_address(), grpc::InsecureChannelCredentials()));
    v1::GenerateRequest request = TextRequest("", max_tokens);
    request.mutable_token_ids()->mutable_ids()->Assign(prompt.begin(),
                                                       prompt.end());
    const StreamOutcome outcome = RunStream(
        *stub, request, [&](grpc::ClientContext&, int64_t num_tokens) {
          on_chunk(num_tokens);
        });
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_TRUE(outcome.complete);
    EXPECT_TRUE(outcome.contiguous);
    EXPECT_EQ(outcome.token_ids.size(), max_tokens);
    return outcome.token_ids;
  }

  void ExpectWholeAndStop() {
    const absl::Status whole = cluster_->CheckNoLeakedBlock();
    EXPECT_TRUE(whole.ok()) << whole;
    const absl::Status stopped = cluster_->Stop();
    EXPECT_TRUE(stopped.ok()) << stopped;
  }

  // As `quire serve` does: the others end by themselves, and all come anew.
  void ReplaceAll(int victim) {
    for (int rank = 0; rank < 8; ++rank) {
      const auto code = cluster_->worker(rank).Wait(kTimeout);
      ASSERT_TRUE(code.ok()) << code.status();
      EXPECT_EQ(*code, rank == victim ? 128 + SIGKILL : 1)
          << cluster_->worker(rank).Stderr();
      const absl::Status replaced = cluster_->Replace(/*group=*/0, rank);
      ASSERT_TRUE(replaced.ok()) << replaced;
    }
  }

  std::vector<Tokens> StreamsOfOneRank(int max_tokens) {
    Start(1, 1);
    if (HasFatalFailure()) return {};
    const std::vector<Tokens> streams = Streams(max_tokens);
    ExpectWholeAndStop();
    return streams;
  }

  std::unique_ptr<ProcessCluster> cluster_;
};

TEST_P(ManyRanksTest, StreamsAreThoseOfOneRank) {
  constexpr int kMaxTokens = 40;
  const std::vector<Tokens> expected = StreamsOfOneRank(kMaxTokens);
  for (const auto& [groups, ranks] :
       {std::pair<int, int>{1, 4}, {1, 8}, {4, 2}}) {
    SCOPED_TRACE(absl::StrCat(groups, " groups of ", ranks));
    ASSERT_NO_FATAL_FAILURE(Start(groups, ranks));
    EXPECT_EQ(Streams(kMaxTokens), expected);
    ExpectWholeAndStop();
  }
}

TEST_P(ManyRanksTest, AKilledRankOfEightChangesNoStream) {
  constexpr int kMaxTokens = 120;
  constexpr int kVictim = 5;
  const std::vector<Tokens> expected = StreamsOfOneRank(kMaxTokens);
  ASSERT_NO_FATAL_FAILURE(Start(1, 8));
  bool is_killed = false;
  const std::vector<Tokens> streams = Streams(kMaxTokens, [&] {
    is_killed = true;
    cluster_->worker(kVictim).Signal(SIGKILL);
    ReplaceAll(kVictim);
  });
  EXPECT_TRUE(is_killed);
  EXPECT_EQ(streams, expected);
  ExpectWholeAndStop();
}

INSTANTIATE_TEST_SUITE_P(Models, ManyRanksTest,
                         testing::Values("qwen3_eight_ranks", "phi_gqa"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace quire
