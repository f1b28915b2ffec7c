// SPDX-License-Identifier: Apache-2.0
#include "coordinator/served_model.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ServedModelOptions Demo() {
  ServedModelOptions options;
  options.folder = ModelFolder("tools/demo_model/model");
  return options;
}

TEST(ServedModelTest, AFolderSaysWhatIsServed) {
  const auto model = OpenServedModel(Demo());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->name, "model");  // the folder's
  EXPECT_EQ(model->max_model_len, 2048);
  EXPECT_EQ(model->limits.model_name, "model");
  EXPECT_EQ(model->limits.max_model_len, 2048);
  EXPECT_EQ(model->limits.vocab_size, model->tokenizer->vocab_size());
  EXPECT_GE(model->limits.max_text_bytes, 512 << 10);
  EXPECT_FALSE(model->limits.eos_token_ids.empty());
}

TEST(ServedModelTest, OptionsGoFirst) {
  ServedModelOptions options = Demo();
  options.folder += "/";
  options.max_model_len = 100;
  auto model = OpenServedModel(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->name, "model");
  EXPECT_EQ(model->limits.max_model_len, 100);
  options.served_model_name = "mine";
  EXPECT_EQ(OpenServedModel(options)->limits.model_name, "mine");
  options.max_model_len = 1 << 20;
  EXPECT_THAT(std::string(OpenServedModel(options).status().message()),
              HasSubstr("--max_model_len=1048576"));
  options.max_model_len = 0;
  options.tensor_parallel_size = 7;
  const absl::Status unfit = OpenServedModel(options).status();
  EXPECT_EQ(unfit.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(unfit.message()),
              HasSubstr("--tensor_parallel_size=7"));
  options.folder = "/nowhere";
  EXPECT_THAT(std::string(OpenServedModel(options).status().message()),
              HasSubstr("/nowhere"));
}

TEST(ServedModelTest, WithoutATokenizerThereIsNoText) {
  ServedModelOptions options;
  options.folder = ModelFolder("tests/golden/mistral_window");
  options.skip_tokenizer_init = true;
  const auto model = OpenServedModel(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->limits.max_text_bytes, 0);
  EXPECT_EQ(model->limits.vocab_size, 256);
}

TEST(ServedModelTest, AMissingTokenizerIsToldWithWhatWritesOne) {
  ServedModelOptions options;
  options.folder = ModelFolder("tests/golden/mistral_window");
  const absl::Status status = OpenServedModel(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("mistral_window has no tokenizer.json; "),
                    HasSubstr("AutoTokenizer.from_pretrained(\""),
                    HasSubstr("--skip_tokenizer_init")));
}

TEST(ServedModelTest, TheEngineIsToldWhereAttentionEnds) {
  ServedModelOptions options;
  options.folder = ModelFolder("tests/golden/mistral_window");
  options.skip_tokenizer_init = true;
  EngineOptions engine;
  FitEngineToModel(*OpenServedModel(options), &engine);
  EXPECT_EQ(engine.max_model_len, 256);
  EXPECT_EQ(engine.sliding_window, 12);
  // Nothing leaves a window as long as the context.
  options.max_model_len = 12;
  engine = EngineOptions();
  FitEngineToModel(*OpenServedModel(options), &engine);
  EXPECT_EQ(engine.sliding_window, 0);
}

}  // namespace
}  // namespace quire
