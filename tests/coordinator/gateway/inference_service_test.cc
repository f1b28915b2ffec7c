// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/inference_service.h"

#include <string>

#include "common/wire/error_details.h"
#include "coordinator/gateway/raw_message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/served_gateway.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using InferenceServiceTest = ServedGateway;

TEST_F(InferenceServiceTest, SiblingsAreStreamedEachUnderItsIndex) {
  grpc::ClientContext rpc;
  v1::GenerateRequest asked = Request("hello");
  asked.mutable_sampling()->set_n(2);
  asked.mutable_sampling()->add_stop("zz");
  asked.set_priority(-3);
  asked.set_tenant("acme");
  asked.set_use_prefix_cache(false);
  asked.set_cache_salt("salt");
  auto reader = stub_->Generate(&rpc, asked);
  const EngineRequest request = engine_.AwaitRequest(1);
  EXPECT_EQ(request.sampling.n, 2);
  EXPECT_EQ(request.sampling.best_of, 2);
  EXPECT_EQ(request.priority, -3);
  EXPECT_EQ(request.tenant, "acme");
  EXPECT_FALSE(request.use_prefix_cache);
  EXPECT_EQ(request.cache_salt, "salt");
  SequenceOutput first = Output(1, 0, "ab", FinishReason::kLength);
  first.num_cached_tokens = 3;
  engine_.Emit(first);
  SequenceOutput second = Output(1, 0, "czz");
  second.index = 1;
  engine_.Emit(second);
  // The stop string ends its sequence alone, and with it the request.
  EXPECT_THAT(engine_.AwaitFinishedSequences(1),
              ElementsAre(std::pair<uint64_t, int32_t>(1, 1)));
  std::string texts[2];
  v1::GenerateResponse response;
  v1::Complete complete;
  while (reader->Read(&response)) {
    if (response.has_complete()) complete = response.complete();
    if (!response.has_chunk()) continue;
    ASSERT_LT(response.chunk().index(), 2);
    texts[response.chunk().index()] += response.chunk().text();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(texts[0], "ab");
  EXPECT_EQ(texts[1], "c");
  EXPECT_EQ(complete.usage().output_tokens(), 5);
  EXPECT_EQ(complete.usage().cached_tokens(), 3);
}

TEST_F(InferenceServiceTest, TheBestAreChosenWhereStopStringsEndThem) {
  grpc::ClientContext rpc;
  v1::GenerateRequest asked = Request("hello");
  asked.mutable_sampling()->set_n(1);
  asked.mutable_sampling()->set_best_of(3);
  asked.mutable_sampling()->add_stop("zz");
  auto reader = stub_->Generate(&rpc, asked);
  const EngineRequest request = engine_.AwaitRequest(1);
  EXPECT_EQ(request.sampling.n, 3);
  EXPECT_EQ(request.sampling.best_of, 3);
  EXPECT_EQ(request.sampling.slot.num_logprobs, 0);
  const auto emit = [&](int32_t index, const std::string& text, float logprob,
                        FinishReason reason) {
    SequenceOutput output = Output(1, 0, text, reason);
    output.index = index;
    for (size_t i = 0; i < text.size(); ++i) {
      SampledLogprobs& sampled = output.logprobs.emplace_back();
      sampled.sample_idx = static_cast<int32_t>(i);
      sampled.logprob = logprob;
    }
    engine_.Emit(output);
  };
  emit(0, "aaaa", -1, FinishReason::kLength);
  emit(2, "cczzcc", -0.5, FinishReason::kNone);  // -2 up to its end
  EXPECT_THAT(engine_.AwaitFinishedSequences(1),
              ElementsAre(std::pair<uint64_t, int32_t>(1, 2)));
  emit(1, "bb", -1.5, FinishReason::kLength);
  const Received received = ReadAll(reader.get());
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.text, "cc");
  ASSERT_EQ(received.chunks.size(), 1);
  EXPECT_EQ(received.chunks[0].index(), 0);
  EXPECT_EQ(received.chunks[0].stop_string(), "zz");
  EXPECT_EQ(received.chunks[0].logprobs_size(), 0);  // were not asked for
  EXPECT_EQ(received.complete->usage().output_tokens(), 4u);
  AwaitNoSessions();
  EXPECT_EQ(engine_.num_finished(), 0u);
}

