// SPDX-License-Identifier: Apache-2.0
//
// What gRPC adds to a session: its stream, its deadline, its cancellation and
// its trailers.
#include "coordinator/gateway/generate_call.h"

#include <prometheus/text_serializer.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/served_gateway.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using GenerateCallTest = ServedGateway;

TEST_F(GenerateCallTest, StreamsTokensAsTheyCome) {
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

TEST_F(GenerateCallTest, OutputBeforeSubmitReturnsIsNotLost) {
  engine_.AnswerInsideSubmit(Output(1, 0, "early", FinishReason::kLength));
  const Received received = Generate(Request("x"));
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.text, "early");
}

TEST_F(GenerateCallTest, SlowReaderGetsEverythingInFewChunks) {
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

TEST_F(GenerateCallTest, DisconnectFreesTheRequest) {
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

TEST_F(GenerateCallTest, CallsThatAreLeftAsTheyBeginAreFreed) {
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext rpc;
    auto reader = stub_->Generate(&rpc, Request("hello"));
    rpc.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  AwaitNoSessions();
}

TEST_F(GenerateCallTest, ManyCallsThatComeAtOnceAreAllAnswered) {
  constexpr int kCalls = 300;  // more than gRPC is asked for at a time
  std::vector<std::unique_ptr<grpc::ClientContext>> rpcs;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>>
      readers;
  for (int i = 0; i < kCalls; ++i) {
    rpcs.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(rpcs.back().get(), Request("hello")));
  }
  engine_.AwaitRequest(kCalls);
  std::vector<SequenceOutput> outputs;
  for (int i = 1; i <= kCalls; ++i) {
    outputs.push_back(Output(i, 0, "world", FinishReason::kLength));
  }
  router_.OnOutputs(std::move(outputs));
  for (const auto& reader : readers) {
    const Received received = ReadAll(reader.get());
    EXPECT_TRUE(received.status.ok()) << received.status;
    EXPECT_EQ(received.text, "world");
  }
}

TEST_F(GenerateCallTest, ACallThatIsLongInComingHoldsUpNoOther) {
  v1::GenerateRequest slow = Request("x");
  slow.set_request_id("slow");
  engine_.HoldSubmit("slow");
  grpc::ClientContext rpc;
  auto reader = stub_->Generate(&rpc, slow);
  engine_.AwaitHeldSubmit();
  v1::GenerateRequest wrong = Request("x");  // over the same connection
  wrong.mutable_sampling()->set_top_p(2);
  EXPECT_EQ(Generate(wrong).status.code(), absl::StatusCode::kInvalidArgument);
  engine_.HoldSubmit("");
  engine_.AwaitRequest(1);
  engine_.Emit(Output(1, 0, "y", FinishReason::kLength));
  EXPECT_EQ(ReadAll(reader.get()).text, "y");
}

TEST_F(GenerateCallTest, TheServerEndsOnceItsCallsHave) {
  constexpr size_t kCalls = 20;
  std::vector<std::unique_ptr<grpc::ClientContext>> rpcs;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>>
      readers;
  for (size_t i = 0; i < kCalls; ++i) {
    rpcs.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(rpcs.back().get(), Request("hello")));
  }
  engine_.AwaitRequest(kCalls);
  engine_.AllowFinish(false);  // the first holds up the others
  std::thread end([this] { server_->Shutdown(absl::ZeroDuration()); });
  engine_.AwaitFinishing(1);
  for (const auto& reader : readers) {
    EXPECT_FALSE(reader->Finish().ok());  // the connection is gone
  }
  engine_.AllowFinish(true);
  end.join();
  EXPECT_EQ(engine_.num_finished(), kCalls);
  EXPECT_EQ(sessions_.size(), 0);
}

TEST_F(GenerateCallTest, DeadlineReachesTheEngineAndTheClient) {
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

TEST_F(GenerateCallTest, CallPastItsDeadlineIsFreed) {
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

TEST_F(GenerateCallTest, NotReadyIsUnavailableWithARetryHint) {
  engine_.SetSubmitStatus(absl::UnavailableError("no worker group is ready"));
  const Received received = Generate(Request("x"));
  EXPECT_EQ(received.status.code(), absl::StatusCode::kUnavailable);
  const ErrorDetails details = GetErrorDetails(received.status);
  EXPECT_EQ(details.reason, "NO_READY_WORKERS");
  EXPECT_TRUE(details.retry_delay.has_value());
  AwaitNoSessions();
}

// gRPC's own retries read a trailer, our clients the details: they must agree.
TEST_F(GenerateCallTest, PushbackIsTheRetryDelayInMilliseconds) {
  engine_.SetSubmitStatus(absl::ResourceExhaustedError("the queue is full"));
  grpc::ClientContext rpc;
  const Received received = ReadAll(stub_->Generate(&rpc, Request("x")).get());
  const ErrorDetails details = GetErrorDetails(received.status);
  ASSERT_TRUE(details.retry_delay.has_value());
  const auto& trailers = rpc.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.length()),
            absl::StrCat(absl::ToInt64Milliseconds(*details.retry_delay)));
}

TEST_F(GenerateCallTest, WhatIsNotToBeTriedAgainHasNoPushback) {
  grpc::ClientContext rpc;
  v1::GenerateRequest wrong = Request("x");
  wrong.mutable_sampling()->set_top_p(2);
  EXPECT_EQ(ReadAll(stub_->Generate(&rpc, wrong).get()).status.code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rpc.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 0);
  AwaitNoSessions();
}

TEST_F(GenerateCallTest, FullQueueSaysWhenToComeBack) {
  engine_.SetSubmitStatus(absl::ResourceExhaustedError("the queue is full"));
  const ErrorDetails details = GetErrorDetails(Generate(Request("x")).status);
  EXPECT_EQ(details.reason, "QUEUE_FULL");
  EXPECT_TRUE(details.retry_delay.has_value());
}

TEST_F(GenerateCallTest, LostWorkersEndTheStream) {
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

}  // namespace
}  // namespace quire
