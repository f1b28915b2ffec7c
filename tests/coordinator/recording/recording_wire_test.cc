// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/recording_wire.h"

#include "gtest/gtest.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

EngineRequest Request() {
  EngineRequest request;
  request.request_id = "r";
  request.prompt = {1, 2, 70000};
  request.sampling.slot.temperature = 0.25;
  request.sampling.slot.seed = 0xffffffffffffffff;
  request.sampling.slot.stop_token_ids = {2};
  request.sampling.n = 2;
  request.sampling.best_of = 3;
  request.sampling.stop_token_ids = {2, 5};
  request.sampling.early_stopping = EarlyStopping::kNever;
  request.priority = -3;
  request.tenant = "t";
  request.use_prefix_cache = false;
  request.sampling.stop = {"secret"};
  request.deadline = absl::FromUnixSeconds(1234);
  return request;
}

TEST(RecordingWireTest, RequestsComeBackWhole) {
  const EngineRequest request = Request();
  v1::RecordedRequest message;
  EncodeRequest(request, &message);
  const EngineRequest back = DecodeRequest(message);
  EXPECT_EQ(back.request_id, request.request_id);
  EXPECT_EQ(back.prompt, request.prompt);
  EXPECT_EQ(back.sampling.slot, request.sampling.slot);
  EXPECT_EQ(back.sampling.n, request.sampling.n);
  EXPECT_EQ(back.sampling.best_of, request.sampling.best_of);
  EXPECT_EQ(back.sampling.stop_token_ids, request.sampling.stop_token_ids);
  EXPECT_EQ(back.sampling.early_stopping, request.sampling.early_stopping);
  EXPECT_EQ(back.priority, request.priority);
  EXPECT_EQ(back.tenant, request.tenant);
  EXPECT_EQ(back.use_prefix_cache, request.use_prefix_cache);
  EXPECT_EQ(back.deadline, request.deadline);
  // That there are stop strings is told, what they say is not.
  ASSERT_EQ(back.sampling.stop.size(), 1);
  EXPECT_NE(back.sampling.stop[0], "secret");
}

TEST(RecordingWireTest, OptionsComeBackWhole) {
  EngineOptions options;
  options.max_num_seqs = 7;
  options.kv_manager = "orca_max";
  options.scheduling_policy = "orca";
  options.watermark = 0.125;
  options.sliding_window = 48;
  options.sparse_pages = 8;
  options.token_multiple = 64;
  options.priority_ageing = absl::Seconds(3);
  options.tenants.tenants["a"] = {.weight = 2, .max_blocks = 9};
  options.on_group_lost = OnGroupLostAction::kRequeue;
  options.demote_prefixes = PrefixDemotion::kAlways;
  v1::RecordedOptions message;
  EncodeOptions(options, &message);
  const EngineOptions back = DecodeOptions(message);
  EXPECT_EQ(back.max_num_seqs, 7);
  EXPECT_EQ(back.kv_manager, "orca_max");
  EXPECT_EQ(back.scheduling_policy, "orca");
  EXPECT_EQ(back.watermark, 0.125);
  EXPECT_EQ(back.sliding_window, 48);
  EXPECT_EQ(back.sparse_pages, 8);
  EXPECT_EQ(back.token_multiple, 64);
  EXPECT_EQ(back.priority_ageing, absl::Seconds(3));
  EXPECT_EQ(back.tenants.Of("a").weight, 2);
  EXPECT_EQ(back.tenants.Of("a").max_blocks, 9);
  EXPECT_EQ(back.tenants.Of("b").weight, 1);
  EXPECT_EQ(back.on_group_lost, OnGroupLostAction::kRequeue);
  EXPECT_EQ(back.demote_prefixes, PrefixDemotion::kAlways);
}

TEST(RecordingWireTest, OlderRecordingsDemotedNothing) {
  EXPECT_EQ(DecodeOptions(v1::RecordedOptions()).demote_prefixes,
            PrefixDemotion::kNever);
}

TEST(RecordingWireTest, GroupsAndLossesComeBackWhole) {
  const GroupReady group = {.coordinator_epoch = Epoch(3),
                            .group_epoch = Epoch(4),
                            .num_blocks = 100,
                            .num_host_blocks = 50,
                            .swap_blocks_per_second = 0.1,
                            .prefill_tokens_per_second = 1e5,
                            .block_size = 25};
  v1::RecordedGroup message;
  EncodeGroup(group, &message);
  const GroupReady back = DecodeGroup(message);
  EXPECT_EQ(back.coordinator_epoch, group.coordinator_epoch);
  EXPECT_EQ(back.group_epoch, group.group_epoch);
  EXPECT_EQ(back.num_blocks, group.num_blocks);
  EXPECT_EQ(back.num_host_blocks, group.num_host_blocks);
  // What decisions are computed from comes back to the last bit.
  EXPECT_EQ(back.swap_blocks_per_second, group.swap_blocks_per_second);
  EXPECT_EQ(back.prefill_tokens_per_second, group.prefill_tokens_per_second);
  EXPECT_EQ(back.block_size, group.block_size);
  v1::RecordedLoss loss;
  EncodeLoss(absl::UnavailableError("rank 1"), &loss);
  EXPECT_EQ(DecodeLoss(loss), absl::UnavailableError("rank 1"));
}

}  // namespace
}  // namespace quire
