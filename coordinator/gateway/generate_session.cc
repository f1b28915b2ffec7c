// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/generate_session.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "coordinator/gateway/best_streams.h"
#include "coordinator/gateway/public_error.h"
#include "coordinator/gateway/violations.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Encoding runs at about 5 MB/s: this much takes the calling thread a
// millisecond, and more is the pool's.
constexpr size_t kEncodeInlineBytes = 4096;
// Most masks take 20 microseconds.
constexpr absl::Duration kSlowMask = absl::Milliseconds(5);

absl::string_view ReasonName(FinishReason reason, const absl::Status& status) {
  if (status.code() == absl::StatusCode::kCancelled) return "cancelled";
  if (!status.ok()) return "error";
  return reason == FinishReason::kLength ? "length" : "stop";
}

// Of a chat, whose length its client leaves open.
constexpr int64_t kFillWindow = std::numeric_limits<int32_t>::max();

}  // namespace

std::shared_ptr<GenerateSession> GenerateSession::Create(
    const GatewayContext* gateway, uint64_t number, absl::Time deadline,
    ResponseWriter* writer) {
  return std::shared_ptr<GenerateSession>(
      new GenerateSession(gateway, number, deadline, writer));
}

GenerateSession::GenerateSession(const GatewayContext* gateway, uint64_t number,
                                 absl::Time deadline, ResponseWriter* writer)
    : gateway_(gateway),
      number_(number),
      writer_(writer),
      lane_(writer->lane()),
      arrival_(gateway->clock->Now()),
      deadline_(deadline),
      answer_(gateway->tokenizer, gateway->clock, gateway->metrics, arrival_) {}

void GenerateSession::Start(const SessionInput& input) {
  const absl::Status status = Validate(input);
  status.ok() ? EncodeThenSubmit(input) : EndWith(status);
}

absl::Status GenerateSession::Validate(const SessionInput& input) {
  const v1::GenerateRequest& request = *input.request;
  QUIRE_ASSIGN_OR_RETURN(
      valid_,
      ValidateGenerate(request, gateway_->limits,
                       input.fills_window ? kFillWindow : kDefaultMaxTokens));
  if (!input.prompt_field.empty()) valid_.prompt_field = input.prompt_field;
  if (input.encode != nullptr && TellsPrompt(valid_.sampling)) {
    return InvalidFields(
        "INVALID_PARAMETER",
        {{valid_.sampling.echo ? "sampling.echo" : "sampling.prompt_logprobs",
          "echo and prompt_logprobs tell of a prompt that the client wrote, "
          "which a conversation's is not; leave them out or use Generate"}});
  }
  const uint64_t random = MixBits(gateway_->seed ^ MixBits(number_));
  request_id_ = valid_.request_id;
  if (request_id_.empty()) {
    request_id_ = absl::StrCat("gen-", absl::Hex(random, absl::kZeroPad16));
  }
  if (!valid_.has_seed) valid_.sampling.slot.seed = MixBits(random);
  {
    absl::MutexLock lock(&mutex_);
    QUIRE_RETURN_IF_ERROR(
        answer_.Open(valid_.sampling, input.shown_special_tokens));
  }
  QUIRE_RETURN_IF_ERROR(
      gateway_->sessions->Add(request_id_, shared_from_this()));
  is_in_table_ = true;
  return absl::OkStatus();
}

void GenerateSession::EncodeThenSubmit(const SessionInput& input) {
  const v1::GenerateRequest& request = *input.request;
  size_t num_bytes = input.encode_bytes;
  encode_ = input.encode;
  if (encode_ == nullptr && valid_.is_text) {
    EncodeOptions options;
    options.add_special_tokens =
        !request.has_add_special_tokens() || request.add_special_tokens();
    num_bytes = request.text().size();
    // A copy of the text, which would go with the call.
    encode_ = [tokenizer = gateway_->tokenizer, options,
               text = request.text()] {
      return tokenizer->Encode(text, options);
    };
  }
  // A rule takes some milliseconds to compile.
  if (num_bytes <= kEncodeInlineBytes && !valid_.rules.structure.has_value()) {
    EncodeAndSubmit();
    return;
  }
  // The pool's share of the session, which the client may leave meanwhile.
  if (!gateway_->text_pool->TryRun(
          [share = shared_from_this()] { share->EncodeAndSubmit(); })) {
    EndWith(absl::ResourceExhaustedError(
        "too many long prompts wait to be encoded; try again soon"));
  }
}

void GenerateSession::EncodeAndSubmit() {
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;  // the client left
  }
  absl::Status status;
  if (encode_ != nullptr) {
    absl::StatusOr<std::vector<TokenId>> prompt = encode_();
    encode_ = nullptr;
    status = prompt.status();
    if (prompt.ok()) valid_.prompt = *std::move(prompt);
  }
  if (status.ok()) status = FitAndSubmit();
  if (!status.ok()) EndWith(status);
}

