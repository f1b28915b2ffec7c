// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/new_group.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "coordinator/engine/best_of.h"
#include "coordinator/engine/cache_scope.h"

namespace quire {
namespace {

// A request that shares with nobody still has a scope if its own sequences can
// find each other.
CacheScope ScopeOf(const EngineOptions& options, const EngineRequest& request,
                   RequestKey key) {
  const CacheScope shared = SharedScopeOf(options, request);
  if (shared != 0) return shared;
  return NumSequences(request.sampling) > 1 ? PrivateScope(key) : 0;
}

}  // namespace

CacheScope SharedScopeOf(const EngineOptions& options,
                         const EngineRequest& request) {
  // Prompt tokens that are found computed have no logits to be scored by.
  const bool scores_prompt = request.sampling.slot.num_prompt_logprobs >= 0;
  if (!options.enable_prefix_caching || !request.use_prefix_cache ||
      scores_prompt) {
    return 0;
  }
  return SharedScope(options.cache_salt_key, request.cache_salt.empty()
                                                 ? request.tenant
                                                 : request.cache_salt);
}

std::unique_ptr<SequenceGroup> NewGroup(const EngineOptions& options,
                                        RequestKey key, EngineRequest request) {
  const CacheScope scope = ScopeOf(options, request, key);
  auto group = std::make_unique<SequenceGroup>();
  group->key = key;
  group->request_id = std::move(request.request_id);
  group->priority = request.priority;
  group->tenant = std::move(request.tenant);
  group->sampling = std::move(request.sampling);
  group->deadline = request.deadline;
  group->cache_scope = scope;
  const std::vector<TokenId>& stops = group->sampling.stop_token_ids;
  const int32_t num_seqs = NumSequences(group->sampling);
  group->sequences.resize(num_seqs);
  if (group->sampling.beam_width > 0) {
    group->beams = std::make_unique<BeamGroup>(group->sampling);
  }
  for (int32_t index = 0; index < num_seqs; ++index) {
    Sequence& seq = group->sequences[index];
    if (index + 1 < num_seqs) {
      seq.tokens = request.prompt;
    } else {
      seq.tokens = std::move(request.prompt);
    }
    seq.stop_token_ids.assign(stops.begin(), stops.end());
    std::sort(seq.stop_token_ids.begin(), seq.stop_token_ids.end());
    seq.request = key;
    seq.group = group.get();
    seq.index = index;
    seq.num_prompt_tokens = seq.num_tokens();
    seq.min_tokens = group->sampling.slot.min_tokens;
    seq.max_num_tokens = seq.num_tokens() + group->sampling.max_tokens;
    seq.publishes = scope != 0;
    seq.mask = request.first_mask;
  }
  WithholdUnlessAllReturned(group.get());
  return group;
}

}  // namespace quire
