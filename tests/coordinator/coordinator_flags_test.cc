// SPDX-License-Identifier: Apache-2.0
#include "coordinator/coordinator_flags.h"

#include <string>
#include <vector>

#include "absl/flags/reflection.h"
#include "common/flags/parse_flags.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

class CoordinatorFlagsTest : public testing::Test {
 protected:
  static absl::StatusOr<CoordinatorOptions> Parse(
      std::vector<std::string> args) {
    args.insert(args.begin(), {"quire_coordinator", "--model=/m"});
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    const auto rest = ParseFlags(static_cast<int>(argv.size()), argv.data());
    EXPECT_TRUE(rest.ok()) << rest.status();
    return OptionsFromFlags();
  }

 private:
  absl::FlagSaver saver_;
};

TEST_F(CoordinatorFlagsTest, DefaultsAreThoseUsersKnow) {
  auto options = Parse({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->engine.max_num_seqs, 128);
  EXPECT_EQ(options->engine.max_num_batched_tokens, 2048);
  EXPECT_EQ(options->engine.block_size, 16);
  EXPECT_EQ(options->engine.run_ahead_depth, 2);
  EXPECT_EQ(options->engine.watermark, 0.02);
  EXPECT_EQ(options->port, 8001);
  EXPECT_EQ(options->control_port, 9000);
  EXPECT_EQ(options->metrics_port, 8002);
  EXPECT_EQ(options->launch.load_format, "safetensors");
  EXPECT_FALSE(options->reform_lost_groups);
  EXPECT_EQ(options->heartbeat_timeout, absl::Seconds(3));
  EXPECT_EQ(options->flags.at("model"), "/m");
  EXPECT_EQ(options->chat.tool_call_format, std::nullopt);
}

TEST_F(CoordinatorFlagsTest, ATenantsFileThatIsNotThereIsNamed) {
  const absl::Status status = Parse({"--tenants=/no/such/file"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("--tenants: cannot read /no/such/file"));
}

TEST_F(CoordinatorFlagsTest, ValuesReachTheirRooms) {
  auto options =
      Parse({"--max_model_len=100", "--num_gpu_blocks_override=9",
             "--load_format=dummy", "--on_group_lost=reform",
             "--step_timeout=1.5", "--heartbeat_timeout=20", "--dtype=float32",
             "--forced_preemption_period=5", "--priority_ageing=5s",
             "--demote_prefixes=always", "--watermark=0.05",
             "--sparse_attention=top_pages:32", "--data_parallel_size=4",
             "--routing=round_robin", "--tool_call_parser=llama3"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->max_model_len, 100);
  EXPECT_EQ(options->launch.num_blocks_override, 9);
  EXPECT_EQ(options->launch.load_format, "dummy");
  EXPECT_EQ(options->launch.dtype, "float32");
  EXPECT_TRUE(options->reform_lost_groups);
  EXPECT_EQ(options->watchdog.fixed, absl::Milliseconds(1500));
  EXPECT_EQ(options->heartbeat_timeout, absl::Seconds(20));
  EXPECT_EQ(options->engine.forced_preemption_period, 5);
  EXPECT_EQ(options->engine.priority_ageing, absl::Seconds(5));
  EXPECT_EQ(options->engine.watermark, 0.05);
  EXPECT_EQ(options->engine.sparse_pages, 32);
  EXPECT_EQ(options->engine.demote_prefixes, PrefixDemotion::kAlways);
  EXPECT_EQ(options->data_parallel_size, 4);
  EXPECT_EQ(options->routing, RoutingPolicy::kRoundRobin);
  EXPECT_EQ(options->chat.tool_call_format, ToolCallFormat::kLlama3);
}

TEST_F(CoordinatorFlagsTest, HostMemoryIsTakenIfAnybodyMayMoveBlocksThere) {
  struct Case {
    std::vector<std::string> flags;
    bool takes;
  };
  const std::vector<Case> cases = {
      {{"--swap_space=2"}, true},
      {{"--swap_space=2", "--preemption_mode=recompute"}, true},
      {{"--swap_space=2", "--demote_prefixes=never"}, true},
      {{"--swap_space=2", "--preemption_mode=recompute",
        "--demote_prefixes=never"},
       false},
      {{"--swap_space=2", "--preemption_mode=recompute",
        "--enable_prefix_caching=false"},
       false},
      {{"--swap_space=2", "--kv_manager=virtual"}, false},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    absl::FlagSaver saver;
    const auto options = Parse(cases[i].flags);
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->launch.swap_space_bytes,
              cases[i].takes ? int64_t{2} << 30 : 0)
        << "case " << i;
  }
}

TEST_F(CoordinatorFlagsTest, BadValuesNameTheFlagAndItsRange) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--model=", "--model is missing"},
      {"--dtype=int8", "auto or float32 or bfloat16"},
      {"--load_format=pt", "auto or safetensors or dummy"},
      {"--preemption_mode=keep", "recompute"},
      {"--demote_prefixes=true", "auto or always or never"},
      {"--kv_manager=buddy", "known: paged"},
      {"--max_num_seqs=0", "1 to 1048576"},
      {"--watermark=0.9", "0 to 0.5"},
      {"--run_ahead_depth=0", "1 to 16"},
      {"--swap_space=-1", "swap_space=-1: it may be 0 to 524288"},
      {"--on_group_lost=panic", "exit or reform"},
      {"--block_size=24", "power of two"},
      {"--block_size=512", "1 to 256"},
      {"--block_size=0", "1 to 256"},
      {"--tensor_parallel_size=0", "1 to 1024"},
      {"--data_parallel_size=0", "1 to 1024"},
      {"--routing=random", "earliest_start or round_robin"},
      {"--memory_utilization=0", "above 0"},
      {"--memory_utilization=1.1", "at most 1"},
      {"--memory_utilization=nan", "at most 1"},
      {"--num_gpu_blocks_override=-1", "0 to"},
      {"--max_model_len=-1", "2 to 1073741824"},
      {"--max_model_len=1", "max_model_len=1: it may be 2 to"},
      {"--virtual_page_size=5000", "a multiple of 64"},
      {"--scheduling_policy=lifo", "known: paged_fcfs, orca, static_batch"},
      {"--scheduling_policy=orca", "it works with orca_max"},
      {"--tool_call_parser=python",
       "tool_call_parser=python: it may be auto, hermes, llama3, mistral or"},
      {"--step_timeout=-1", "0 to"},
      {"--heartbeat_timeout=0.5", "heartbeat_timeout=0.5: it may be 1 to 30"},
      {"--heartbeat_timeout=nan", "1 to 30"},
      {"--sparse_attention=top_pages:3", "at least 4"},
      {"--sparse_attention=pages:8", "top_pages:K"},
      {"--port=65536", "0 to 65535"},
      {"--control_port=-1", "0 to 65535"},
      {"--metrics_port=70000", "0 to 65535"},
  };
  for (const auto& [flag, expected] : cases) {
    absl::FlagSaver saver;
    const absl::Status status = Parse({flag}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << flag;
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected)) << flag;
  }
}

}  // namespace
}  // namespace quire
