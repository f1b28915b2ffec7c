// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/validation.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelLimits Limits() {
  ModelLimits limits;
  limits.model_name = "tiny";
  limits.vocab_size = 1000;
  limits.max_model_len = 8192;
  limits.eos_token_ids = {2};
  limits.max_text_bytes = 100;
  return limits;
}

v1::GenerateRequest Request() {
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(1);
  return request;
}

// The violated fields, or nothing.
std::vector<std::string> Violated(const v1::GenerateRequest& request) {
  const absl::Status status = ValidateGenerate(request, Limits()).status();
  std::vector<std::string> fields;
  if (status.ok()) return fields;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "INVALID_PARAMETER");
  for (const FieldViolation& violation : details.field_violations) {
    fields.push_back(violation.field);
  }
  EXPECT_EQ(status.message(), details.field_violations[0].description);
  return fields;
}

struct FloatCase {
  const char* field;
  void (v1::SamplingParams::*set)(float);
  std::vector<float> valid;
  std::vector<float> invalid;
};

TEST(ValidationTest, MessagesOfSequencesNameValueAndRemedy) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_n(4);
  request.mutable_sampling()->set_best_of(3);
  EXPECT_EQ(ValidateGenerate(request, Limits()).status().message(),
            "best_of=3 is out of range; it must be n=4 to 16, or unset to "
            "return all n");
  request.mutable_sampling()->set_best_of(5);
  request.mutable_sampling()->add_stop("x");
  const auto valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->sampling.n, 4);
  EXPECT_EQ(valid->sampling.best_of, 5);
}

TEST(ValidationTest, BeamSearchTakesNothingOfSampling) {
  v1::GenerateRequest request = Request();
  v1::SamplingParams* params = request.mutable_sampling();
  params->set_beam_width(4);
  params->set_n(2);
  params->set_length_penalty(-0.5f);
  params->set_early_stopping(v1::EARLY_STOPPING_NEVER);
  params->set_temperature(0);
  const auto valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->sampling.beam_width, 4);
  EXPECT_EQ(valid->sampling.n, 2);
  EXPECT_EQ(valid->sampling.length_penalty, -0.5f);
  EXPECT_EQ(valid->sampling.early_stopping, EarlyStopping::kNever);
  EXPECT_EQ(valid->sampling.slot.temperature, 0);
  params->set_temperature(0.5f);
  params->set_top_k(3);
  params->set_n(5);
  params->add_stop("x");
  EXPECT_THAT(Violated(request),
              ElementsAre("sampling.temperature", "sampling.top_k",
                          "sampling.stop", "sampling.n"));
  params->Clear();
  params->set_length_penalty(2);
  EXPECT_THAT(Violated(request), ElementsAre("sampling.beam_width"));
  params->set_beam_width(2);
  params->set_length_penalty(std::numeric_limits<float>::infinity());
  EXPECT_THAT(Violated(request), ElementsAre("sampling.length_penalty"));
  params->clear_length_penalty();
  params->set_early_stopping(static_cast<v1::EarlyStopping>(9));
  EXPECT_THAT(Violated(request), ElementsAre("sampling.early_stopping"));
}

TEST(ValidationTest, ABeamSearchHasRoomForItsStopTokens) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(1);
  v1::SamplingParams* params = request.mutable_sampling();
  params->set_ignore_eos(true);
  params->set_beam_width(16);
  for (uint32_t id = 0; id < 16; ++id) params->add_stop_token_ids(id);
  EXPECT_TRUE(ValidateGenerate(request, Limits()).ok());
  params->add_stop_token_ids(15);  // said twice is said once
  EXPECT_TRUE(ValidateGenerate(request, Limits()).ok());
  params->add_stop_token_ids(16);
  EXPECT_THAT(Violated(request), ElementsAre("sampling.stop_token_ids"));
  params->set_beam_width(15);
  EXPECT_TRUE(ValidateGenerate(request, Limits()).ok());
}

TEST(ValidationTest, WhoAsksAndWithWhomItSharesIsTaken) {
  v1::GenerateRequest request = Request();
  EXPECT_TRUE(ValidateGenerate(request, Limits())->use_prefix_cache);
  request.set_priority(-7);
  request.set_tenant("acme");
  request.set_use_prefix_cache(false);
  request.set_cache_salt("salt");
  const auto valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->priority, -7);
  EXPECT_EQ(valid->tenant, "acme");
  EXPECT_FALSE(valid->use_prefix_cache);
  EXPECT_EQ(valid->cache_salt, "salt");
  request.set_tenant(std::string(129, 'x'));
  request.set_cache_salt(std::string(1025, 'x'));
  EXPECT_THAT(Violated(request), ElementsAre("tenant", "cache_salt"));
  request.set_tenant("tab\t");
  request.clear_cache_salt();
  EXPECT_THAT(Violated(request), ElementsAre("tenant"));
}

