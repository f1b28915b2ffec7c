// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/start_box.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/inference.pb.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::GetServerInfoResponse Info() {
  v1::GetServerInfoResponse info;
  info.set_version("0.1");
  info.set_model("demo");
  info.set_architecture("LlamaForCausalLM");
  info.set_dtype("bfloat16");
  info.set_device("cpu");
  info.set_tensor_parallel_size(2);
  info.set_block_size(16);
  info.set_num_blocks(1000);
  info.set_max_model_len(8192);
  return info;
}

TEST(StartBoxTest, TellsModelMemoryAddressesAndCommands) {
  const std::string box =
      StartBox(Info(), {"h:1", "h:2", "h:3"}, absl::Seconds(2.5));
  EXPECT_THAT(box, HasSubstr("Quire 0.1 is ready after 2.5s"));
  EXPECT_THAT(box, HasSubstr("demo (LlamaForCausalLM, bfloat16, window 8192)"));
  EXPECT_THAT(box, HasSubstr("cpu, 2 tensor-parallel ranks"));
  EXPECT_THAT(box, HasSubstr("1000 blocks, 16000 tokens; 3 requests of 4096 "
                             "tokens at once"));
  EXPECT_THAT(box, HasSubstr("--target=h:1"));
  EXPECT_THAT(box, HasSubstr("quire status --target=h:2"));
  EXPECT_THAT(box, HasSubstr("http://h:3/metrics"));
  EXPECT_THAT(box, HasSubstr("h:1 quire.v1.Inference/Generate"));
}

TEST(StartBoxTest, AShortWindowIsTheLengthOfARequest) {
  v1::GetServerInfoResponse info = Info();
  info.set_max_model_len(1024);
  EXPECT_THAT(StartBox(info, {"h:1", "h:2", ""}, absl::Seconds(1)),
              HasSubstr("15 requests of 1024 tokens at once"));
}

TEST(StartBoxTest, NoMetricsNoLine) {
  EXPECT_THAT(StartBox(Info(), {"h:1", "h:2", ""}, absl::Seconds(1)),
              Not(HasSubstr("metrics")));
}

}  // namespace
}  // namespace quire
