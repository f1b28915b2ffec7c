// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/bench_rank.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/wire/step_plan_wire.h"
#include "glog/logging.h"

namespace quire {

PlanInbox::PlanInbox(Stream* stream)
    : reader_([this, stream] { ReadAll(stream); }) {}

PlanInbox::~PlanInbox() { reader_.join(); }

void PlanInbox::ReadAll(Stream* stream) {
  v1::StepPlan message;
  while (stream->Read(&message)) {
    absl::MutexLock lock(&mutex_);
    plans_.emplace_back();
    CHECK(DecodeStepPlan(message, &plans_.back().plan).ok());
    plans_.back().time = absl::Now();
  }
  absl::MutexLock lock(&mutex_);
  is_over_ = true;
}

bool PlanInbox::Take(ArrivedPlan* arrived) {
  const auto is_due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return is_over_ || !plans_.empty();
  };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&is_due));
  if (plans_.empty()) return false;
  *arrived = std::move(plans_.front());
  plans_.pop_front();
  return true;
}

StepResult BenchRank::Answer(const StepPlan& plan,
                             absl::FunctionRef<TokenId()> draw) {
  const absl::Status status = slots_.Apply(plan);
  CHECK(status.ok()) << status;
  StepResult result;
  result.identity = plan.identity;
  size_t num_samples = plan.decodes.size();
  for (const Slice& slice : plan.chunks) num_samples += slice.sample;
  for (size_t i = 0; i < num_samples; ++i) result.tokens.push_back(draw());
  slots_.Commit(plan, result.tokens);
  slots_.ClearChanges();
  result.token_digest = TokenDigest(result.tokens);
  result.table_digest = slots_.table_digest();
  return result;
}

}  // namespace quire