TEST(ValidationTest, FloatsAreHeldToTheirRanges) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const auto above = [](float x) { return std::nextafter(x, kInf); };
  const auto below = [](float x) { return std::nextafter(x, -kInf); };
  using Params = v1::SamplingParams;
  const std::vector<FloatCase> cases = {
      {"temperature",
       &Params::set_temperature,
       {0, 1e-6f, 1, 2},
       {below(0), above(2), kNan, kInf, -kInf}},
      {"top_p",
       &Params::set_top_p,
       {above(0), 0.5f, 1},
       {0, -1, above(1), kNan, kInf}},
      {"min_p", &Params::set_min_p, {0, 0.5f, 1}, {below(0), above(1), kNan}},
      {"presence_penalty",
       &Params::set_presence_penalty,
       {-2, 0, 2},
       {below(-2), above(2), kNan}},
      {"frequency_penalty",
       &Params::set_frequency_penalty,
       {-2, 0, 2},
       {below(-2), above(2), kNan}},
      {"repetition_penalty",
       &Params::set_repetition_penalty,
       {1e-3f, 1, 1e3f},
       {0, -1, below(1e-3f), above(1e3f), kNan, kInf}},
  };
  for (const FloatCase& each : cases) {
    for (const float value : each.valid) {
      v1::GenerateRequest request = Request();
      (request.mutable_sampling()->*each.set)(value);
      EXPECT_THAT(Violated(request), ElementsAre())
          << each.field << "=" << value;
    }
    for (const float value : each.invalid) {
      v1::GenerateRequest request = Request();
      (request.mutable_sampling()->*each.set)(value);
      EXPECT_THAT(Violated(request),
                  ElementsAre("sampling." + std::string(each.field)))
          << each.field << "=" << value;
    }
  }
}

struct IntegerCase {
  const char* field;
  std::function<void(v1::SamplingParams*, int64_t)> set;
  std::vector<int64_t> valid;
  std::vector<int64_t> invalid;
};

TEST(ValidationTest, IntegersAreHeldToTheirRanges) {
  using Params = v1::SamplingParams;
  constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();
  const std::vector<IntegerCase> cases = {
      {"top_k",
       [](Params* params, int64_t value) { params->set_top_k(value); },
       {-1, 0, 1, kMax32},
       {-2, std::numeric_limits<int32_t>::min()}},
      {"min_tokens",
       [](Params* params, int64_t value) {
         params->set_max_tokens(8);
         params->set_min_tokens(value);
       },
       {0, 8},
       {9, kMaxU32}},
      {"max_tokens",
       [](Params* params, int64_t value) { params->set_max_tokens(value); },
       {1, 8191, kMaxU32},  // the window is another check's
       {0}},
      {"logprobs",
       [](Params* params, int64_t value) { params->set_logprobs(value); },
       {0, 20},
       {21, kMaxU32}},
      {"n",
       [](Params* params, int64_t value) { params->set_n(value); },
       {1, 16},
       {0, 17, kMaxU32}},
      {"best_of",
       [](Params* params, int64_t value) { params->set_best_of(value); },
       {1, 16},
       {0, 17, kMaxU32}},
      {"beam_width",
       [](Params* params, int64_t value) { params->set_beam_width(value); },
       {0, 2, 16},
       {1, 17, kMaxU32}},
      {"seed",
       [](Params* params, int64_t value) { params->set_seed(value); },
       {0, -1, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()},
       {}},
      {"stop_token_ids",
       [](Params* params, int64_t value) { params->add_stop_token_ids(value); },
       {0, 999},
       {1000, kMax32, kMax32 + 1, kMaxU32}},
  };
  for (const IntegerCase& each : cases) {
    for (const int64_t value : each.valid) {
      v1::GenerateRequest request = Request();
      each.set(request.mutable_sampling(), value);
      EXPECT_THAT(Violated(request), ElementsAre())
          << each.field << "=" << value;
    }
    for (const int64_t value : each.invalid) {
      v1::GenerateRequest request = Request();
      each.set(request.mutable_sampling(), value);
      EXPECT_THAT(Violated(request),
                  ElementsAre("sampling." + std::string(each.field)))
          << each.field << "=" << value;
    }
  }
}

