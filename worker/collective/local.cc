// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/local.h"

#include <cstring>

#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/collective/rank_sum.h"

namespace quire {

class LocalGroup::Rank final : public Collective {
 public:
  Rank(LocalGroup* group, int32_t rank) : group_(group), rank_(rank) {}

  int32_t rank() const override { return rank_; }
  int32_t world_size() const override { return group_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override;
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override;
  absl::Status Barrier() override { return group_->Arrive(); }

 private:
  LocalGroup* const group_;
  const int32_t rank_;
  std::vector<char> sum_;
};

absl::Status LocalGroup::Rank::AllReduceSum(void* data, int64_t num_elements,
                                            DType dtype) {
  if (num_elements == 0) return group_->Arrive();
  const int64_t width = SizeOf(dtype);
  const RankPart part = PartOf(num_elements, rank_, world_size());
  sum_.resize(part.size() * width);
  group_->inputs_[rank_] = data;
  group_->outputs_[rank_] = data;
  QUIRE_RETURN_IF_ERROR(group_->Arrive());
  std::vector<const void*> sources(world_size());
  for (int32_t peer = 0; peer < world_size(); ++peer) {
    sources[peer] =
        static_cast<const char*>(group_->inputs_[peer]) + part.begin * width;
  }
  SumInRankOrder(sources, sum_.data(), part.size(), dtype);
  // Nobody's input may change before everybody has read it.
  QUIRE_RETURN_IF_ERROR(group_->Arrive());
  for (void* output : group_->outputs_) {
    if (sum_.empty()) break;
    std::memcpy(static_cast<char*>(output) + part.begin * width, sum_.data(),
                sum_.size());
  }
  return group_->Arrive();
}

absl::Status LocalGroup::Rank::AllGather(const void* in, void* out,
                                         int64_t bytes) {
  group_->inputs_[rank_] = in;
  QUIRE_RETURN_IF_ERROR(group_->Arrive());
  for (int32_t peer = 0; peer < world_size(); ++peer) {
    char* to = static_cast<char*>(out) + peer * bytes;
    if (group_->inputs_[peer] != to) {
      std::memcpy(to, group_->inputs_[peer], bytes);
    }
  }
  return group_->Arrive();
}

LocalGroup::LocalGroup(int32_t world_size, absl::Duration timeout)
    : timeout_(timeout), inputs_(world_size), outputs_(world_size) {
  CHECK_GE(world_size, 1);
  for (int32_t rank = 0; rank < world_size; ++rank) {
    ranks_.push_back(std::make_unique<Rank>(this, rank));
  }
}

LocalGroup::~LocalGroup() = default;

Collective* LocalGroup::collective(int32_t rank) const {
  return ranks_.at(rank).get();
}

void LocalGroup::Break() {
  absl::MutexLock lock(&mutex_);
  broken_ = true;
}

absl::Status LocalGroup::Arrive() {
  absl::MutexLock lock(&mutex_);
  if (!broken_ && ++num_arrived_ == world_size()) {
    num_arrived_ = 0;
    ++round_;
    return absl::OkStatus();
  }
  const uint64_t round = round_;
  const auto is_over = [this, round]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return broken_ || round_ != round;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&is_over), timeout_)) {
    broken_ = true;
  }
  if (round_ != round) return absl::OkStatus();
  return absl::UnavailableError("a rank of this group is lost");
}

}  // namespace quire
