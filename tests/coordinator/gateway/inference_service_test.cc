// SPDX-License-Identifier: Apache-2.0
//
// The public service over real gRPC on a free port, with an engine whose
// tokens the test writes.
#include "coordinator/gateway/inference_service.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "coordinator/grpc_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/inference.grpc.pb.h"
#include "tests/coordinator/gateway/fake_engine.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Everything that one Generate call received.
struct Received {
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<v1::Chunk> chunks;
  std::optional<v1::Complete> complete;
  std::string request_id;
  absl::Status status;
};

class InferenceServiceTest : public testing::Test {
 protected:
  InferenceServiceTest()
      : tokenizer_(MakeLettersTokenizer()),
        metrics_("letters", &registry_),
        router_(/*num_threads=*/2),
        engine_(&router_),
        text_pool_(/*num_threads=*/1, /*max_queued=*/8) {
    gateway_.clock = &clock_;
    gateway_.engine = &engine_;
    gateway_.tokenizer = tokenizer_.get();
    gateway_.router = &router_;
    gateway_.sessions = &sessions_;
    gateway_.text_pool = &text_pool_;
    gateway_.metrics = &metrics_;
    gateway_.seed = 5;
    gateway_.limits.model_name = "letters";
    gateway_.limits.vocab_size = kLettersVocabSize;
    gateway_.limits.max_model_len = 50'000;
    gateway_.limits.eos_token_ids = {kEosToken};
    gateway_.limits.max_text_bytes = 100'000;
    gateway_.facts.tensor_parallel_size = 2;
    gateway_.facts.flags = {{"block_size", "16"}};
    service_ = MakeInferenceService(&gateway_);
    auto server = GrpcServer::Start(GrpcServer::Audience::kPublic, "127.0.0.1",
                                    /*port=*/0, "port",
                                    {{"quire.v1.Inference", service_.get()}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = NewStub({});
  }

  std::unique_ptr<v1::Inference::Stub> NewStub(
      const grpc::ChannelArguments& args) {
    return v1::Inference::NewStub(grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(server_->port()),
        grpc::InsecureChannelCredentials(), args));
  }

  static v1::GenerateRequest Request(const std::string& text) {
    v1::GenerateRequest request;
    request.set_text(text);
    return request;
  }

  static SequenceOutput Output(uint64_t number, int64_t offset,
                               const std::string& text,
                               FinishReason reason = FinishReason::kNone) {
    SequenceOutput output;
    output.request = RequestKey(number);
    output.token_offset = offset;
    const std::vector<TokenId> tokens = Letters(text);
    output.tokens.assign(tokens.begin(), tokens.end());
    output.finish_reason = reason;
    return output;
  }

  static Received ReadAll(grpc::ClientReader<v1::GenerateResponse>* reader) {
    Received received;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      received.request_id = response.request_id();
      if (response.has_complete()) received.complete = response.complete();
      if (!response.has_chunk()) continue;
      const v1::Chunk& chunk = response.chunk();
      EXPECT_EQ(chunk.token_offset(), received.tokens.size());
      received.text += chunk.text();
      received.tokens.insert(received.tokens.end(), chunk.token_ids().begin(),
                             chunk.token_ids().end());
      received.chunks.push_back(chunk);
    }
    received.status = FromGrpcStatus(reader->Finish());
    return received;
  }

  // The whole answer to a request that the engine never sees or has answered.
  Received Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext rpc;
    return ReadAll(stub_->Generate(&rpc, request).get());
  }

  // Sessions leave the table when gRPC is done with them.
  void AwaitNoSessions() {
    while (sessions_.size() > 0) std::this_thread::yield();
  }

  RealClock clock_;
  prometheus::Registry registry_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  RequestMetrics metrics_;
  OutputRouter router_;
  FakeEngine engine_;
  SessionTable sessions_;
  TextPool text_pool_;
  GatewayContext gateway_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

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

TEST_F(InferenceServiceTest, StreamsTokensAsTheyCome) {
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, Request("hello"));
  const EngineRequest request = engine_.AwaitRequest(1);
  EXPECT_EQ(request.prompt, Letters("hello"));
  EXPECT_EQ(request.deadline, absl::InfiniteFuture());
  EXPECT_THAT(request.sampling.stop_token_ids, ElementsAre(kEosToken));
  // Each token is read before the next is written: nothing waits for more.
  const std::string text = "world";
  for (size_t i = 0; i < text.size(); ++i) {
    engine_.Emit(Output(1, static_cast<int64_t>(i), text.substr(i, 1)));
    v1::GenerateResponse response;
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.chunk().text(), text.substr(i, 1));
    EXPECT_EQ(response.chunk().token_offset(), i);
    EXPECT_EQ(response.request_id(), request.request_id);
  }
  SequenceOutput last = Output(1, 5, "s", FinishReason::kLength);
  last.num_cached_tokens = 3;
  engine_.Emit(last);
  const Received rest = [&] {
    Received received;
    v1::GenerateResponse response;
    EXPECT_TRUE(reader->Read(&response));
    received.chunks.push_back(response.chunk());
    EXPECT_TRUE(reader->Read(&response));
    received.complete = response.complete();
    EXPECT_FALSE(reader->Read(&response));
    received.status = FromGrpcStatus(reader->Finish());
    return received;
  }();
  EXPECT_TRUE(rest.status.ok()) << rest.status;
  EXPECT_EQ(rest.chunks[0].finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(rest.complete->usage().prompt_tokens(), 5u);
  EXPECT_EQ(rest.complete->usage().output_tokens(), 6u);
  EXPECT_EQ(rest.complete->usage().cached_tokens(), 3u);
  EXPECT_EQ(static_cast<uint64_t>(rest.complete->seed()),
            request.sampling.slot.seed);
  AwaitNoSessions();
  EXPECT_EQ(engine_.num_finished(), 0u);  // it ended by itself
  EXPECT_THAT(prometheus::TextSerializer().Serialize(registry_.Collect()),
              HasSubstr("quire_requests_total{code=\"OK\",finish_reason="
                        "\"length\",model_name=\"letters\"} 1"));
}

