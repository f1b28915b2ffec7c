// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/benchmark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <sstream>

#include "nlohmann/json.hpp"
#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

// By which ten seconds pass from one look to the next.
class HastyClock final : public Clock {
 public:
  absl::Time Now() const override {
    return absl::UnixEpoch() + absl::Seconds(10) * ++num_looks_;
  }
  bool AwaitUntil(absl::Mutex*, const absl::Condition& condition,
                  absl::Time) override {
    return condition.Eval();
  }

 private:
  mutable std::atomic<int> num_looks_ = 0;
};

class BenchmarkTest : public testing::Test {
 protected:
  static LoadgenOptions Options(const FakeServer& server) {
    LoadgenOptions options;
    options.target = server.address();
    options.num_prompts = 20;
    options.dataset.random_input_len = 8;
    options.dataset.random_output_len = 4;
    options.ready_check_timeout_s = 30;
    return options;
  }
  absl::Status Run(const LoadgenOptions& options) {
    Benchmark benchmark(options, ProgressStyle::kNone, &out_, &err_, &clock_);
    return benchmark.Run();
  }

  RealClock clock_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(BenchmarkTest, AFolderThatTakesNoResultIsToldBeforeTheRun) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.save_result = true;
  options.result_dir = "/proc/no/such/folder";
  const absl::Status status = Run(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("--result_dir=/proc/no/such/folder"));
  EXPECT_EQ(server.num_requests(), 0);
}

TEST_F(BenchmarkTest, AFileThatTakesNoResultIsToldBeforeTheRun) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.save_result = true;
  for (const char* name :
       {"/proc/no/such/folder/run.json", "/proc/version/run.json", "/proc"}) {
    options.result_filename = name;
    const absl::Status status = Run(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string("--result_filename=") + name));
  }
  EXPECT_EQ(server.num_requests(), 0);
}

TEST_F(BenchmarkTest, AFoldersNameMayBePartOfTheFiles) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.save_result = true;
  options.result_dir = testing::TempDir();
  options.result_filename = "week/day/run.json";
  EXPECT_TRUE(Run(options).ok()) << err_.str();
  EXPECT_TRUE(std::ifstream(testing::TempDir() + "/week/day/run.json").good());
}

TEST_F(BenchmarkTest, ADatasetThatIsNotThereIsToldBeforeAServerIsAsked) {
  LoadgenOptions options;
  options.target = "127.0.0.1:1";  // nobody's
  options.dataset.name = "custom";
  options.dataset.path = "/no/such/file";
  const absl::Status missing = Run(options);
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              HasSubstr("--dataset_path=/no/such/file"));
  options.dataset.name = "sonnet";
  const absl::Status unknown = Run(options);
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()),
              HasSubstr("--dataset_name=sonnet"));
  EXPECT_EQ(err_.str(), "");  // no server was waited for
}

TEST_F(BenchmarkTest, ReportsARun) {
  FakeServer server;
  EXPECT_TRUE(Run(Options(server)).ok()) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("Successful requests:                     "
                                    "20"));
  EXPECT_THAT(out_.str(), HasSubstr("Total input tokens:                      "
                                    "160"));
  EXPECT_THAT(out_.str(), HasSubstr("Total generated tokens:                  "
                                    "80"));
  EXPECT_EQ(server.num_requests(), 20);
}

TEST_F(BenchmarkTest, VerifiesByRepeatingEveryRequest) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.verify = true;
  EXPECT_TRUE(Run(options).ok()) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("Compared streams:                        "
                                    "20"));
  EXPECT_THAT(out_.str(), HasSubstr("Differing streams:                       "
                                    "0"));
  EXPECT_EQ(server.num_requests(), 40);
}

TEST_F(BenchmarkTest, FailsWhenARepetitionDiffers) {
  std::atomic<int> num_requests = 0;
  FakeServer server([&](const v1::GenerateRequest& request) {
    FakeServer::Script script = EchoScript(request);
    // The 25th request is the repetition of one of the first 20.
    if (++num_requests == 25) {
      script.responses[2].mutable_chunk()->set_token_ids(0, 12345);
    }
    return script;
  });
  LoadgenOptions options = Options(server);
  options.verify = true;
  options.save_result = true;
  options.result_filename = testing::TempDir() + "/differing.json";
  EXPECT_EQ(Run(options).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(out_.str(), HasSubstr("Differing streams:                       "
                                    "1"));
  EXPECT_THAT(out_.str(), HasSubstr("differs at output offset 2"));
  std::ifstream file(options.result_filename);
  EXPECT_EQ(nlohmann::json::parse(file)["differing"], 1);
}

TEST_F(BenchmarkTest, SaysWhatFailed) {
  std::atomic<int> num_requests = 0;
  FakeServer server([&](const v1::GenerateRequest& request) {
    if (++num_requests % 4 != 0) return EchoScript(request);
    return FakeServer::Script{.code = 14, .message = "worker 1 was lost"};
  });
  EXPECT_EQ(Run(Options(server)).code(), absl::StatusCode::kAborted);
  EXPECT_THAT(err_.str(),
              HasSubstr("5 failed: worker 1 was lost (UNAVAILABLE)"));
  EXPECT_THAT(out_.str(), HasSubstr("Failed requests:                         "
                                    "5"));
}

TEST_F(BenchmarkTest, SavesTheResult) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.save_detailed = true;
  options.result_dir = testing::TempDir() + "/results";
  options.result_filename = "run.json";
  ASSERT_TRUE(Run(options).ok()) << err_.str();
  std::ifstream file(options.result_dir + "/run.json");
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["model_id"], "fake");
  EXPECT_EQ(json["completed"], 20);
  EXPECT_EQ(json["output_lens"].size(), 20);
}

TEST_F(BenchmarkTest, WarmUpsAreSentButNotCounted) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.num_warmups = 3;
  ASSERT_TRUE(Run(options).ok()) << err_.str();
  EXPECT_EQ(server.num_requests(), 23);
  EXPECT_THAT(out_.str(), HasSubstr("Successful requests:                     "
                                    "20"));
}

TEST_F(BenchmarkTest, ChecksThatNoBlockIsMissing) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.check_blocks = true;
  EXPECT_TRUE(Run(options).ok()) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("8 free + 0 cached == 8"));
}

TEST_F(BenchmarkTest, CancelledRequestsAreNoFailures) {
  FakeServer server([](const v1::GenerateRequest&) {
    return FakeServer::Script{.responses = {ChunkResponse(0, {1, 2, 3, 4})},
                              .hangs = true};
  });
  LoadgenOptions options = Options(server);
  options.cancel_fraction = 1;
  EXPECT_TRUE(Run(options).ok()) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("Cancelled requests:                      "
                                    "20"));
}

TEST_F(BenchmarkTest, AnUnknownModelIsRefused) {
  FakeServer server;
  LoadgenOptions options = Options(server);
  options.model = "other";
  const absl::Status status = Run(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("serves no model other; it serves fake"));
}

TEST_F(BenchmarkTest, AServerThatIsNeverReadyIsNamed) {
  FakeServer server;
  v1::GetServerInfoResponse info;
  info.set_ready(false);
  server.set_info(info);
  HastyClock clock;
  Benchmark benchmark(Options(server), ProgressStyle::kNone, &out_, &err_,
                      &clock);
  const absl::Status status = benchmark.Run();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("was not ready within"));
}

}  // namespace
}  // namespace quire
