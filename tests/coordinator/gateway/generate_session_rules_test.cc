// SPDX-License-Identifier: Apache-2.0
//
// A session whose request has rules: for its prompt, its tokens, its text.
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "coordinator/gateway/generate_session.h"
#include "coordinator/gateway/grammar_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/gateway_parts.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Keeps what is written. Thread-safe.
class Notebook final : public ResponseWriter {
 public:
  bool Write(const v1::GenerateResponse& response) override {
    absl::MutexLock lock(&mutex_);
    responses_.push_back(response);
    return true;
  }
  void WriteLast(const v1::GenerateResponse&) override {
    absl::MutexLock lock(&mutex_);
    is_over_ = true;
  }
  void Finish(const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    status_ = status;
    is_over_ = true;
  }

  absl::Status AwaitEnd() const {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_over_));
    return status_;
  }
  void AwaitResponses(size_t count) const {
    absl::MutexLock lock(&mutex_);
    const auto has_them = [&] { return responses_.size() >= count; };
    mutex_.Await(absl::Condition(&has_them));
  }
  std::vector<v1::GenerateResponse> responses() const {
    absl::MutexLock lock(&mutex_);
    return responses_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<v1::GenerateResponse> responses_ ABSL_GUARDED_BY(mutex_);
  bool is_over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// By which everything takes long.
class SlowClock final : public Clock {
 public:
  absl::Time Now() const override {
    return absl::UnixEpoch() + absl::Seconds(++num_looks_);
  }
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time) override {
    mu->Await(condition);
    return true;
  }

 private:
  mutable std::atomic<int> num_looks_ = 0;
};

class SessionRulesTest : public testing::Test {
 protected:
  SessionRulesTest()
      : parts_(MakeLettersTokenizer()),
        grammars_(parts_.tokenizer.get(), kLettersVocabSize, {kEosToken}) {
    parts_.context.grammars = &grammars_;
    parts_.context.limits.eos_token_ids = {kEosToken};
    request_.set_text("hello");
  }

  void Start() {
    session_ = GenerateSession::Create(&parts_.context, 1,
                                       absl::InfiniteFuture(), &notebook_);
    SessionInput input;
    input.request = &request_;
    session_->Start(input);
  }
  ~SessionRulesTest() override {
    if (session_ != nullptr) session_->OnDone();
  }

  void SetRegex(const std::string& regex) {
    request_.mutable_sampling()->mutable_structured_output()->set_regex(regex);
  }

  static SequenceOutput Output(int64_t offset, const std::string& text,
                               int32_t index = 0) {
    SequenceOutput output;
    output.request = RequestKey(1);
    output.index = index;
    output.token_offset = offset;
    const std::vector<TokenId> tokens = Letters(text);
    output.tokens.assign(tokens.begin(), tokens.end());
    return output;
  }
  static SequenceOutput End(int64_t offset, int32_t index = 0) {
    SequenceOutput output = Output(offset, "", index);
    output.tokens.push_back(kEosToken);
    output.finish_reason = FinishReason::kStop;
    output.stop_token_id = kEosToken;
    return output;
  }

  static std::vector<TokenId> Ids(const TokenMask& mask) {
    std::vector<TokenId> ids;
    for (TokenId id = 0; id < static_cast<TokenId>(32 * mask.size()); ++id) {
      if ((mask[id / 32] >> (id % 32) & 1) != 0) ids.push_back(id);
    }
    return ids;
  }

  SlowClock slow_clock_;
  GatewayParts parts_;
  GrammarSource grammars_;
  v1::GenerateRequest request_;
  Notebook notebook_;
  std::shared_ptr<GenerateSession> session_;
};

