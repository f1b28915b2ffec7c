// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/seen_counts.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/batch/token_counts.h"
#include "worker/sampler/step_input.h"

namespace quire {

SeenCounts::SeenCounts(Backend* backend, int32_t num_vocab,
                       int32_t max_num_seqs, int32_t max_model_len)
    : backend_(backend),
      max_listed_(std::min(num_vocab, max_model_len + 1)),
      known_(max_num_seqs, 0) {
  unknown_.reserve(max_num_seqs);
}

absl::StatusOr<std::unique_ptr<SeenCounts>> SeenCounts::Create(
    Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
    int32_t max_model_len) {
  auto seen = absl::WrapUnique(
      new SeenCounts(backend, num_vocab, max_num_seqs, max_model_len));
  QUIRE_ASSIGN_OR_RETURN(seen->counts_,
                         backend->Allocate(max_num_seqs * seen->stride() *
                                           int64_t{sizeof(SeenToken)}));
  return seen;
}

absl::Status SeenCounts::Send(absl::Span<const SlotId> slots,
                              const SlotStates& states, int32_t flight) {
  unknown_.clear();
  int64_t num_tokens = 0;
  for (SlotId slot_id : slots) {
    const Slot& slot = states.slot(slot_id);
    uint64_t& known = known_[slot_id.value()];
    if (!TokenCounts::IsNeeded(slot.sampling) || known == slot.counts_version) {
      continue;
    }
    known = slot.counts_version;
    unknown_.push_back(slot_id);
    num_tokens += 1 + static_cast<int64_t>(slot.counts.seen().size());
  }
  if (unknown_.empty()) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(GrowHost(
      backend_, num_tokens * int64_t{sizeof(SeenToken)}, &host_[flight]));
  auto* row = host_[flight]->as<SeenToken>();
  for (SlotId slot_id : unknown_) {
    const std::vector<SeenToken>& seen = states.slot(slot_id).counts.seen();
    const auto count = static_cast<int32_t>(seen.size());
    CHECK_LE(count, max_listed_);
    reinterpret_cast<SeenHeader&>(*row) = {count, 0};
    std::copy(seen.begin(), seen.end(), row + 1);
    QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
        row, counts() + slot_id.value() * stride(),
        (1 + int64_t{count}) * int64_t{sizeof(SeenToken)}));
    row += 1 + count;
  }
  return absl::OkStatus();
}

void SeenCounts::Forget(absl::Span<const SlotId> slots) {
  for (SlotId slot : slots) known_[slot.value()] = 0;
}

}  // namespace quire