absl::Status GenerateSession::ApplyRules() {
  const TokenRules& rules = valid_.rules;
  std::vector<TokenId>& prompt = valid_.prompt;
  const auto most = static_cast<size_t>(rules.truncate_prompt_tokens);
  if (most > 0 && prompt.size() > most) {
    prompt.erase(prompt.begin(), prompt.end() - most);
  }
  if (rules.bad_words.empty()) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(valid_.sampling.slot.bad_words,
                         BadWordTokens(*gateway_->tokenizer, rules.bad_words));
  return absl::OkStatus();
}

absl::Status GenerateSession::MakeGuides(EngineRequest* request) {
  if (!valid_.rules.structure.has_value()) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(Grammar grammar,
                         gateway_->grammars->Compile(*valid_.rules.structure));
  SlotSampling& slot = request->sampling.slot;
  SequenceGuide guide(std::move(grammar), slot.allowed_token_ids);
  slot.allowed_token_ids.clear();  // the masks' from here on
  const absl::Time begin = gateway_->clock->Now();
  QUIRE_ASSIGN_OR_RETURN(request->first_mask, guide.Next());
  absl::MutexLock lock(&mutex_);
  is_slow_ = gateway_->clock->Now() - begin > kSlowMask;
  while (guides_.size() + 1 < answer_.num_streams()) {
    QUIRE_ASSIGN_OR_RETURN(SequenceGuide clone, guide.Clone());
    guides_.push_back(std::move(clone));
  }
  guides_.push_back(std::move(guide));
  return absl::OkStatus();
}

absl::Status GenerateSession::FitAndSubmit() {
  QUIRE_RETURN_IF_ERROR(ApplyRules());
  QUIRE_RETURN_IF_ERROR(FitToWindow(static_cast<int64_t>(valid_.prompt.size()),
                                    gateway_->limits, &valid_));
  {
    absl::MutexLock lock(&mutex_);
    answer_.SetPrompt(valid_.sampling, valid_.prompt);
  }
  EngineRequest request;
  request.request_id = request_id_;
  request.prompt = std::move(valid_.prompt);
  request.sampling = valid_.sampling;
  if (IsRankedByStreams(valid_.sampling)) AskForAll(&request.sampling);
  request.priority = valid_.priority;
  request.tenant = valid_.tenant;
  request.use_prefix_cache = valid_.use_prefix_cache;
  request.cache_salt = valid_.cache_salt;
  request.deadline = deadline_;
  QUIRE_RETURN_IF_ERROR(MakeGuides(&request));
  QUIRE_ASSIGN_OR_RETURN(
      const RequestKey key,
      gateway_->router->Submit(std::move(request), shared_from_this(),
                               gateway_->engine));
  absl::MutexLock lock(&mutex_);
  key_ = key;
  if (ended_) {  // while the engine took it: by the client, or by the engine
    if (!engine_done_) {
      gateway_->engine->Finish(key, FinishReason::kCancelled);
    }
    gateway_->router->Remove(key);
  }
  return absl::OkStatus();
}

bool GenerateSession::is_quick() const {
  // Ranked answers come whole, at the end.
  const SamplingParams& sampling = valid_.sampling;
  return !valid_.rules.structure.has_value() && !TellsPrompt(sampling) &&
         sampling.beam_width == 0 && sampling.best_of <= sampling.n;
}

void GenerateSession::OnOutput(SequenceOutput output) {
  absl::MutexLock lock(&mutex_);
  if (ended_) return;
  if (!key_.has_value()) key_ = output.request;  // Submit has not returned yet
  const absl::Status status = TakeOutput(std::move(output));
  if (!status.ok()) {
    StopEngine(FinishReason::kCancelled);
    End(AsPublicError(status, "WORKER_LOST"));
    return;
  }
  Pump();
}

absl::Status GenerateSession::TakeOutput(SequenceOutput output) {
  if (!output.status.ok()) {
    engine_done_ = true;
    return output.status;
  }
  if (output.index < 0 || output.index >= answer_.num_streams()) {
    return absl::InternalError(absl::StrCat("output of sequence ", output.index,
                                            " of ", answer_.num_streams()));
  }
  if (!output.prompt_logprobs.empty()) {
    return answer_.AppendPrompt(std::move(output.prompt_logprobs));
  }
  const SequenceStream& stream = answer_.stream(output.index);
  if (stream.is_finished()) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(answer_.Append(output));
  if (output.finish_reason == FinishReason::kNone) {
    if (stream.stopped_by_string()) {
      StopSequence(output.index);
    } else if (!guides_.empty()) {
      return Guide(output.index, output.tokens);
    }
  } else if (answer_.is_finished()) {
    engine_done_ = true;
  }
  return absl::OkStatus();
}