TEST_F(InferenceServiceTest, OutputBeforeSubmitReturnsIsNotLost) {
  engine_.AnswerInsideSubmit(Output(1, 0, "early", FinishReason::kLength));
  const Received received = Generate(Request("x"));
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.text, "early");
}

TEST_F(InferenceServiceTest, SlowReaderGetsEverythingInFewChunks) {
  grpc::ChannelArguments args;
  // The smallest window HTTP/2 keeps, so that writes soon have to wait.
  args.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto slow = NewStub(args);
  grpc::ClientContext rpc;
  v1::GenerateRequest request = Request("x");
  request.mutable_sampling()->set_max_tokens(30'000);
  auto reader = slow->Generate(&rpc, request);
  engine_.AwaitRequest(1);
  constexpr int kTokens = 30'000;
  for (int i = 0; i < kTokens; ++i) {
    engine_.Emit(
        Output(1, i, "a",
               i + 1 == kTokens ? FinishReason::kLength : FinishReason::kNone));
  }
  const Received received = ReadAll(reader.get());
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.text, std::string(kTokens, 'a'));
  EXPECT_LT(received.chunks.size(), static_cast<size_t>(kTokens));
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

TEST_F(InferenceServiceTest, DisconnectFreesTheRequest) {
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, Request("x"));
  engine_.AwaitRequest(1);
  engine_.Emit(Output(1, 0, "a"));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  rpc.TryCancel();
  EXPECT_EQ(engine_.AwaitFinish(1), FinishReason::kCancelled);
  EXPECT_EQ(FromGrpcStatus(reader->Finish()).code(),
            absl::StatusCode::kCancelled);
  AwaitNoSessions();
}

TEST_F(InferenceServiceTest, DeadlineReachesTheEngineAndTheClient) {
  grpc::ClientContext rpc;
  const absl::Time before = clock_.Now();
  rpc.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  auto reader = stub_->Generate(&rpc, Request("x"));
  const EngineRequest request = engine_.AwaitRequest(1);
  EXPECT_GT(request.deadline, before + absl::Minutes(59));
  EXPECT_LT(request.deadline, clock_.Now() + absl::Minutes(61));
  SequenceOutput expired = Output(1, 0, "");
  expired.status = absl::DeadlineExceededError("deadline passed in the queue");
  engine_.Emit(expired);
  const Received received = ReadAll(reader.get());
  EXPECT_EQ(received.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetErrorDetails(received.status).reason, "DEADLINE_EXCEEDED");
  EXPECT_EQ(engine_.num_finished(), 0u);  // the engine ended it
}

TEST_F(InferenceServiceTest, CallPastItsDeadlineIsFreed) {
  grpc::ClientContext rpc;
  rpc.set_deadline(std::chrono::system_clock::now() +
                   std::chrono::milliseconds(50));
  auto reader = stub_->Generate(&rpc, Request("x"));
  const Received received = ReadAll(reader.get());
  EXPECT_EQ(received.status.code(), absl::StatusCode::kDeadlineExceeded);
  if (engine_.num_requests() > 0) {  // it got that far in 50 ms
    EXPECT_EQ(engine_.AwaitFinish(1), FinishReason::kCancelled);
  }
  AwaitNoSessions();
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

TEST_F(InferenceServiceTest, NotReadyIsUnavailableWithARetryHint) {
  engine_.SetSubmitStatus(absl::UnavailableError("no worker group is ready"));
  const Received received = Generate(Request("x"));
  EXPECT_EQ(received.status.code(), absl::StatusCode::kUnavailable);
  const ErrorDetails details = GetErrorDetails(received.status);
  EXPECT_EQ(details.reason, "NO_READY_WORKERS");
  EXPECT_TRUE(details.retry_delay.has_value());
  AwaitNoSessions();
}

TEST_F(InferenceServiceTest, FullQueueSaysWhenToComeBack) {
  engine_.SetSubmitStatus(absl::ResourceExhaustedError("the queue is full"));
  const ErrorDetails details = GetErrorDetails(Generate(Request("x")).status);
  EXPECT_EQ(details.reason, "QUEUE_FULL");
  EXPECT_TRUE(details.retry_delay.has_value());
}

TEST_F(InferenceServiceTest, LostWorkersEndTheStream) {
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, Request("x"));
  engine_.AwaitRequest(1);
  engine_.Emit(Output(1, 0, "ab"));
  SequenceOutput lost = Output(1, 2, "");
  lost.status = absl::UnavailableError("rank 1 is lost");
  engine_.Emit(lost);
  const Received received = ReadAll(reader.get());
  EXPECT_EQ(received.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetErrorDetails(received.status).reason, "WORKER_LOST");
  EXPECT_FALSE(received.complete.has_value());
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