TEST_F(InferenceServiceTest, StopStringAcrossChunksEndsTheRequest) {
  v1::GenerateRequest request = Request("x");
  request.mutable_sampling()->add_stop("stop");
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, request);
  engine_.AwaitRequest(1);
  engine_.Emit(Output(1, 0, "go st"));
  engine_.Emit(Output(1, 5, "op on"));
  engine_.Emit(Output(1, 10, "z"));  // already sampled when it was told
  const Received received = ReadAll(reader.get());
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.text, "go ");
  EXPECT_EQ(received.tokens.size(), 7u);
  EXPECT_EQ(received.chunks.back().stop_string(), "stop");
  EXPECT_EQ(received.complete->usage().output_tokens(), 7u);
  EXPECT_EQ(engine_.AwaitFinish(1), FinishReason::kStop);
}

TEST_F(InferenceServiceTest, CancelEndsTheNamedRequestOnly) {
  v1::GenerateRequest named = Request("x");
  named.set_request_id("mine");
  grpc::ClientContext rpc, other_rpc;
  auto reader = stub_->Generate(&rpc, named);
  engine_.AwaitRequest(1);
  auto other = stub_->Generate(&other_rpc, Request("y"));
  engine_.AwaitRequest(2);

  v1::CancelRequest cancel;
  cancel.set_request_id("mine");
  v1::CancelResponse response;
  grpc::ClientContext cancel_rpc, again_rpc;
  EXPECT_TRUE(stub_->Cancel(&cancel_rpc, cancel, &response).ok());
  EXPECT_EQ(engine_.AwaitFinish(1), FinishReason::kCancelled);
  const Received received = ReadAll(reader.get());
  EXPECT_EQ(received.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(GetErrorDetails(received.status).reason, "REQUEST_CANCELLED");

  engine_.Emit(Output(2, 0, "ok", FinishReason::kLength));
  EXPECT_EQ(ReadAll(other.get()).text, "ok");
  AwaitNoSessions();
  EXPECT_EQ(FromGrpcStatus(stub_->Cancel(&again_rpc, cancel, &response)).code(),
            absl::StatusCode::kNotFound);
}

TEST_F(InferenceServiceTest, RunningRequestIdIsTaken) {
  v1::GenerateRequest named = Request("x");
  named.set_request_id("mine");
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, named);
  engine_.AwaitRequest(1);
  const Received second = Generate(named);
  EXPECT_EQ(second.status.code(), absl::StatusCode::kAlreadyExists);
  engine_.Emit(Output(1, 0, "ok", FinishReason::kLength));
  EXPECT_TRUE(ReadAll(reader.get()).status.ok());
  AwaitNoSessions();
  engine_.AnswerInsideSubmit(Output(2, 0, "free", FinishReason::kLength));
  EXPECT_EQ(Generate(named).text, "free");
}

TEST_F(InferenceServiceTest, ServerPicksDifferentNamesAndSeeds) {
  engine_.AnswerInsideSubmit(Output(1, 0, "a", FinishReason::kLength));
  const Received first = Generate(Request("x"));
  engine_.AnswerInsideSubmit(Output(2, 0, "a", FinishReason::kLength));
  const Received second = Generate(Request("x"));
  EXPECT_NE(first.request_id, second.request_id);
  EXPECT_NE(first.complete->seed(), second.complete->seed());
  v1::GenerateRequest seeded = Request("x");
  seeded.mutable_sampling()->set_seed(-7);
  engine_.AnswerInsideSubmit(Output(3, 0, "a", FinishReason::kLength));
  EXPECT_EQ(Generate(seeded).complete->seed(), -7);
}

