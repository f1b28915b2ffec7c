// SPDX-License-Identifier: Apache-2.0
//
// An engine on its thread, four clients, and a file of what happened.
#include "tools/replay/replayer.h"

#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/recording/recorder.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "gtest/gtest.h"
#include "proto/recording.pb.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

std::string TempPath(const std::string& name) {
  return testing::TempDir() + "/" + name;
}

constexpr int kNumClients = 4;
constexpr int kRequestsPerClient = 260;

// Counts last words.
class Ear final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput> outputs) override {
    absl::MutexLock lock(&mutex_);
    for (const SequenceOutput& output : outputs) {
      num_ended_ +=
          output.finish_reason != FinishReason::kNone || !output.status.ok();
    }
  }
  void WaitFor(int num_ended) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] { return num_ended_ >= num_ended; };
    mutex_.Await(absl::Condition(&there));
  }

 private:
  absl::Mutex mutex_;
  int num_ended_ = 0;
};

EngineRequest MakeRequest(const std::string& id, int32_t num_prompt_tokens,
                          int32_t max_tokens, uint64_t seed) {
  EngineRequest request;
  request.request_id = id;
  for (int32_t i = 0; i < num_prompt_tokens; ++i) {
    request.prompt.push_back(
        static_cast<TokenId>((seed * 31 + i) % kSimulatedVocabSize));
  }
  request.sampling.slot.seed = seed;
  request.sampling.max_tokens = max_tokens;
  return request;
}

EngineOptions Options() {
  EngineOptions options;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 600;
  options.block_size = 4;
  options.max_queued_requests = 2000;
  options.forced_preemption_period = 97;
  return options;
}

// Of a client's requests, the one in so many that it cancels.
constexpr int kCancelPeriod = 13;
constexpr int kCancelPhase = 5;

// Serves 1,040 requests from four threads and records them in `path`. One in
// thirteen is cancelled, and somebody is preempted now and then.
void RecordRun(const std::string& path, const EngineOptions& options) {
  RealClock clock;
  Ear ear;
  SimulatedWorkerGroup workers({.num_blocks = 200,
                                .block_size = 4,
                                .max_num_seqs = 16,
                                .sliding_window = options.sliding_window});
  auto recorder = Recorder::Open(path, options);
  ASSERT_TRUE(recorder.ok()) << recorder.status();
  auto loop = EngineLoop::Create(options, &ear, &clock);
  ASSERT_TRUE(loop.ok()) << loop.status();
  (*loop)->Observe(recorder->get());
  workers.DeliverTo(loop->get());
  (*loop)->OnGroupReady(workers.Begin(1));
  (*loop)->Start(&workers);
  ASSERT_TRUE((*loop)->AwaitReady(absl::InfiniteFuture()));
  std::vector<std::thread> clients;
  for (int client = 0; client < kNumClients; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < kRequestsPerClient; ++i) {
        const auto key = (*loop)->Submit(
            MakeRequest(absl::StrCat(client, "/", i), 1 + i * 7 % 90,
                        1 + i * 3 % 40, client * 1000 + i));
        ASSERT_TRUE(key.ok()) << key.status();
        if (i % kCancelPeriod == kCancelPhase)
          (*loop)->Finish(*key, FinishReason::kCancelled);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  ear.WaitFor(kNumClients * kRequestsPerClient * 3 / 4);
  (*loop)->Drain(absl::InfiniteFuture());
  (*loop)->Stop();
  EXPECT_TRUE((*recorder)->Close().ok());
  EXPECT_TRUE(workers.status().ok()) << workers.status();
}

// Whether the record is a request that nobody cancels, so that it shows.
bool IsServedRequest(const v1::Record& record) {
  if (!record.has_request()) return false;
  const std::string& id = record.request().request_id();
  const int i = std::stoi(id.substr(id.find('/') + 1));
  return i % kCancelPeriod != kCancelPhase;
}

// Copies a recording through `change`, which returns false to drop a record.
std::string Mutate(const std::string& path,
                   const std::function<bool(v1::Record*)>& change) {
  using google::protobuf::util::ParseDelimitedFromZeroCopyStream;
  using google::protobuf::util::SerializeDelimitedToOstream;
  const std::string changed = TempPath("changed.quire");
  std::ifstream in(path, std::ios::binary);
  std::ofstream out(changed, std::ios::binary);
  google::protobuf::io::IstreamInputStream input(&in);
  v1::RecordingHeader header;
  bool at_end = false;
  EXPECT_TRUE(ParseDelimitedFromZeroCopyStream(&header, &input, &at_end));
  SerializeDelimitedToOstream(header, &out);
  v1::Record record;
  while (ParseDelimitedFromZeroCopyStream(&record, &input, &at_end)) {
    if (change(&record)) SerializeDelimitedToOstream(record, &out);
    record.Clear();  // parsing merges
  }
  return changed;
}

class ReplayerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ = TempPath("run.quire");
    RecordRun(path_, Options());
  }

  static std::string path_;
};