TEST_F(SessionRulesTest, EveryTokenOfAStructureIsAnsweredByAMask) {
  SetRegex("ab?c");
  request_.mutable_sampling()->mutable_allowed_token_ids()->add_ids(1);
  request_.mutable_sampling()->mutable_allowed_token_ids()->add_ids(3);
  request_.mutable_sampling()->mutable_allowed_token_ids()->add_ids(kEosToken);
  Start();
  const EngineRequest request = parts_.engine.AwaitRequest(1);
  EXPECT_TRUE(request.sampling.slot.needs_mask);
  EXPECT_TRUE(request.sampling.slot.allowed_token_ids.empty());
  EXPECT_THAT(Ids(request.first_mask), ElementsAre(1));
  parts_.engine.Emit(Output(0, "a"));
  FakeEngine::Mask mask = parts_.engine.AwaitMask(1);
  EXPECT_EQ(mask.index, 0);
  EXPECT_EQ(mask.num_outputs, 1);
  EXPECT_THAT(Ids(mask.words), ElementsAre(3));  // b is not allowed
  parts_.engine.Emit(Output(1, "c"));
  mask = parts_.engine.AwaitMask(2);
  EXPECT_EQ(mask.num_outputs, 2);
  EXPECT_THAT(Ids(mask.words), ElementsAre(kEosToken));
  parts_.engine.Emit(End(2));
  EXPECT_TRUE(notebook_.AwaitEnd().ok());
}

TEST_F(SessionRulesTest, SiblingsGoTheirOwnWays) {
  SetRegex("[ab][xy]|z");
  request_.mutable_sampling()->set_n(2);
  Start();
  parts_.engine.AwaitRequest(1);
  parts_.engine.Emit(Output(0, "z", 1));
  EXPECT_THAT(Ids(parts_.engine.AwaitMask(1).words), ElementsAre(kEosToken));
  parts_.engine.Emit(Output(0, "b", 0));
  const FakeEngine::Mask mask = parts_.engine.AwaitMask(2);
  EXPECT_EQ(mask.index, 0);
  EXPECT_THAT(Ids(mask.words), ElementsAre(24, 25));
  parts_.engine.Emit(End(1, 1));
  parts_.engine.Emit(End(1, 0));
  EXPECT_TRUE(notebook_.AwaitEnd().ok());
}

TEST_F(SessionRulesTest, ASlowMaskHoldsUpNobody) {
  parts_.context.clock = &slow_clock_;
  SetRegex("[ab][xy]|z");
  request_.mutable_sampling()->set_n(2);
  Start();
  parts_.engine.AwaitRequest(1);
  absl::Notification gate;
  parts_.text_pool.TryRun([&] { gate.WaitForNotification(); });
  parts_.engine.Emit(Output(0, "b", 0));
  parts_.engine.Emit(End(0, 1));  // on the same thread, behind it
  // Both are heard while the mask waits for the gate.
  notebook_.AwaitResponses(2);
  EXPECT_EQ(parts_.engine.num_masks(), 0u);
  gate.Notify();
  EXPECT_THAT(Ids(parts_.engine.AwaitMask(1).words), ElementsAre(24, 25));
  parts_.engine.Emit(Output(1, "a", 0));
  EXPECT_THAT(std::string(notebook_.AwaitEnd().message()),
              HasSubstr("cannot be followed after 1 tokens"));
  EXPECT_EQ(parts_.engine.AwaitFinish(1), FinishReason::kCancelled);
}

// Whoever made the pool may be waiting for it to be done.
TEST_F(SessionRulesTest, ASlowMaskOfASessionThatHasEndedIsNotMade) {
  parts_.context.clock = &slow_clock_;
  SetRegex("[ab][xy]|z");
  Start();
  parts_.engine.AwaitRequest(1);
  absl::Notification gate, done;
  parts_.text_pool.TryRun([&] { gate.WaitForNotification(); });
  parts_.engine.Emit(Output(0, "b", 0));
  notebook_.AwaitResponses(1);
  session_->OnCancel();
  EXPECT_FALSE(notebook_.AwaitEnd().ok());
  gate.Notify();
  parts_.text_pool.TryRun([&] { done.Notify(); });
  done.WaitForNotification();
  EXPECT_EQ(parts_.engine.num_masks(), 0u);
}

// The engine would keep the tokens of best_of to itself.
TEST_F(SessionRulesTest, ABestOfWithAStructureIsRankedHere) {
  SetRegex("a");
  request_.mutable_sampling()->set_best_of(3);
  Start();
  const EngineRequest request = parts_.engine.AwaitRequest(1);
  EXPECT_EQ(request.sampling.n, 3);
}

