// SPDX-License-Identifier: Apache-2.0
//
// However memory is managed and whoever decides, real workers give the tokens
// that they give over paged memory, bitwise.
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

constexpr int kNumPrompts = 16;
constexpr int kVocabSize = 4096;

std::vector<EngineRequest> Requests() {
  std::mt19937 random(20240507);
  std::vector<EngineRequest> requests(kNumPrompts);
  for (int i = 0; i < kNumPrompts; ++i) {
    EngineRequest& request = requests[i];
    request.request_id = absl::StrCat("r", i);
    const int num_prompt_tokens = 1 + static_cast<int>(random() % 100);
    for (int t = 0; t < num_prompt_tokens; ++t) {
      request.prompt.push_back(static_cast<TokenId>(random() % kVocabSize));
    }
    request.sampling.max_tokens = 4 + static_cast<int>(random() % 20);
    request.sampling.slot.seed = random();
    request.sampling.slot.temperature = i % 2 == 0 ? 0.0f : 0.9f;
  }
  return requests;
}

InProcessRun RunAll(InProcessSetting setting) {
  setting.model = ModelFolder("tools/demo_model/model");
  return RunInProcess(setting, Requests());
}

const std::vector<std::vector<TokenId>>& Paged(int32_t tensor_parallel_size) {
  static auto* cache = new std::map<int32_t, std::vector<std::vector<TokenId>>>;
  std::vector<std::vector<TokenId>>& streams = (*cache)[tensor_parallel_size];
  if (streams.empty()) {
    InProcessSetting setting;
    setting.tensor_parallel_size = tensor_parallel_size;
    streams = RunAll(setting).streams;
  }
  return streams;
}

class KvManagersTest : public testing::TestWithParam<InProcessSetting> {};

TEST_P(KvManagersTest, StreamsAreThoseOverPagedMemory) {
  const InProcessRun run = RunAll(GetParam());
  EXPECT_EQ(run.streams, Paged(GetParam().tensor_parallel_size));
  if (GetParam().forced_preemption_period > 0) {
    EXPECT_GT(run.num_preemptions, 0);
  }
}

std::vector<InProcessSetting> Settings() {
  std::vector<InProcessSetting> settings;
  for (const char* manager : {"orca_max", "orca_pow2", "orca_oracle"}) {
    for (const char* policy : {"orca", "static_batch"}) {
      InProcessSetting setting;
      setting.kv_manager = manager;
      setting.scheduling_policy = policy;
      setting.max_num_batched_tokens = 128;
      setting.num_blocks = 45;  // two of the longest reservations
      settings.push_back(setting);
    }
  }
  return settings;
}

std::vector<InProcessSetting> VirtualSettings() {
  std::vector<InProcessSetting> settings;
  const auto add = [&](int64_t page_bytes, int32_t num_groups, auto change) {
    for (int32_t tensor_parallel_size : {1, 2}) {
      InProcessSetting setting;
      setting.kv_manager = "virtual";
      setting.virtual_page_bytes = page_bytes;
      setting.num_blocks = num_groups;
      setting.tensor_parallel_size = tensor_parallel_size;
      change(setting);
      settings.push_back(setting);
    }
  };
  const auto keep = [](InProcessSetting&) {};
  // One rank's token takes 2,560 bytes: 3 of them to two pages of 4 KiB, 25 to
  // one of 64 KiB, 819 to one of 2 MiB, which is more than a row.
  add(4 << 10, 2000, keep);
  add(64 << 10, 200, keep);
  add(2 << 20, 16, keep);
  // So few that rows take memory from each other, and sequences too.
  add(4 << 10, 60, keep);
  add(4 << 10, 60, [](InProcessSetting& s) { s.run_ahead_depth = 3; });
  add(64 << 10, 12, [](InProcessSetting& s) { s.max_num_batched_tokens = 17; });
  add(4 << 10, 400, [](InProcessSetting& s) {
    s.forced_preemption_period = 3;
    s.max_num_seqs = 5;
    s.run_ahead_depth = 1;
  });
  return settings;
}

std::string Name(const testing::TestParamInfo<InProcessSetting>& info) {
  const InProcessSetting& s = info.param;
  return absl::StrCat(s.kv_manager, "_", s.scheduling_policy, "_tp",
                      s.tensor_parallel_size, "_pages", s.virtual_page_bytes,
                      "_of", s.num_blocks, "_tokens", s.max_num_batched_tokens,
                      "_force", s.forced_preemption_period, "_ahead",
                      s.run_ahead_depth);
}

INSTANTIATE_TEST_SUITE_P(Reserved, KvManagersTest,
                         testing::ValuesIn(Settings()), Name);
INSTANTIATE_TEST_SUITE_P(Virtual, KvManagersTest,
                         testing::ValuesIn(VirtualSettings()), Name);

}  // namespace
}  // namespace quire
