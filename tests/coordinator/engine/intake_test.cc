// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/intake.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.max_model_len = 100;
  options.block_size = 4;
  options.max_queued_requests = 3;
  options.max_queued_tokens = 50;
  return options;
}

EngineRequest Request(const std::string& id, int num_tokens = 4,
                      int max_tokens = 4) {
  EngineRequest request;
  request.request_id = id;
  request.prompt.assign(num_tokens, 1);
  request.sampling.max_tokens = max_tokens;
  return request;
}

class IntakeTest : public testing::Test {
 protected:
  IntakeTest() { intake_.Open(/*num_blocks=*/20); }

  absl::Status Refusal(const EngineRequest& request) {
    return intake_.Accept(request).status();
  }

  Intake intake_{Options()};
};

TEST_F(IntakeTest, KeysAreNeverReused) {
  const RequestKey first = *intake_.Accept(Request("a"));
  intake_.Ended("a");
  EXPECT_NE(*intake_.Accept(Request("a")), first);
}

TEST_F(IntakeTest, AnIdIsTakenUntilItsRequestHasEnded) {
  const RequestKey key = *intake_.Accept(Request("a"));
  EXPECT_EQ(*intake_.Find("a"), key);
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kAlreadyExists);
  intake_.Ended("a");
  EXPECT_EQ(intake_.Find("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Refusal(Request("a")).ok());
}

TEST_F(IntakeTest, TheQueueIsBoundedInRequests) {
  for (const char* id : {"a", "b", "c"}) {
    EXPECT_TRUE(Refusal(Request(id)).ok());
  }
  const absl::Status status = Refusal(Request("d"));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "the queue is full: 3 requests wait, the limit is 3");
  intake_.Left(/*num_requests=*/1, /*num_tokens=*/4);
  EXPECT_TRUE(Refusal(Request("d")).ok());
}

TEST_F(IntakeTest, TheQueueIsBoundedInTokens) {
  EXPECT_TRUE(Refusal(Request("a", 30)).ok());
  const absl::Status status = Refusal(Request("b", 21));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "the queue is full: prompts of 30 tokens wait and this one has "
            "21, the limit is 50");
  EXPECT_TRUE(Refusal(Request("b", 20)).ok());
}

TEST_F(IntakeTest, ARefusedRequestTakesNoPlace) {
  EXPECT_FALSE(Refusal(Request("a", 99, 99)).ok());
  EXPECT_EQ(intake_.num_queued(), 0);
  EXPECT_EQ(intake_.num_accepted(), 0);
}

TEST_F(IntakeTest, WhatFitsNeitherWindowNorPoolIsRefusedWithNumbers) {
  const absl::Status window = Refusal(Request("a", 40, 61));
  EXPECT_EQ(window.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(window.message(),
            "the prompt has 40 tokens and max_tokens is 61: together more "
            "than max_model_len 100");
  const absl::Status pool = Refusal(Request("a", 40, 42));
  EXPECT_EQ(pool.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(pool.message(),
            "prompt and max_tokens, 82 tokens, need 21 KV blocks; the pool "
            "has 20");
  // The 81st token is never computed, so 20 blocks of 4 hold the rest.
  EXPECT_TRUE(Refusal(Request("a", 40, 41)).ok());
  EXPECT_EQ(Refusal(Request("b", 0)).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(IntakeStateTest, IsUnavailableUntilWorkersAreReady) {
  Intake intake(Options());
  EXPECT_EQ(intake.Accept(Request("a")).status().code(),
            absl::StatusCode::kUnavailable);
  intake.Open(20);
  EXPECT_TRUE(intake.Accept(Request("a")).ok());
  intake.Close(absl::UnavailableError("gone"));
  EXPECT_EQ(intake.Accept(Request("b")).status().message(), "gone");
  intake.Open(20);
  EXPECT_TRUE(intake.Accept(Request("b")).ok());
}

TEST(IntakeStateTest, KeysOfSeveralEnginesAreApart) {
  Intake second(Options(), /*engine_idx=*/1, /*num_engines=*/3);
  second.Open(20);
  EXPECT_EQ(second.Accept(Request("a")).value(), RequestKey(2));
  EXPECT_EQ(second.Accept(Request("b")).value(), RequestKey(5));
  EXPECT_EQ(second.Accept(Request("c")).value(), RequestKey(8));
}

TEST(IntakeStateTest, AnAdoptedRequestCountsAsItsOwn) {
  Intake intake(Options());
  intake.Adopt("a", RequestKey(77), /*is_queued=*/true, 30);
  intake.Adopt("b", RequestKey(78), /*is_queued=*/false, 30);
  intake.Open(20);
  EXPECT_EQ(intake.Find("a").value(), RequestKey(77));
  EXPECT_EQ(intake.num_accepted(), 2);
  EXPECT_EQ(intake.num_queued(), 1);
  EXPECT_EQ(intake.num_queued_tokens(), 30);
  EXPECT_EQ(intake.Accept(Request("b")).status().code(),
            absl::StatusCode::kAlreadyExists);
  intake.Left(1, 30);
  intake.Ended("a");
  EXPECT_EQ(intake.num_queued(), 0);
  EXPECT_EQ(intake.num_accepted(), 1);
}

TEST(IntakeStateTest, DrainingOutlivesReadiness) {
  Intake intake(Options());
  intake.Open(20);
  intake.BeginDrain();
  intake.Open(20);
  const absl::Status status = intake.Accept(Request("a")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "draining: no new requests are taken");
}

}  // namespace
}  // namespace quire
