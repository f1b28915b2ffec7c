// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/recorder.h"

#include <fstream>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "gtest/gtest.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TempPath(const std::string& name) {
  return testing::TempDir() + "/" + name;
}

EngineRequest Request() {
  EngineRequest request;
  request.request_id = "r";
  request.prompt = {1, 2, 70000};
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

// Collects what is logged.
class Warnings final : public google::LogSink {
 public:
  Warnings() { google::AddLogSink(this); }
  ~Warnings() override { google::RemoveLogSink(this); }
  void send(google::LogSeverity, const char*, const char*, int, const std::tm*,
            const char* message, size_t size) override {
    texts.emplace_back(message, size);
  }

  std::vector<std::string> texts;
};

TEST(RecorderTest, AFullDiskIsToldWhileItRecords) {
  Warnings warnings;
  auto recorder = Recorder::Open("/dev/full", {});
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  (*recorder)->OnPlan(nullptr, absl::UnixEpoch());
  EXPECT_EQ((*recorder)->Close().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(warnings.texts, ElementsAre(HasSubstr("No space left")));
  recorder->reset();
  EXPECT_EQ(warnings.texts.size(), 1);  // not once more
}

TEST(RecorderTest, SaysWhatItCannotWrite) {
  EXPECT_EQ(Recorder::Open("/no/such/folder/file", {}).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