TEST(ValidationTest, AStopTokenOutOfRangeIsNamedAsTheOthersAre) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->add_stop_token_ids(1000);
  EXPECT_EQ(ValidateGenerate(request, Limits()).status().message(),
            "stop_token_ids holds id 1000; the vocabulary's ids are 0 to 999");
}

TEST(ValidationTest, UnsetFieldsTakeTheirDefaults) {
  auto valid = ValidateGenerate(Request(), Limits());
  ASSERT_TRUE(valid.ok()) << valid.status();
  const SamplingParams& sampling = valid->sampling;
  EXPECT_EQ(sampling.slot, SlotSampling());
  EXPECT_THAT(sampling.stop_token_ids, ElementsAre(2));
  EXPECT_TRUE(sampling.skip_special_tokens);
  EXPECT_FALSE(sampling.include_stop_str_in_output);
  EXPECT_FALSE(valid->has_seed);
  ASSERT_TRUE(FitToWindow(1, Limits(), &*valid).ok());
  EXPECT_EQ(valid->sampling.max_tokens, 16);
}

TEST(ValidationTest, ExplicitZerosAreSaid) {
  v1::GenerateRequest request = Request();
  v1::SamplingParams* params = request.mutable_sampling();
  params->set_temperature(0);
  params->set_top_p(0.5);
  params->set_top_k(5);
  params->set_min_p(0.5);
  params->set_seed(0);
  params->set_logprobs(0);
  params->set_skip_special_tokens(false);
  auto valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->sampling.slot.temperature, 0);
  EXPECT_TRUE(valid->has_seed);
  EXPECT_EQ(valid->sampling.slot.num_logprobs, 0);
  EXPECT_FALSE(valid->sampling.skip_special_tokens);
  // Greedy: the filters have no say.
  EXPECT_EQ(valid->sampling.slot.top_p, 1);
  EXPECT_EQ(valid->sampling.slot.top_k, 0);
  EXPECT_EQ(valid->sampling.slot.min_p, 0);
}

TEST(ValidationTest, TopKOfMinusOneIsOff) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_top_k(-1);
  EXPECT_EQ(ValidateGenerate(request, Limits())->sampling.slot.top_k, 0);
}

TEST(ValidationTest, StopIdsAreUniqueAndHoldEosUnlessIgnored) {
  v1::GenerateRequest request = Request();
  v1::SamplingParams* params = request.mutable_sampling();
  params->add_stop_token_ids(9);
  params->add_stop_token_ids(9);
  params->set_min_tokens(3);
  auto valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok() && FitToWindow(1, Limits(), &*valid).ok());
  EXPECT_THAT(valid->sampling.stop_token_ids, ElementsAre(2, 9));
  EXPECT_THAT(valid->sampling.slot.stop_token_ids, ElementsAre(2, 9));
  params->set_ignore_eos(true);
  params->clear_min_tokens();
  valid = ValidateGenerate(request, Limits());
  ASSERT_TRUE(valid.ok() && FitToWindow(1, Limits(), &*valid).ok());
  EXPECT_THAT(valid->sampling.stop_token_ids, ElementsAre(9));
  // Nothing to mask: nothing to send to the ranks.
  EXPECT_THAT(valid->sampling.slot.stop_token_ids, ElementsAre());
}

TEST(ValidationTest, StopStringsAreFewShortAndNotEmpty) {
  v1::GenerateRequest request = Request();
  for (int i = 0; i < 16; ++i) {
    request.mutable_sampling()->add_stop(std::string(256, 'x'));
  }
  EXPECT_THAT(Violated(request), ElementsAre());
  request.mutable_sampling()->add_stop("x");
  EXPECT_THAT(Violated(request), ElementsAre("sampling.stop"));

  request = Request();
  request.mutable_sampling()->add_stop("");
  EXPECT_THAT(Violated(request), ElementsAre("sampling.stop"));
  request.mutable_sampling()->set_stop(0, std::string(257, 'x'));
  EXPECT_THAT(Violated(request), ElementsAre("sampling.stop"));
}

TEST(ValidationTest, RequestIdIsShortPrintableAscii) {
  v1::GenerateRequest request = Request();
  request.set_request_id(std::string(128, '~'));
  EXPECT_THAT(Violated(request), ElementsAre());
  for (const std::string& bad :
       {std::string(129, 'a'), std::string("a\nb"), std::string("\x7f"),
        std::string("\xc3\xa9"), std::string(1, '\0')}) {
    request.set_request_id(bad);
    EXPECT_THAT(Violated(request), ElementsAre("request_id"));
  }
}