std::string ReplayerTest::path_;

TEST_F(ReplayerTest, EveryStepOfARunComesOutAsRecorded) {
  const auto report = Replay(path_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_FALSE(report->cut_off);
  EXPECT_EQ(report->num_requests, kNumClients * kRequestsPerClient);
  // 16 sequences a step at most, 20 tokens each on average.
  EXPECT_GT(report->num_plans, 1000);
  EXPECT_GE(report->num_plans, report->num_results);
}

TEST_F(ReplayerTest, WhatAWindowLeavesBehindComesOutAsRecorded) {
  EngineOptions options = Options();
  options.sliding_window = 24;
  const std::string path = absl::StrCat(path_, ".window");
  RecordRun(path, options);
  const auto report = Replay(path);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_GT(report->num_plans, 1000);
}

TEST_F(ReplayerTest, NoticesALostRequest) {
  int num_requests = 0;
  const auto report = Replay(Mutate(path_, [&](v1::Record* record) {
    return !IsServedRequest(*record) || ++num_requests != 500;
  }));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_NE(report->difference.find("was recorded"), std::string::npos);
  EXPECT_NE(report->difference.find("before it:"), std::string::npos);
}

TEST_F(ReplayerTest, NoticesOneTokenMoreInAPrompt) {
  int num_requests = 0;
  const auto report = Replay(Mutate(path_, [&](v1::Record* record) {
    if (IsServedRequest(*record) && ++num_requests == 300) {
      record->mutable_request()->mutable_prompt()->append(4, '\1');
    }
    return true;
  }));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_NE(report->difference, "");
}

TEST_F(ReplayerTest, NoticesADigestThatIsOff) {
  int64_t num_plans = 0;
  const auto report = Replay(Mutate(path_, [&](v1::Record* record) {
    if (record->has_plan() && record->plan().step_id() != 0 &&
        ++num_plans == 700) {
      record->mutable_plan()->set_digest(record->plan().digest() ^ 1);
    }
    return true;
  }));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->num_plans, 699);
  EXPECT_NE(report->difference.find("all parts have the recorded sizes"),
            std::string::npos);
}

TEST_F(ReplayerTest, AFileThatEndsInARecordIsReadUpToThere) {
  std::ifstream in(path_, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const std::string cut = TempPath("cut.quire");
  std::ofstream(cut, std::ios::binary) << bytes.substr(0, bytes.size() - 1);
  const auto report = Replay(cut);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->cut_off);
  EXPECT_EQ(report->difference, "");
}

TEST_F(ReplayerTest, RefusesWhatIsNoRecording) {
  EXPECT_EQ(Replay("no/such.quire").status().code(),
            absl::StatusCode::kNotFound);
  const std::string text = TempPath("text.quire");
  std::ofstream(text) << "hello";
  EXPECT_EQ(Replay(text).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
