// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/explain_response.h"

#include "proto/inference.pb.h"

namespace quire {
namespace {

// The protocol's reasons are the engine's, in order, after UNSPECIFIED.
static_assert(v1::WaitReason_ARRAYSIZE == kNumWaitReasons + 1);
static_assert(v1::WAIT_REASON_NEXT_STEP ==
              static_cast<int>(WaitReason::kNextStep) + 1);
static_assert(v1::WAIT_REASON_BEHIND ==
              static_cast<int>(WaitReason::kBehind) + 1);
static_assert(v1::WAIT_REASON_OTHER_ALONE ==
              static_cast<int>(WaitReason::kOtherAlone) + 1);

v1::WaitReason ToProto(size_t reason) {
  return static_cast<v1::WaitReason>(reason + 1);
}

void FillShares(const WaitTotals& totals,
                google::protobuf::RepeatedPtrField<v1::WaitShare>* shares) {
  for (size_t reason = 0; reason < totals.size(); ++reason) {
    if (totals[reason] == absl::ZeroDuration()) continue;
    v1::WaitShare* share = shares->Add();
    share->set_reason(ToProto(reason));
    share->set_ns(absl::ToInt64Nanoseconds(totals[reason]));
  }
}

}  // namespace

void FillExplainResponse(const Timeline& timeline,
                         v1::ExplainResponse* response) {
  const auto since_arrival = [&](absl::Time time) {
    return absl::ToInt64Nanoseconds(time - timeline.arrival);
  };
  response->set_request_id(timeline.request_id);
  response->set_state(static_cast<v1::ExplainResponse::State>(
      static_cast<int>(timeline.state) + 1));
  response->set_arrival_unix_us(absl::ToUnixMicros(timeline.arrival));
  response->set_elapsed_ns(since_arrival(timeline.end));
  response->set_waited_ns(absl::ToInt64Nanoseconds(timeline.waited()));
  response->set_unlisted_ns(absl::ToInt64Nanoseconds(timeline.unlisted));
  response->set_num_preemptions(timeline.num_preemptions);
  for (const WaitInterval& interval : timeline.intervals) {
    v1::WaitInterval* added = response->add_intervals();
    added->set_from_ns(since_arrival(interval.from));
    added->set_to_ns(since_arrival(interval.to));
    added->set_reason(ToProto(static_cast<size_t>(interval.why.reason)));
    added->set_num_needed(interval.why.num_needed);
    added->set_num_available(interval.why.num_available);
    added->set_other(interval.other);
  }
  FillShares(timeline.totals, response->mutable_totals());
  FillShares(timeline.behind_causes, response->mutable_behind_causes());
}

}  // namespace quire