TEST(ValidationTest, PromptIdsAreWithinTheVocabulary) {
  v1::GenerateRequest request = Request();
  for (const uint32_t id : {1000u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    request.mutable_token_ids()->set_ids(0, id);
    EXPECT_THAT(Violated(request), ElementsAre("token_ids"));
  }
  request.mutable_token_ids()->set_ids(0, 999);
  EXPECT_THAT(ValidateGenerate(request, Limits())->prompt, ElementsAre(999));
}

TEST(ValidationTest, PromptMustBeGivenAndShortEnough) {
  v1::GenerateRequest request;
  EXPECT_THAT(Violated(request), ElementsAre("text"));
  request.set_text(std::string(100, 'x'));
  EXPECT_THAT(Violated(request), ElementsAre());
  request.set_text(std::string(101, 'x'));
  EXPECT_THAT(Violated(request), ElementsAre("text"));

  ModelLimits no_tokenizer = Limits();
  no_tokenizer.max_text_bytes = 0;
  request.set_text("hi");
  EXPECT_THAT(
      std::string(ValidateGenerate(request, no_tokenizer).status().message()),
      HasSubstr("send token_ids"));
}

TEST(ValidationTest, ListsEveryViolation) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_temperature(3);
  request.mutable_sampling()->set_top_p(0);
  EXPECT_THAT(Violated(request),
              ElementsAre("sampling.temperature", "sampling.top_p"));
  EXPECT_EQ(ValidateGenerate(request, Limits()).status().message(),
            "temperature=3 is out of range; it must be between 0 and 2");
}

TEST(ValidationTest, UnknownModelIsNotFound) {
  v1::GenerateRequest request = Request();
  request.set_model("tiny");
  EXPECT_TRUE(ValidateGenerate(request, Limits()).ok());
  request.set_model("huge");
  const absl::Status status = ValidateGenerate(request, Limits()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_NOT_FOUND");
  EXPECT_THAT(std::string(status.message()), HasSubstr("use \"tiny\""));
}

class FitToWindowTest : public testing::Test {
 protected:
  static absl::Status Fit(int64_t num_prompt_tokens, int64_t max_tokens) {
    v1::GenerateRequest request = Request();
    request.mutable_sampling()->set_max_tokens(max_tokens);
    auto valid = ValidateGenerate(request, Limits());
    EXPECT_TRUE(valid.ok()) << valid.status();
    return FitToWindow(num_prompt_tokens, Limits(), &*valid);
  }
};

TEST_F(FitToWindowTest, SumMayFillTheWindowButNotPassIt) {
  EXPECT_TRUE(Fit(1, 8191).ok());
  EXPECT_TRUE(Fit(8191, 1).ok());
  EXPECT_FALSE(Fit(1, 8192).ok());
  EXPECT_FALSE(Fit(8192, 1).ok());
  EXPECT_FALSE(Fit(1, 4294967295).ok());
}

TEST_F(FitToWindowTest, MessageSaysWhatWouldFit) {
  const absl::Status status = Fit(1200, 9000);
  EXPECT_EQ(status.message(),
            "max_tokens=9000 plus prompt 1200 exceeds the model's 8192-token "
            "window; lower max_tokens to 6992 or less");
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(details.field_violations[0].field, "sampling.max_tokens");
  EXPECT_THAT(std::string(Fit(9000, 1).message()),
              HasSubstr("shorten it to 8191 or less"));
}

TEST_F(FitToWindowTest, UnsetMaxTokensIsCutToWhatIsLeft) {
  auto valid = ValidateGenerate(Request(), Limits());
  ASSERT_TRUE(FitToWindow(8190, Limits(), &*valid).ok());
  EXPECT_EQ(valid->sampling.max_tokens, 2);
}

TEST_F(FitToWindowTest, MinTokensMustFitToo) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_min_tokens(10);
  auto valid = ValidateGenerate(request, Limits());
  EXPECT_THAT(std::string(FitToWindow(8190, Limits(), &*valid).message()),
              HasSubstr("min_tokens=10"));
}

TEST_F(FitToWindowTest, EmptyPromptIsRefused) {
  EXPECT_EQ(GetErrorDetails(Fit(0, 1)).reason, "INVALID_PARAMETER");
}

}  // namespace
}  // namespace quire
