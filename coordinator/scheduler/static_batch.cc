// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/static_batch.h"

#include <algorithm>

#include "coordinator/scheduler/reserved_pass.h"

namespace quire {
namespace {

// Whether some of the batch has computed a token that it generated.
bool HasDecoded(const RunningSequence& seq) {
  return seq.num_computed_tokens > seq.num_prefill_tokens;
}

}  // namespace

void StaticBatch::Schedule(const View& view, Decision* decision) const {
  ReservedPass pass(view, decision);
  if (std::none_of(view.running.begin(), view.running.end(), HasDecoded)) {
    pass.ScheduleChunks();
    pass.Admit();
    // Prompts first: the batch starts to decode when all are computed.
    if (!decision->slices.empty() || !decision->admissions.empty()) return;
  }
  pass.ScheduleDecodes();
}

}  // namespace quire
