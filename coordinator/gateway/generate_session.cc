// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/generate_session.h"

#include <algorithm>
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

bool TellsPrompt(const SamplingParams& sampling) {
  return sampling.echo || sampling.slot.num_prompt_logprobs >= 0;
}

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
      arrival_(gateway->clock->Now()),
      deadline_(deadline) {}

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
  std::vector<SequenceStream> streams;
  std::vector<size_t> answer;
  const bool is_ranked = IsRankedByStreams(valid_.sampling);
  const int32_t num_streams =
      is_ranked ? valid_.sampling.best_of : valid_.sampling.n;
  for (int32_t index = 0; index < num_streams; ++index) {
    QUIRE_ASSIGN_OR_RETURN(
        SequenceStream stream,
        SequenceStream::Create(gateway_->tokenizer, valid_.sampling, index,
                               input.shown_special_tokens));
    streams.push_back(std::move(stream));
    if (!is_ranked) answer.push_back(index);
  }
  {
    absl::MutexLock lock(&mutex_);
    streams_ = std::move(streams);
    answer_ = std::move(answer);
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
  while (guides_.size() + 1 < streams_.size()) {
    QUIRE_ASSIGN_OR_RETURN(SequenceGuide clone, guide.Clone());
    guides_.push_back(std::move(clone));
  }
  guides_.push_back(std::move(guide));
  return absl::OkStatus();
}

absl::Status GenerateSession::FitAndSubmit() {
  QUIRE_RETURN_IF_ERROR(ApplyRules());
  const auto num_prompt_tokens = static_cast<int64_t>(valid_.prompt.size());
  QUIRE_RETURN_IF_ERROR(
      FitToWindow(num_prompt_tokens, gateway_->limits, &valid_));
  {
    absl::MutexLock lock(&mutex_);
    num_prompt_tokens_ = num_prompt_tokens;
    if (TellsPrompt(valid_.sampling)) {
      prompt_.emplace(
          gateway_->tokenizer, valid_.prompt,
          PromptWishes{valid_.sampling.echo,
                       valid_.sampling.slot.num_prompt_logprobs >= 0,
                       valid_.sampling.skip_special_tokens});
    }
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
  if (output.index < 0 || output.index >= streams_.size()) {
    return absl::InternalError(absl::StrCat("output of sequence ", output.index,
                                            " of ", streams_.size()));
  }
  if (!output.prompt_logprobs.empty()) {
    if (!prompt_.has_value()) return absl::OkStatus();
    return prompt_->Append(std::move(output.prompt_logprobs));
  }
  SequenceStream& stream = streams_[output.index];
  if (stream.is_finished()) return absl::OkStatus();
  num_cached_tokens_ = std::max(num_cached_tokens_, output.num_cached_tokens);
  const int64_t num_before = stream.num_tokens();
  QUIRE_RETURN_IF_ERROR(stream.Append(output));
  if (!answer_.empty()) NoteTokens(stream.num_tokens() - num_before);
  if (output.finish_reason == FinishReason::kNone) {
    if (stream.stopped_by_string()) {
      StopSequence(output.index);
    } else if (!guides_.empty()) {
      return Guide(output.index, output.tokens);
    }
  } else if (IsFinished()) {
    engine_done_ = true;
  }
  return absl::OkStatus();
}

absl::Status GenerateSession::Guide(int32_t index,
                                    absl::Span<const TokenId> tokens) {
  SequenceGuide* guide = &guides_[index];
  const int64_t num_tokens = streams_[index].num_tokens();
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

bool GenerateSession::IsFinished() const {
  return std::all_of(
      streams_.begin(), streams_.end(),
      [](const SequenceStream& stream) { return stream.is_finished(); });
}

void GenerateSession::StopSequence(int32_t index) {
  if (streams_.size() == 1) {
    StopEngine(FinishReason::kStop);
  } else if (!engine_done_) {
    gateway_->engine->FinishSequence(*key_, index);
    engine_done_ = IsFinished();
  }
}

void GenerateSession::NoteTokens(int64_t num_tokens) {
  if (num_tokens == 0) return;
  const absl::Time now = gateway_->clock->Now();
  num_tokens_ += num_tokens;
  if (num_tokens_ == num_tokens) {
    first_token_ = now;
    gateway_->metrics->ObserveFirstToken(now - arrival_);
  } else {
    gateway_->metrics->ObserveTokens(now - last_token_, num_tokens);
  }
  last_token_ = now;
}

void GenerateSession::TakeBest() {
  answer_ = BestStreams(streams_, valid_.sampling.n);
  int64_t num_tokens = 0;
  for (size_t index = 0; index < answer_.size(); ++index) {
    SequenceStream& stream = streams_[answer_[index]];
    stream.set_index(static_cast<int32_t>(index));
    num_tokens += stream.num_tokens();
  }
  NoteTokens(num_tokens);
}

void GenerateSession::Pump() {
  if (writing_ || ended_) return;
  if (!PumpPrompt()) return;
  if (answer_.empty() && IsFinished()) TakeBest();
  // In turn, so that none of them has to wait for a talkative sibling.
  for (size_t i = 0; i < answer_.size(); ++i) {
    SequenceStream& stream = streams_[answer_[next_]];
    next_ = (next_ + 1) % answer_.size();
    if (!stream.has_chunk()) continue;
    response_.set_request_id(request_id_);
    *response_.mutable_chunk() = stream.TakeChunk();
    writing_ = !writer_->Write(response_);
    if (writing_) return;
  }
  if (IsFinished()) WriteComplete();
}

bool GenerateSession::PumpPrompt() {
  while (prompt_.has_value() && prompt_->has_chunk()) {
    absl::StatusOr<v1::Prompt> chunk = prompt_->TakeChunk();
    if (!chunk.ok()) {
      StopEngine(FinishReason::kCancelled);
      End(chunk.status());
      return false;
    }
    response_.set_request_id(request_id_);
    *response_.mutable_prompt() = *std::move(chunk);
    writing_ = !writer_->Write(response_);
    if (writing_) return false;
  }
  return true;
}

void GenerateSession::WriteComplete() {
  response_.set_request_id(request_id_);
  v1::Complete* complete = response_.mutable_complete();
  v1::Usage* usage = complete->mutable_usage();
  usage->set_prompt_tokens(static_cast<uint32_t>(num_prompt_tokens_));
  usage->set_output_tokens(static_cast<uint32_t>(num_tokens_));
  usage->set_cached_tokens(static_cast<uint32_t>(num_cached_tokens_));
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
    const FinishReason reason =
        streams_.empty() ? FinishReason::kNone : streams_[0].finish_reason();
    outcome.finish_reason = std::string(ReasonName(reason, status_));
    outcome.num_output_tokens = num_tokens_;
    if (outcome.num_output_tokens > 1) {
      outcome.decode = last_token_ - first_token_;
    }
  }
  outcome.duration = gateway_->clock->Now() - arrival_;
  outcome.num_prompt_tokens = num_prompt_tokens_;
  gateway_->metrics->ObserveOutcome(outcome);
  if (is_in_table_) gateway_->sessions->Remove(request_id_);
}

}  // namespace quire
