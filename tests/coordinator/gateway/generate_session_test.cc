// SPDX-License-Identifier: Apache-2.0
//
// A session and its carrier, which here is the test itself.
#include "coordinator/gateway/generate_session.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/gateway_parts.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;

// Keeps what is written. Thread-safe.
class Notebook final : public ResponseWriter {
 public:
  // `is_slow`: a write ends when the test says so.
  explicit Notebook(bool is_slow) : is_slow_(is_slow) {}

  bool Write(const v1::GenerateResponse& response) override {
    absl::MutexLock lock(&mutex_);
    texts_.push_back(response.chunk().text());
    return !is_slow_;
  }
  void WriteLast(const v1::GenerateResponse& response) override {
    absl::MutexLock lock(&mutex_);
    usage_ = response.complete().usage();
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
  std::vector<std::string> AwaitTexts(size_t number) const {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return texts_.size() >= number;
    };
    mutex_.Await(absl::Condition(&there));
    return texts_;
  }
  v1::Usage usage() const {
    absl::MutexLock lock(&mutex_);
    return usage_;
  }
  bool is_over() const {
    absl::MutexLock lock(&mutex_);
    return is_over_;
  }

 private:
  const bool is_slow_;
  mutable absl::Mutex mutex_;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
  v1::Usage usage_ ABSL_GUARDED_BY(mutex_);
  bool is_over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class GenerateSessionTest : public testing::Test {
 protected:
  GenerateSessionTest() : parts_(MakeLettersTokenizer()) {
    request_.set_text("hello");
  }

  std::shared_ptr<GenerateSession> Create(
      Notebook* notebook, absl::Time deadline = absl::InfiniteFuture()) {
    return GenerateSession::Create(&parts_.context, ++num_sessions_, deadline,
                                   notebook);
  }

  SessionInput Input() {
    SessionInput input;
    input.request = &request_;
    return input;
  }

  // A session whose request the engine has.
  std::shared_ptr<GenerateSession> Start(
      Notebook* notebook, absl::Time deadline = absl::InfiniteFuture()) {
    const auto session = Create(notebook, deadline);
    session->Start(Input());
    parts_.engine.AwaitRequest(1);
    return session;
  }
  // ... and whose first token, "a", is on its way to a slow `notebook`.
  std::shared_ptr<GenerateSession> StartWriting(Notebook* notebook) {
    const auto session = Start(notebook);
    parts_.engine.Emit(Output(0, "a"));
    notebook->AwaitTexts(1);
    return session;
  }

  static SequenceOutput Output(int64_t offset, const std::string& text,
                               FinishReason reason = FinishReason::kNone) {
    SequenceOutput output;
    output.request = RequestKey(1);
    output.token_offset = offset;
    const std::vector<TokenId> tokens = Letters(text);
    output.tokens.assign(tokens.begin(), tokens.end());
    output.finish_reason = reason;
    return output;
  }

  GatewayParts parts_;
  v1::GenerateRequest request_;
  uint64_t num_sessions_ = 0;
};

TEST_F(GenerateSessionTest, WritesThatEndAtOnceNeedNoSecondCall) {
  Notebook notebook(/*is_slow=*/false);
  const auto session = Start(&notebook);
  parts_.engine.Emit(Output(0, "ab"));
  notebook.AwaitTexts(1);
  parts_.engine.Emit(Output(2, "c", FinishReason::kLength));
  EXPECT_TRUE(notebook.AwaitEnd().ok());
  EXPECT_THAT(notebook.AwaitTexts(2), ElementsAre("ab", "c"));
  EXPECT_EQ(notebook.usage().prompt_tokens(), 5u);
  EXPECT_EQ(notebook.usage().output_tokens(), 3u);
  session->OnDone();
  EXPECT_EQ(parts_.sessions.size(), 0);
}

TEST_F(GenerateSessionTest, WhatComesDuringAWriteJoinsTheNext) {
  Notebook notebook(/*is_slow=*/true);
  const auto session = StartWriting(&notebook);
  // Straight to the session: when these return, it has taken them.
  session->OnOutput(Output(1, "b"));
  session->OnOutput(Output(2, "c", FinishReason::kStop));
  EXPECT_FALSE(notebook.is_over());
  session->OnWriteDone(true);
  EXPECT_THAT(notebook.AwaitTexts(2), ElementsAre("a", "bc"));
  EXPECT_FALSE(notebook.is_over());
  session->OnWriteDone(true);
  EXPECT_TRUE(notebook.AwaitEnd().ok());
  session->OnDone();
}

TEST_F(GenerateSessionTest, AnEndWaitsForTheWriteUnderWay) {
  Notebook notebook(/*is_slow=*/true);
  const auto session = StartWriting(&notebook);
  session->Abort(absl::UnavailableError("the workers left"));
  EXPECT_FALSE(notebook.is_over());
  session->OnWriteDone(true);
  EXPECT_EQ(notebook.AwaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(parts_.engine.AwaitFinish(1), FinishReason::kCancelled);
  session->OnDone();
}

TEST_F(GenerateSessionTest, AClientThatLeavesStopsTheEngine) {
  Notebook notebook(/*is_slow=*/true);
  const auto session = StartWriting(&notebook);
  session->OnWriteDone(false);
  EXPECT_EQ(notebook.AwaitEnd().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(parts_.engine.AwaitFinish(1), FinishReason::kCancelled);
  session->OnCancel();  // late: no effect
  session->OnDone();
}

TEST_F(GenerateSessionTest, ALateCallIsToldItsDeadline) {
  Notebook notebook(/*is_slow=*/false);
  const auto session = Start(&notebook, parts_.clock.Now());
  session->OnCancel();
  EXPECT_EQ(notebook.AwaitEnd().code(), absl::StatusCode::kDeadlineExceeded);
  session->OnDone();
}

TEST_F(GenerateSessionTest, ThePromptMayBeEncodedByItsGiver) {
  Notebook notebook(/*is_slow=*/false);
  const auto session = Create(&notebook);
  SessionInput input = Input();
  request_.set_text("");
  input.encode = [] { return Letters("chat"); };
  input.fills_window = true;
  input.shown_special_tokens = {kEosToken};
  session->Start(input);
  const EngineRequest request = parts_.engine.AwaitRequest(1);
  EXPECT_EQ(request.prompt, Letters("chat"));
  EXPECT_EQ(request.sampling.max_tokens, 500 - 4);
  SequenceOutput output = Output(0, "a");
  output.tokens.push_back(kEosToken);
  output.finish_reason = FinishReason::kLength;
  parts_.engine.Emit(output);
  EXPECT_TRUE(notebook.AwaitEnd().ok());
  EXPECT_THAT(notebook.AwaitTexts(1), ElementsAre("a<eos>"));
  session->OnDone();
}

TEST_F(GenerateSessionTest, AnEncoderThatFailsEndsTheRequest) {
  Notebook notebook(/*is_slow=*/false);
  const auto session = Create(&notebook);
  SessionInput input = Input();
  input.encode = []() -> absl::StatusOr<std::vector<TokenId>> {
    return absl::InvalidArgumentError("the template refuses");
  };
  session->Start(input);
  EXPECT_EQ(notebook.AwaitEnd().message(), "the template refuses");
  EXPECT_EQ(parts_.engine.num_requests(), 0u);
  session->OnDone();
  EXPECT_EQ(parts_.sessions.size(), 0);
}

TEST_F(GenerateSessionTest, RefusedRequestsNeverBegin) {
  Notebook notebook(/*is_slow=*/false);
  const auto session = Create(&notebook);
  session->Refuse(absl::InvalidArgumentError("no"));
  EXPECT_EQ(notebook.AwaitEnd().message(), "no");
  session->OnDone();
  EXPECT_EQ(parts_.engine.num_requests(), 0u);
}

}  // namespace
}  // namespace quire
