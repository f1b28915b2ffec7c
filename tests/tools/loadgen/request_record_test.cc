// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/request_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

class StreamJudgeTest : public testing::Test {
 protected:
  RequestOutcome Finish(const absl::Status& status = absl::OkStatus(),
                        bool cancelled = false) {
    judge_.Finish(status, cancelled, absl::UnixEpoch());
    return record_.outcome;
  }
  bool Add(const v1::GenerateResponse& response) {
    return judge_.Add(response, absl::UnixEpoch());
  }

  RequestRecord record_;
  StreamJudge judge_{&record_};
};

TEST_F(StreamJudgeTest, AWholeStreamIsCompleted) {
  EXPECT_TRUE(Add(ChunkResponse(0, {5, 6})));
  EXPECT_TRUE(Add(ChunkResponse(2, {7})));
  EXPECT_TRUE(Add(CompleteResponse(10, 3)));
  EXPECT_EQ(Finish(), RequestOutcome::kCompleted);
  ASSERT_EQ(record_.sequences.size(), 1);
  EXPECT_EQ(record_.sequences[0].token_ids, (std::vector<uint32_t>{5, 6, 7}));
  EXPECT_EQ(record_.num_prompt_tokens, 10);
  EXPECT_EQ(record_.arrivals.size(), 2);
  EXPECT_EQ(record_.sequences[0].text, "5 6 7 ");
}

v1::GenerateResponse ChunkOf(uint32_t index, uint64_t token_offset,
                             const std::vector<uint32_t>& token_ids) {
  v1::GenerateResponse response = ChunkResponse(token_offset, token_ids);
  response.mutable_chunk()->set_index(index);
  return response;
}

TEST_F(StreamJudgeTest, SequencesAreToldApartAndCountedTogether) {
  StreamJudge judge(&record_, /*num_sequences=*/2);
  const absl::Time now = absl::UnixEpoch();
  EXPECT_TRUE(judge.Add(ChunkOf(1, 0, {8}), now));
  EXPECT_TRUE(judge.Add(ChunkOf(0, 0, {5, 6}), now));
  EXPECT_TRUE(judge.Add(ChunkOf(1, 1, {9}), now));
  EXPECT_TRUE(judge.Add(CompleteResponse(1, 4), now));
  judge.Finish(absl::OkStatus(), /*cancelled=*/false, now);
  EXPECT_EQ(record_.outcome, RequestOutcome::kCompleted) << record_.error;
  ASSERT_EQ(record_.sequences.size(), 2);
  EXPECT_EQ(record_.sequences[0].token_ids, (std::vector<uint32_t>{5, 6}));
  EXPECT_EQ(record_.sequences[1].token_ids, (std::vector<uint32_t>{8, 9}));
  EXPECT_EQ(record_.num_output_tokens(), 4);
  EXPECT_EQ(record_.arrivals[2].index, 1);
}

TEST_F(StreamJudgeTest, AGapInASiblingFails) {
  StreamJudge judge(&record_, /*num_sequences=*/2);
  const absl::Time now = absl::UnixEpoch();
  EXPECT_TRUE(judge.Add(ChunkOf(0, 0, {5, 6}), now));
  EXPECT_FALSE(judge.Add(ChunkOf(1, 2, {9}), now));
  judge.Finish(absl::OkStatus(), /*cancelled=*/false, now);
  EXPECT_EQ(record_.error,
            "gap: tokens from offset 2 after 0 tokens of sequence 1");
}

TEST_F(StreamJudgeTest, AMissingOrASurplusSequenceFails) {
  StreamJudge judge(&record_, /*num_sequences=*/2);
  const absl::Time now = absl::UnixEpoch();
  EXPECT_TRUE(judge.Add(ChunkOf(0, 0, {5}), now));
  EXPECT_FALSE(judge.Add(CompleteResponse(1, 1), now));
  judge.Finish(absl::OkStatus(), /*cancelled=*/false, now);
  EXPECT_THAT(record_.error, HasSubstr("of 2 sequences only 1"));
  RequestRecord other;
  StreamJudge strict(&other, /*num_sequences=*/2);
  EXPECT_FALSE(strict.Add(ChunkOf(2, 0, {5}), now));
}

TEST_F(StreamJudgeTest, AStreamWithoutCompleteFailed) {
  Add(ChunkResponse(0, {5}));
  EXPECT_EQ(Finish(), RequestOutcome::kFailed);
  EXPECT_THAT(record_.error, HasSubstr("without saying that it is complete"));
}

TEST_F(StreamJudgeTest, AGapFails) {
  Add(ChunkResponse(0, {5}));
  EXPECT_FALSE(Add(ChunkResponse(2, {7})));
  Add(CompleteResponse(1, 2));
  EXPECT_EQ(Finish(), RequestOutcome::kFailed);
  EXPECT_EQ(record_.error, "gap: tokens from offset 2 after 1 tokens");
}

TEST_F(StreamJudgeTest, ARepetitionFails) {
  Add(ChunkResponse(0, {5, 6}));
  EXPECT_FALSE(Add(ChunkResponse(1, {6})));
  EXPECT_EQ(Finish(), RequestOutcome::kFailed);
  EXPECT_EQ(record_.error, "repetition: tokens from offset 1 after 2 tokens");
}

TEST_F(StreamJudgeTest, AWrongCountFails) {
  Add(ChunkResponse(0, {5}));
  EXPECT_FALSE(Add(CompleteResponse(1, 2)));
  EXPECT_EQ(Finish(), RequestOutcome::kFailed);
}

TEST_F(StreamJudgeTest, NothingMayFollowTheEnd) {
  Add(CompleteResponse(1, 0));
  EXPECT_FALSE(Add(ChunkResponse(0, {5})));
  EXPECT_EQ(Finish(), RequestOutcome::kFailed);
}

TEST_F(StreamJudgeTest, AnErrorAfterTokensFails) {
  Add(ChunkResponse(0, {5}));
  EXPECT_EQ(Finish(absl::UnavailableError("worker 1 was lost")),
            RequestOutcome::kFailed);
  EXPECT_EQ(record_.error, "worker 1 was lost (UNAVAILABLE)");
}

TEST_F(StreamJudgeTest, OnlyAPlannedCancellationIsOne) {
  EXPECT_EQ(Finish(absl::CancelledError("x"), /*cancelled=*/true),
            RequestOutcome::kCancelled);
  EXPECT_EQ(Finish(absl::CancelledError("x"), /*cancelled=*/false),
            RequestOutcome::kFailed);
  // It failed for a reason of its own before the cancellation arrived.
  EXPECT_EQ(Finish(absl::InternalError("x"), /*cancelled=*/true),
            RequestOutcome::kFailed);
}

}  // namespace
}  // namespace quire
