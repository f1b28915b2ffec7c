// SPDX-License-Identifier: Apache-2.0
//
// Every way to manage memory on the real cluster: processes, sockets, two
// ranks. Streams are those of the paged cluster, token for token.
#include <grpcpp/grpcpp.h>

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"
#include "tests/integration/stream.h"

namespace quire {
namespace {

constexpr int kNumStreams = 6;

// Tokens and their log probabilities: the model may be too sure of a token for
// a difference to show in it.
struct Stream {
  std::vector<uint32_t> token_ids;
  std::vector<float> logprobs;

  friend bool operator==(const Stream&, const Stream&) = default;
};
using Streams = std::vector<Stream>;

Streams Serve(const std::vector<std::string>& flags) {
  ProcessClusterOptions options;
  options.model = ModelFolder("tools/demo_model/model");
  options.coordinator_flags = flags;
  auto cluster = ProcessCluster::Start(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  if (!cluster.ok()) return {};
  Streams streams(kNumStreams);
  std::vector<std::thread> threads;
  for (int i = 0; i < kNumStreams; ++i) {
    threads.emplace_back([&, i] {
      const auto stub = v1::Inference::NewStub(grpc::CreateChannel(
          (*cluster)->public_address(), grpc::InsecureChannelCredentials()));
      v1::GenerateRequest request =
          TextRequest(i % 2 == 0 ? "Once upon a time" : "The dog", 20 + 9 * i);
      request.mutable_sampling()->set_logprobs(0);
      const StreamOutcome outcome = RunStream(*stub, request);
      EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
      EXPECT_TRUE(outcome.complete);
      streams[i] = {outcome.token_ids, outcome.logprobs};
    });
  }
  for (std::thread& thread : threads) thread.join();
  const absl::Status leaked = (*cluster)->CheckNoLeakedBlock();
  EXPECT_TRUE(leaked.ok()) << leaked;
  const absl::Status stopped = (*cluster)->Stop();
  EXPECT_TRUE(stopped.ok()) << stopped;
  return streams;
}

TEST(KvManagerServingTest, StreamsAreThoseOfPagedMemory) {
  const Streams paged = Serve({"--num_gpu_blocks_override=200"});
  for (const Stream& stream : paged) {
    EXPECT_FALSE(stream.token_ids.empty());
    EXPECT_EQ(stream.logprobs.size(), stream.token_ids.size());
  }
  EXPECT_TRUE(Serve({"--kv_manager=virtual", "--virtual_page_size=4096",
                     "--num_gpu_blocks_override=150"}) == paged);
  EXPECT_TRUE(Serve({"--kv_manager=orca_oracle", "--scheduling_policy=orca",
                     "--num_gpu_blocks_override=40"}) == paged);
  EXPECT_TRUE(
      Serve({"--kv_manager=orca_max", "--scheduling_policy=static_batch",
             "--max_model_len=256", "--num_gpu_blocks_override=40"}) == paged);
}

TEST(KvManagerServingTest, SparseStreamsAreTheSameInAllBlocksThereAre) {
  const std::vector<std::string> sparse = {"--sparse_attention=top_pages:4",
                                           "--block_size=4",
                                           "--num_gpu_blocks_override=400"};
  const Streams paged = Serve(sparse);
  EXPECT_FALSE(paged == Serve({"--num_gpu_blocks_override=200"}));
  std::vector<std::string> reserved = sparse;
  reserved.push_back("--kv_manager=orca_oracle");
  reserved.push_back("--scheduling_policy=orca");
  EXPECT_TRUE(Serve(reserved) == paged);
}

}  // namespace
}  // namespace quire
