// SPDX-License-Identifier: Apache-2.0
//
// Beam searches over the simulated model, without an engine.
#ifndef TESTS_COORDINATOR_ENGINE_BEAM_REFERENCE_H_
#define TESTS_COORDINATOR_ENGINE_BEAM_REFERENCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// A search for `width` beams, all of which are told.
EngineRequest MakeBeams(const std::string& id, int32_t num_prompt_tokens,
                        int32_t max_tokens, int32_t width, uint64_t seed = 1);

// The output tokens of the n best that its search finds, best first.
std::vector<std::vector<TokenId>> FindBeams(const EngineRequest& request);

}  // namespace quire

#endif  // TESTS_COORDINATOR_ENGINE_BEAM_REFERENCE_H_