absl::Status GenerateSession::Guide(int32_t index,
                                    absl::Span<const TokenId> tokens) {
  SequenceGuide* guide = &guides_[index];
  const int64_t num_tokens = answer_.stream(index).num_tokens();
  if (is_slow_ &&
      gateway_->text_pool->TryRun(
          [share = shared_from_this(), guide, key = *key_, index, num_tokens,
           copy = std::vector<TokenId>(tokens.begin(), tokens.end())] {
            if (share->has_ended()) return;
            const absl::Status status =
                share->SendMask(guide, key, index, num_tokens, copy);
            if (!status.ok()) share->Abort(status);
          })) {
    return absl::OkStatus();
  }
  const absl::Time begin = gateway_->clock->Now();
  QUIRE_RETURN_IF_ERROR(SendMask(guide, *key_, index, num_tokens, tokens));
  is_slow_ = is_slow_ || gateway_->clock->Now() - begin > kSlowMask;
  return absl::OkStatus();
}

absl::Status GenerateSession::SendMask(SequenceGuide* guide, RequestKey key,
                                       int32_t index, int64_t num_tokens,
                                       absl::Span<const TokenId> tokens) {
  QUIRE_RETURN_IF_ERROR(guide->Accept(tokens));
  QUIRE_ASSIGN_OR_RETURN(TokenMask mask, guide->Next());
  gateway_->engine->SetMask(key, index, num_tokens, std::move(mask));
  return absl::OkStatus();
}

void GenerateSession::StopSequence(int32_t index) {
  if (answer_.num_streams() == 1) {
    StopEngine(FinishReason::kStop);
  } else if (!engine_done_) {
    gateway_->engine->FinishSequence(*key_, index);
    engine_done_ = answer_.is_finished();
  }
}

void GenerateSession::Pump() {
  if (ended_) return;
  while (!writing_) {
    const absl::StatusOr<bool> has_next = answer_.TakeNext(&response_);
    if (!has_next.ok()) {
      StopEngine(FinishReason::kCancelled);
      End(has_next.status());
      return;
    }
    if (!*has_next) {
      if (answer_.is_finished()) WriteComplete();
      return;
    }
    response_.set_request_id(request_id_);
    writing_ = !writer_->Write(response_);
  }
}

void GenerateSession::WriteComplete() {
  response_.set_request_id(request_id_);
  v1::Complete* complete = response_.mutable_complete();
  *complete->mutable_usage() = answer_.usage();
  complete->set_seed(static_cast<int64_t>(valid_.sampling.slot.seed));
  ended_ = true;
  writer_->WriteLast(response_);
}

void GenerateSession::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (ended_) {  // while the write was under way
    writer_->Finish(status_);
    return;
  }
  if (!ok) {
    StopEngine(FinishReason::kCancelled);
    End(absl::CancelledError("the client left"));
    return;
  }
  Pump();
}

void GenerateSession::OnCancel() {
  absl::MutexLock lock(&mutex_);
  if (ended_) return;
  StopEngine(FinishReason::kCancelled);
  const bool is_late = gateway_->clock->Now() >= deadline_;
  End(is_late
          ? AsPublicError(
                absl::DeadlineExceededError("the call's deadline passed"), "")
          : absl::CancelledError("the client left"));
}

void GenerateSession::Abort(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (ended_) return;
  StopEngine(FinishReason::kCancelled);
  End(AsPublicError(status, "WORKER_LOST"));
}

void GenerateSession::StopEngine(FinishReason reason) {
  if (!key_.has_value() || engine_done_) return;
  engine_done_ = true;
  gateway_->engine->Finish(*key_, reason);
}

void GenerateSession::EndWith(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (!ended_) End(AsPublicError(status, "NO_READY_WORKERS"));
}

void GenerateSession::End(const absl::Status& status) {
  ended_ = true;
  status_ = status;
  if (!writing_) writer_->Finish(status);
}

void GenerateSession::OnDone() {
  RequestMetrics::Outcome outcome;
  {
    absl::MutexLock lock(&mutex_);
    if (key_.has_value()) gateway_->router->Remove(*key_);
    outcome.code = absl::StatusCodeToString(status_.code());
    outcome.finish_reason =
        std::string(ReasonName(answer_.finish_reason(), status_));
    answer_.Describe(&outcome);
  }
  outcome.duration = gateway_->clock->Now() - arrival_;
  gateway_->metrics->ObserveOutcome(outcome);
  if (is_in_table_) gateway_->sessions->Remove(request_id_);
}

}  // namespace quire
