// SPDX-License-Identifier: Apache-2.0
//
// The sampling parameters of a request as flags, under their API names.
#ifndef TOOLS_QUIRE_SAMPLING_FLAGS_H_
#define TOOLS_QUIRE_SAMPLING_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/types.pb.h"
#include "tools/cli/flag_set.h"
#include "tools/quire/token_rule_flags.h"

namespace quire {

struct SamplingFlags {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> repetition_penalty;
  std::optional<int64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::string> stop_token_ids;
  std::optional<bool> ignore_eos;
  std::optional<int64_t> min_tokens;
  std::optional<int64_t> max_tokens;
  std::optional<int64_t> logprobs;
  std::optional<bool> include_stop_str_in_output;
  std::optional<bool> skip_special_tokens;
  std::optional<int64_t> n;
  std::optional<int64_t> best_of;
  std::optional<int64_t> beam_width;
  std::optional<double> length_penalty;
  std::string early_stopping;  // "true", "false", "never"; empty: unset
  TokenRuleFlags rules;
};

// Borrows `sampling` for the life of `flags`.
void AddSamplingFlags(SamplingFlags* sampling, FlagSet* flags);

// What was set becomes a field, what was not stays unset. Whether values are
// in range is the server's to say; InvalidArgument only for those that a field
// cannot hold, NotFound for a rule's file.
absl::StatusOr<v1::SamplingParams> ToSamplingParams(
    const SamplingFlags& sampling);

}  // namespace quire

#endif  // TOOLS_QUIRE_SAMPLING_FLAGS_H_
