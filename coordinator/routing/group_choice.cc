// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/group_choice.h"

#include <algorithm>
#include <tuple>

namespace quire {
namespace {

// Before anything is measured only the counts decide, so any time will do.
constexpr double kUnknownTokenUs = 1;

struct Pace {
  double token_us = 0;  // of a prompt
  double step_us = 0;   // that decodes few sequences
};

Pace FastestOf(const RouteView& view) {
  double tokens_per_s = 0;
  Pace pace;
  for (const GroupLoad& load : view.groups) {
    tokens_per_s = std::max(tokens_per_s, load.prefill_tokens_per_s);
    if (load.decode_step_us > 0) {
      pace.step_us = pace.step_us > 0
                         ? std::min(pace.step_us, load.decode_step_us)
                         : load.decode_step_us;
    }
  }
  pace.token_us = tokens_per_s > 0 ? 1e6 / tokens_per_s : kUnknownTokenUs;
  return pace;
}

// The share of `capacity` that must come free for `wanted` to fit beside
// `taken`.
double Excess(double wanted, double taken, double capacity) {
  return capacity > 0 ? std::max(0.0, wanted + taken - capacity) / capacity : 0;
}

int32_t NumSeqs(const GroupLoad& load) {
  return load.num_decodes + load.num_pending_seqs;
}

}  // namespace

double EstimateStart(const RouteView& view, int32_t group_idx) {
  const GroupLoad& load = view.groups[group_idx];
  const Pace pace = FastestOf(view);
  const double step_us = load.num_decodes > 0
                             ? pace.step_us + load.num_decodes * pace.token_us
                             : 0;
  const double num_tokens = static_cast<double>(
      load.num_pending_tokens +
      std::max(1, view.num_prompt_tokens - load.num_cached_tokens));
  // Decodes go first; a chunk gets what they leave, one token at least.
  const double budget = view.max_num_batched_tokens;
  const double left = std::max(1.0, budget - load.num_decodes);
  const double prefill_us = num_tokens * pace.token_us * budget / left;

  const double life_us =
      view.mean_output_tokens *
      (pace.step_us + (NumSeqs(load) + view.num_seqs) * pace.token_us);
  const double slots = Excess(view.num_seqs, NumSeqs(load), view.max_num_seqs);
  const double blocks =
      Excess(num_tokens / view.block_size,
             load.num_blocks - load.num_free_blocks, load.num_blocks);
  return step_us + prefill_us + life_us * std::max(slots, blocks);
}

int32_t ChooseGroup(const RouteView& view, RoutingPolicy policy) {
  const bool some_fits = std::any_of(
      view.groups.begin(), view.groups.end(),
      [](const GroupLoad& load) { return load.is_ready && load.fits; });
  int32_t best = -1;
  std::tuple<double, int64_t> least;
  for (int32_t idx = 0; idx < static_cast<int32_t>(view.groups.size()); ++idx) {
    const GroupLoad& load = view.groups[idx];
    if (!load.is_ready || (some_fits && !load.fits)) continue;
    const std::tuple<double, int64_t> cost =
        policy == RoutingPolicy::kRoundRobin
            ? std::tuple<double, int64_t>(0, load.num_routed)
            : std::tuple<double, int64_t>(EstimateStart(view, idx),
                                          NumSeqs(load));
    if (best < 0 || cost < least) {
      best = idx;
      least = cost;
    }
  }
  return best;
}

}  // namespace quire
