// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/best_streams.h"

#include <algorithm>
#include <numeric>

#include "glog/logging.h"

namespace quire {

bool IsRankedByStreams(const SamplingParams& sampling) {
  return sampling.beam_width == 0 && sampling.best_of > sampling.n &&
         (!sampling.stop.empty() || sampling.slot.needs_mask);
}

void AskForAll(SamplingParams* sampling) {
  sampling->n = sampling->best_of;
  sampling->slot.num_logprobs = std::max(0, sampling->slot.num_logprobs);
}

std::vector<size_t> BestStreams(absl::Span<const SequenceStream> streams,
                                int32_t n) {
  CHECK_LE(n, streams.size());
  std::vector<size_t> order(streams.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return streams[a].cumulative_logprob() > streams[b].cumulative_logprob();
  });
  order.resize(n);
  return order;
}

}  // namespace quire
