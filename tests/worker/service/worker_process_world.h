// SPDX-License-Identifier: Apache-2.0
//
// A real coordinator of one worker process, and how both end.
#ifndef TESTS_WORKER_SERVICE_WORKER_PROCESS_WORLD_H_
#define TESTS_WORKER_SERVICE_WORKER_PROCESS_WORLD_H_

#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/process.h"
#include "tests/integration/runfiles.h"
#include "tests/integration/stream.h"

namespace quire {

class WorkerProcessWorld : public testing::Test {
 protected:
  static constexpr absl::Duration kPatience = absl::Seconds(120);
  static constexpr char kCoordinator[] = "coordinator/quire_coordinator";

  // Among the runfiles; in a bundle, beside the test.
  static std::string Program(const std::string& path) {
    const std::filesystem::path runfile = Runfile(path);
    if (std::filesystem::exists(runfile)) return runfile;
    const auto self = std::filesystem::read_symlink("/proc/self/exe");
    return self.parent_path() / runfile.filename();
  }

  // `worker` is the program and its flags but for --coordinator.
  void Start(std::vector<std::string> worker) {
    auto coordinator = Process::Start(
        {Program(kCoordinator),
         absl::StrCat("--model=", ModelFolder("tools/demo_model/model")),
         "--tensor_parallel_size=1", "--host=127.0.0.1", "--port=0",
         "--control_port=0", "--metrics_port=0", "--swap_space=0",
         "--num_gpu_blocks_override=400", "--memory_utilization=1"},
        TempPath("coordinator.log"));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = *std::move(coordinator);
    const auto line = coordinator_->ReadLine("QUIRE_LISTENING", kPatience);
    ASSERT_TRUE(line.ok()) << line.status();
    std::string control;
    for (absl::string_view word : absl::StrSplit(*line, ' ')) {
      if (absl::ConsumePrefix(&word, "public=")) public_ = std::string(word);
      if (absl::ConsumePrefix(&word, "control=")) control = std::string(word);
    }
    worker.push_back(absl::StrCat("--coordinator=", control));
    auto process = Process::Start(worker, TempPath("worker.log"));
    ASSERT_TRUE(process.ok()) << process.status();
    worker_ = *std::move(process);
  }

  void AwaitReady() {
    const auto ready = coordinator_->ReadLine("QUIRE_READY", kPatience);
    ASSERT_TRUE(ready.ok()) << ready.status();
  }

  // A stream that `on_chunk` sees, and that ends with `cause`.
  void ExpectAStreamToEndWith(
      const std::string& cause,
      const std::function<void(int64_t num_tokens)>& on_chunk) {
    const auto stub = v1::Inference::NewStub(
        grpc::CreateChannel(public_, grpc::InsecureChannelCredentials()));
    const StreamOutcome outcome =
        RunStream(*stub, TextRequest("Once upon a time", /*max_tokens=*/900),
                  [&](grpc::ClientContext&, int64_t num_tokens) {
                    on_chunk(num_tokens);
                  });
    EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(outcome.status.error_message(), testing::HasSubstr(cause));
    EXPECT_FALSE(outcome.token_ids.empty());
    EXPECT_TRUE(outcome.contiguous);
    EXPECT_FALSE(outcome.complete);
  }

  // Both end with status 1, and say this.
  void ExpectTheEnd(const std::string& worker_says,
                    const std::string& coordinator_says) {
    const auto worker = worker_->Wait(kPatience);
    ASSERT_TRUE(worker.ok()) << worker.status();
    EXPECT_EQ(*worker, 1) << worker_->Stderr();
    EXPECT_THAT(worker_->Stderr(), testing::HasSubstr(worker_says));
    const auto coordinator = coordinator_->Wait(kPatience);
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    EXPECT_EQ(*coordinator, 1) << coordinator_->Stderr();
    EXPECT_THAT(coordinator_->Stderr(), testing::HasSubstr(coordinator_says));
  }

  std::string public_;  // the coordinator's address
  std::unique_ptr<Process> coordinator_;
  std::unique_ptr<Process> worker_;
};

}  // namespace quire

#endif  // TESTS_WORKER_SERVICE_WORKER_PROCESS_WORLD_H_
