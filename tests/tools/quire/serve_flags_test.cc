// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/serve_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

absl::StatusOr<LauncherOptions> Parse(std::vector<std::string> args,
                                      int64_t num_cores = 8) {
  ServeFlags serve;
  FlagSet flags("test", "");
  AddServeFlags(&serve, &flags);
  args.insert(args.end(), {"--coordinator_binary=/c", "--worker_binary=/w"});
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return positional.status();
  return ToLauncherOptions(serve, "/launcher", num_cores);
}

TEST(ServeFlagsTest, DividesTheCoresAmongTheWorkers) {
  const auto options =
      Parse({"--model=/m", "--tensor_parallel_size", "3"}, /*num_cores=*/8);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->num_workers, 3);
  EXPECT_THAT(options->worker_flags,
              ElementsAre("--device=cpu", "--port=0", "--num_threads=2"));
  EXPECT_THAT(options->coordinator_flags,
              ElementsAre("--model=/m", "--tensor_parallel_size=3"));
}

TEST(ServeFlagsTest, AWorkerHasAtLeastOneThread) {
  const auto options =
      Parse({"--model=/m", "--tensor_parallel_size=4"}, /*num_cores=*/2);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->worker_flags, Contains("--num_threads=1"));
}

TEST(ServeFlagsTest, OnlyCpuWorkersGetThreads) {
  const auto options = Parse({"--model=/m", "--device=cuda"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->worker_flags, ElementsAre("--device=cuda", "--port=0"));
}

TEST(ServeFlagsTest, CudaWorkersAreToldWhatConcernsThem) {
  const auto options = Parse({"--model=/m", "--device=cuda", "--deterministic",
                              "--gemm_cache=/cache", "--device_wait=sleep"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->worker_flags,
              ElementsAre("--device=cuda", "--port=0", "--deterministic",
                          "--gemm_cache=/cache", "--device_wait=sleep"));
  // CPU workers are never anything else; they have no such file.
  const auto cpu = Parse({"--model=/m", "--deterministic"});
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  EXPECT_THAT(cpu->worker_flags, testing::Not(Contains("--deterministic")));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Parse({"--model=/m", "--gemm_cache=/cache"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Parse({"--model=/m", "--device_wait=sleep"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Parse({"--model=/m", "--device=cuda", "--device_wait=yield"}).status()));
}

TEST(ServeFlagsTest, CoordinatorFlagsArePassedOn) {
  const auto options = Parse({"--model=/m", "--max_num_seqs=4", "--port", "0"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->coordinator_flags, Contains("--max_num_seqs=4"));
  EXPECT_THAT(options->coordinator_flags, Contains("--port=0"));
}

TEST(ServeFlagsTest, RelativeModelsAreMadeAbsolute) {
  const auto options = Parse({"--model=some/model"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->coordinator_flags.front(),
              testing::StartsWith("--model=/"));
  EXPECT_THAT(options->coordinator_flags.front(),
              testing::EndsWith("/some/model"));
}

TEST(ServeFlagsTest, SeveralGroupsShareTheCoresAndGetGpusOfTheirOwn) {
  const auto options =
      Parse({"--model=/m", "--tensor_parallel_size=2", "--data_parallel_size=4",
             "--on_group_lost=reform"},
            /*num_cores=*/32);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->num_workers, 2);
  EXPECT_EQ(options->num_groups, 4);
  EXPECT_TRUE(options->restarts_workers);
  EXPECT_FALSE(options->numbers_gpus);
  EXPECT_THAT(options->worker_flags, Contains("--num_threads=4"));
  EXPECT_THAT(options->coordinator_flags,
              ElementsAre("--model=/m", "--tensor_parallel_size=2",
                          "--data_parallel_size=4", "--on_group_lost=reform"));
  const auto cuda =
      Parse({"--model=/m", "--device=cuda", "--data_parallel_size=2"});
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  EXPECT_TRUE(cuda->numbers_gpus);
  EXPECT_FALSE(cuda->restarts_workers);
}

TEST(ServeFlagsTest, BadValuesAreRefused) {
  for (const std::string flag :
       {"--tensor_parallel_size=0", "--tensor_parallel_size=65", "--device=tpu",
        "--num_threads=-1", "--data_parallel_size=0", "--data_parallel_size=65",
        "--grace_s=-1", "--grace_s=nan", "--ready_file=/nowhere/ready"}) {
    const absl::Status status = Parse({"--model=/m", flag}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << flag;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(flag));
  }
  // Of which the product is 0 in 64 bits.
  EXPECT_EQ(Parse({"--model=/m", "--tensor_parallel_size=4",
                   "--data_parallel_size=4611686018427387904"})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
