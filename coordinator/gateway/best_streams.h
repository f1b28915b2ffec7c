// SPDX-License-Identifier: Apache-2.0
//
// best_of > n with stop strings. The engine ranks whole sequences, but only the
// gateway sees where a stop string ends one; so the engine is asked for all of
// them, nothing is sent before the last has ended, and the best are chosen
// here by the same rule (engine/best_of.h).
#ifndef COORDINATOR_GATEWAY_BEST_STREAMS_H_
#define COORDINATOR_GATEWAY_BEST_STREAMS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/sampling_params.h"
#include "coordinator/gateway/sequence_stream.h"

namespace quire {

// Whether the gateway must choose.
bool IsRankedByStreams(const SamplingParams& sampling);

// What the engine is asked for then: all sequences, with the log probabilities
// that they are ranked by. REQUIRES: IsRankedByStreams(*sampling).
void AskForAll(SamplingParams* sampling);

// The `n` with the highest cumulative log probability, best first, of equal
// ones the earlier. REQUIRES: n <= streams.size().
std::vector<size_t> BestStreams(absl::Span<const SequenceStream> streams,
                                int32_t n);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_BEST_STREAMS_H_