TEST_F(SessionRulesTest, ARuleThatNothingFollowsNeverReachesTheEngine) {
  request_.mutable_sampling()->mutable_structured_output()->set_json_schema(
      R"({"type": "string", "minLength": 3, "maxLength": 1})");
  Start();
  const absl::Status status = notebook_.AwaitEnd();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("json_schema {\"type\": \"string\""));
  EXPECT_EQ(parts_.engine.num_requests(), 0);
}

TEST_F(SessionRulesTest, AllowedTokensThatCannotBeginTheTextAreRefused) {
  SetRegex("ab");
  request_.mutable_sampling()->mutable_allowed_token_ids()->add_ids(2);
  Start();
  EXPECT_THAT(std::string(notebook_.AwaitEnd().message()),
              HasSubstr("allowed_token_ids holds none of the tokens"));
  EXPECT_EQ(parts_.engine.num_requests(), 0);
}

TEST_F(SessionRulesTest, AMaskThatBecomesImpossibleEndsTheRequest) {
  SetRegex("ab");
  request_.mutable_sampling()->mutable_allowed_token_ids()->add_ids(1);
  Start();
  parts_.engine.AwaitRequest(1);
  parts_.engine.Emit(Output(0, "a"));
  EXPECT_TRUE(absl::IsInvalidArgument(notebook_.AwaitEnd()));
  EXPECT_EQ(parts_.engine.AwaitFinish(1), FinishReason::kCancelled);
}

TEST_F(SessionRulesTest, PromptAndWordsArriveAsTokens) {
  request_.mutable_sampling()->set_truncate_prompt_tokens(2);
  request_.mutable_sampling()->add_bad_words("ab");
  (*request_.mutable_sampling()->mutable_logit_bias())[5] = 2;
  Start();
  const EngineRequest request = parts_.engine.AwaitRequest(1);
  EXPECT_EQ(request.prompt, Letters("lo"));
  EXPECT_THAT(request.sampling.slot.bad_words, ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(request.sampling.slot.logit_bias, ElementsAre(TokenBias{5, 2}));
  parts_.engine.Emit(End(0));
  EXPECT_TRUE(notebook_.AwaitEnd().ok());
}

TEST_F(SessionRulesTest, TheEchoAndItsScoresComeBeforeTheOutput) {
  request_.set_text("abc");
  request_.mutable_sampling()->set_echo(true);
  request_.mutable_sampling()->set_prompt_logprobs(0);
  Start();
  EXPECT_EQ(parts_.engine.AwaitRequest(1).sampling.slot.num_prompt_logprobs, 0);
  SequenceOutput scores;
  scores.request = RequestKey(1);
  scores.prompt_logprobs.resize(2);
  scores.prompt_logprobs[0].logprob = -1.5f;
  scores.prompt_logprobs[1].logprob = -2.5f;
  parts_.engine.Emit(scores);
  parts_.engine.Emit(Output(0, "d"));
  parts_.engine.Emit(End(1));
  EXPECT_TRUE(notebook_.AwaitEnd().ok());
  std::string text;
  std::vector<float> logprobs;
  bool has_output = false;
  for (const v1::GenerateResponse& response : notebook_.responses()) {
    if (response.has_chunk()) {
      has_output = true;
      text += "|" + response.chunk().text();
      continue;
    }
    EXPECT_FALSE(has_output);
    text += response.prompt().text();
    for (const auto& token : response.prompt().logprobs()) {
      logprobs.push_back(token.logprob());
    }
  }
  EXPECT_THAT(text, HasSubstr("abc|d"));
  EXPECT_THAT(logprobs, ElementsAre(0, -1.5f, -2.5f));
}

TEST_F(SessionRulesTest, AConversationsPromptIsNotEchoed) {
  session_ = GenerateSession::Create(&parts_.context, 1, absl::InfiniteFuture(),
                                     &notebook_);
  request_.mutable_sampling()->set_echo(true);
  SessionInput input;
  input.request = &request_;
  input.encode = [] { return Letters("chat"); };
  session_->Start(input);
  EXPECT_THAT(std::string(notebook_.AwaitEnd().message()),
              HasSubstr("leave them out or use Generate"));
}

}  // namespace
}  // namespace quire
