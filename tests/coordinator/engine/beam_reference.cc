// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/engine/beam_reference.h"

#include "coordinator/engine/beam_search.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_model.h"

namespace quire {

EngineRequest MakeBeams(const std::string& id, int32_t num_prompt_tokens,
                        int32_t max_tokens, int32_t width, uint64_t seed) {
  EngineRequest request = MakeRequest(id, num_prompt_tokens, max_tokens, seed);
  request.sampling.beam_width = width;
  request.sampling.n = width;
  request.sampling.best_of = width;
  request.sampling.slot.temperature = 0;
  return request;
}

std::vector<std::vector<TokenId>> FindBeams(const EngineRequest& request) {
  const SamplingParams& sampling = request.sampling;
  BeamSearchOptions options;
  options.width = sampling.beam_width;
  options.length_penalty = sampling.length_penalty;
  options.early_stopping = sampling.early_stopping;
  options.stop_token_ids = sampling.stop_token_ids;
  options.min_tokens = sampling.slot.min_tokens;
  options.max_tokens = sampling.max_tokens;
  BeamSearch search(options);
  std::vector<std::vector<TokenId>> beams = {request.prompt};
  while (!search.is_done()) {
    std::vector<std::vector<TopLogprob>> top;
    for (const std::vector<TokenId>& beam : beams) {
      top.push_back(SimulatedTop(beam, search.num_candidates()));
    }
    search.Advance(
        std::vector<absl::Span<const TopLogprob>>(top.begin(), top.end()));
    std::vector<std::vector<TokenId>> next;
    for (const BeamSearch::Extension& extension : search.running()) {
      next.push_back(beams[extension.parent]);
      next.back().push_back(extension.token);
    }
    beams = next;
  }
  std::vector<std::vector<TokenId>> found;
  for (int32_t i = 0; i < sampling.n; ++i) {
    found.push_back(search.OutputOf(search.hypotheses()[i]).tokens);
  }
  return found;
}

}  // namespace quire