TEST_F(InferenceServiceTest, LongTextIsEncodedOnThePool) {
  engine_.AnswerInsideSubmit(Output(1, 0, "a", FinishReason::kLength));
  const Received received = Generate(Request(std::string(20'000, 'q')));
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.complete->usage().prompt_tokens(), 20'000u);
}

TEST_F(InferenceServiceTest, BadRequestsNeverReachTheEngine) {
  v1::GenerateRequest bad = Request("x");
  bad.mutable_sampling()->set_temperature(9);
  const Received refused = Generate(bad);
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(refused.status).field_violations[0].field,
            "sampling.temperature");
  v1::GenerateRequest unknown = Request("x");
  unknown.set_model("other");
  EXPECT_EQ(Generate(unknown).status.code(), absl::StatusCode::kNotFound);
  v1::GenerateRequest long_one = Request("x");
  long_one.mutable_sampling()->set_max_tokens(50'000);
  EXPECT_EQ(GetErrorDetails(Generate(long_one).status).reason,
            "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(engine_.num_requests(), 0u);
}

TEST_F(InferenceServiceTest, RequestsOfTooManyPartsAreRefused) {
  v1::ChatRequest chat;
  v1::GenerateRequest generate = Request("x");
  for (int i = 0; i <= kMaxRequestParts; ++i) {
    chat.add_messages();
    generate.mutable_sampling()->add_bad_words();
  }
  grpc::ClientContext rpc, cancel_rpc;
  auto reader = stub_->Chat(&rpc, chat);
  const ErrorDetails details =
      GetErrorDetails(FromGrpcStatus(reader->Finish()));
  ASSERT_EQ(details.field_violations.size(), 1u);
  EXPECT_EQ(details.field_violations[0].field, "messages");
  EXPECT_EQ(GetErrorDetails(Generate(generate).status).metadata.at("field"),
            "sampling.bad_words");
  // Fields that a message does not know take memory, too.
  v1::CancelRequest cancel;
  auto* unknown = cancel.GetReflection()->MutableUnknownFields(&cancel);
  for (int i = 0; i <= kMaxRequestParts; ++i) unknown->AddVarint(99, 1);
  v1::CancelResponse response;
  EXPECT_EQ(
      FromGrpcStatus(stub_->Cancel(&cancel_rpc, cancel, &response)).code(),
      absl::StatusCode::kInvalidArgument);
  AwaitNoSessions();
  EXPECT_EQ(engine_.num_requests(), 0u);
}

TEST_F(InferenceServiceTest, DrainRefusesNewAndEndsOld) {
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, Request("x"));
  engine_.AwaitRequest(1);
  const auto counts = sessions_.Drain(clock_.Now(), &clock_);
  EXPECT_EQ(counts.num_aborted, 1u);
  EXPECT_EQ(engine_.AwaitFinish(1), FinishReason::kCancelled);
  for (const absl::Status& status :
       {ReadAll(reader.get()).status, Generate(Request("y")).status}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(GetErrorDetails(status).reason, "DRAINING");
  }
}

TEST_F(InferenceServiceTest, TokenizeAndDetokenizeAgree) {
  v1::TokenizeRequest tokenize;
  v1::TokenizeResponse tokens;
  tokenize.set_text("hi you");
  grpc::ClientContext tokenize_rpc, detokenize_rpc, bad_rpc, long_rpc;
  ASSERT_TRUE(stub_->Tokenize(&tokenize_rpc, tokenize, &tokens).ok());
  EXPECT_THAT(tokens.token_ids(), ElementsAre(8, 9, 27, 25, 15, 21));
  EXPECT_EQ(tokens.pieces(0), "h");

  v1::DetokenizeRequest detokenize;
  v1::DetokenizeResponse text;
  *detokenize.mutable_token_ids() = tokens.token_ids();
  ASSERT_TRUE(stub_->Detokenize(&detokenize_rpc, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "hi you");

  detokenize.add_token_ids(kLettersVocabSize);
  EXPECT_EQ(
      FromGrpcStatus(stub_->Detokenize(&bad_rpc, detokenize, &text)).code(),
      absl::StatusCode::kInvalidArgument);
  tokenize.set_text(std::string(50'000, 'a'));
  ASSERT_TRUE(stub_->Tokenize(&long_rpc, tokenize, &tokens).ok());
  EXPECT_EQ(tokens.token_ids_size(), 50'000);
}

TEST_F(InferenceServiceTest, ExplainsWhyARequestWaits) {
  const absl::Time arrival = absl::FromUnixMicros(1700000000000000);
  const auto at = [&](int ms) { return arrival + absl::Milliseconds(ms); };
  Timeline timeline;
  timeline.request_id = "a";
  timeline.state = TimelineState::kRunning;
  timeline.arrival = arrival;
  timeline.end = at(9);
  timeline.unlisted = absl::Milliseconds(1);
  timeline.num_preemptions = 1;
  timeline.intervals = {
      {.from = at(1),
       .to = at(4),
       .why = {.reason = WaitReason::kNeedsBlocks,
               .num_needed = 7,
               .num_available = 2},
       .other = ""},
      {.from = at(6),
       .to = at(8),
       .why = {.reason = WaitReason::kPreemptedBy, .other_arrival = 3},
       .other = "b"}};
  const auto total = [&](WaitReason reason) -> absl::Duration& {
    return timeline.totals[static_cast<int>(reason)];
  };
  total(WaitReason::kNextStep) = absl::Milliseconds(1);
  total(WaitReason::kNeedsBlocks) = absl::Milliseconds(3);
  total(WaitReason::kPreemptedBy) = absl::Milliseconds(2);
  engine_.SetTimeline(timeline);
  v1::ExplainRequest request;
  v1::ExplainResponse explained;
  request.set_request_id("a");
  grpc::ClientContext rpc, unknown_rpc;
  ASSERT_TRUE(stub_->Explain(&rpc, request, &explained).ok());
  EXPECT_EQ(explained.request_id(), "a");
  EXPECT_EQ(explained.state(), v1::ExplainResponse::STATE_RUNNING);
  EXPECT_EQ(explained.arrival_unix_us(), 1700000000000000);
  EXPECT_EQ(explained.elapsed_ns(), 9000000);
  EXPECT_EQ(explained.waited_ns(), 6000000);
  EXPECT_EQ(explained.unlisted_ns(), 1000000);
  EXPECT_EQ(explained.num_preemptions(), 1);
  ASSERT_EQ(explained.intervals_size(), 2);
  EXPECT_EQ(explained.intervals(0).from_ns(), 1000000);
  EXPECT_EQ(explained.intervals(0).to_ns(), 4000000);
  EXPECT_EQ(explained.intervals(0).reason(), v1::WAIT_REASON_NEEDS_BLOCKS);
  EXPECT_EQ(explained.intervals(0).num_needed(), 7);
  EXPECT_EQ(explained.intervals(0).num_available(), 2);
  EXPECT_EQ(explained.intervals(1).reason(), v1::WAIT_REASON_PREEMPTED_BY);
  EXPECT_EQ(explained.intervals(1).other(), "b");
  EXPECT_EQ(explained.totals_size(), 3);
  request.set_request_id("never");
  EXPECT_EQ(stub_->Explain(&unknown_rpc, request, &explained).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(InferenceServiceTest, InfoAndModelsDescribeTheServer) {
  EngineStats stats;
  stats.ready = true;
  stats.num_free_blocks = 60;
  stats.num_cached_blocks = 40;
  engine_.SetStats(stats);
  v1::GetServerInfoResponse info;
  v1::ListModelsResponse models;
  grpc::ClientContext info_rpc, models_rpc;
  ASSERT_TRUE(stub_->GetServerInfo(&info_rpc, {}, &info).ok());
  EXPECT_TRUE(info.ready());
  EXPECT_EQ(info.num_free_blocks(), 60u);
  EXPECT_EQ(info.num_cached_blocks(), 40u);
  EXPECT_EQ(info.num_blocks(), 100u);
  EXPECT_EQ(info.tensor_parallel_size(), 2u);
  EXPECT_EQ(info.flags().at("block_size"), "16");
  ASSERT_TRUE(stub_->ListModels(&models_rpc, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "letters");
  EXPECT_EQ(models.models(0).max_model_len(), 50'000u);
}

}  // namespace
}  // namespace quire
