// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/recorder.h"

#include <fstream>
#include <string>
#include <vector>

#include "coordinator/recording/recording_wire.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "gtest/gtest.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

std::string TempPath(const std::string& name) {
  return testing::TempDir() + "/" + name;
}

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
  request.deadline = absl::FromUnixSeconds(1234);
  return request;
}

std::vector<v1::Record> ReadRecords(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  google::protobuf::io::IstreamInputStream input(&in);
  using google::protobuf::util::ParseDelimitedFromZeroCopyStream;
  v1::RecordingHeader header;
  bool at_end = false;
  EXPECT_TRUE(ParseDelimitedFromZeroCopyStream(&header, &input, &at_end));
  EXPECT_EQ(header.options().block_size(), 32);
  std::vector<v1::Record> records;
  v1::Record record;
  while (ParseDelimitedFromZeroCopyStream(&record, &input, &at_end)) {
    records.push_back(record);
    record.Clear();  // parsing merges
  }
  EXPECT_TRUE(at_end);
  return records;
}

TEST(RecorderTest, WritesWhatItIsShownInOrder) {
  const std::string path = TempPath("recording");
  EngineOptions options;
  options.block_size = 32;
  auto recorder = Recorder::Open(path, options);
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  const absl::Time now = absl::FromUnixNanos(77);
  (*recorder)->OnRequest(RequestKey(9), Request(), now);
  (*recorder)->OnPlan(nullptr, now);
  StepPlan plan;
  plan.identity.step_id = StepId(5);
  plan.decodes = {SlotId(1)};
  (*recorder)->OnPlan(&plan, now);
  (*recorder)->OnFinish(RequestKey(9), FinishReason::kStop, now);
  EXPECT_TRUE((*recorder)->Close().ok());

  const std::vector<v1::Record> records = ReadRecords(path);
  ASSERT_EQ(records.size(), 4);
  EXPECT_EQ(records[0].time_ns(), 77);
  EXPECT_EQ(records[0].request().key(), 9);
  EXPECT_EQ(records[1].plan().step_id(), 0);
  EXPECT_EQ(records[1].plan().part_sizes_size(), 0);
  EXPECT_EQ(records[2].plan().step_id(), 5);
  EXPECT_EQ(records[3].finish().reason(),
            static_cast<int>(FinishReason::kStop));
}

TEST(RecorderTest, RequestsComeBackWhole) {
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
}

TEST(RecorderTest, OptionsComeBackWhole) {
  EngineOptions options;
  options.max_num_seqs = 7;
  options.kv_manager = "orca_max";
  options.scheduling_policy = "orca";
  options.watermark = 0.125;
  options.sliding_window = 48;
  options.priority_ageing = absl::Seconds(3);
  options.sparse_pages = 8;
  options.tenants.tenants["a"] = {.weight = 2, .max_blocks = 9};
  options.on_group_lost = OnGroupLostAction::kRequeue;
  v1::RecordedOptions message;
  EncodeOptions(options, &message);
  const EngineOptions back = DecodeOptions(message);
  EXPECT_EQ(back.max_num_seqs, 7);
  EXPECT_EQ(back.kv_manager, "orca_max");
  EXPECT_EQ(back.scheduling_policy, "orca");
  EXPECT_EQ(back.watermark, 0.125);
  EXPECT_EQ(back.sliding_window, 48);
  EXPECT_EQ(back.priority_ageing, absl::Seconds(3));
  EXPECT_EQ(back.sparse_pages, 8);
  EXPECT_EQ(back.tenants.Of("a").weight, 2);
  EXPECT_EQ(back.tenants.Of("a").max_blocks, 9);
  EXPECT_EQ(back.tenants.Of("b").weight, 1);
  EXPECT_EQ(back.on_group_lost, OnGroupLostAction::kRequeue);
}

TEST(RecorderTest, EndsInsteadOfHoldingMoreThanItMay) {
  const std::string path = TempPath("recording");
  EngineOptions options;
  options.block_size = 32;
  auto recorder = Recorder::Open(path, options, /*max_buffered_bytes=*/-1);
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  (*recorder)->OnPlan(nullptr, absl::UnixEpoch());
  (*recorder)->OnPlan(nullptr, absl::UnixEpoch());
  EXPECT_EQ((*recorder)->Close().code(), absl::StatusCode::kResourceExhausted);
  const std::vector<v1::Record> records = ReadRecords(path);
  ASSERT_EQ(records.size(), 1);
  EXPECT_TRUE(records[0].truncated());
}

TEST(RecorderTest, SaysWhatItCannotWrite) {
  EXPECT_EQ(Recorder::Open("/no/such/folder/file", {}).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
