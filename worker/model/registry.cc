// SPDX-License-Identifier: Apache-2.0
#include "worker/model/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/gpt2.h"
#include "worker/model/llama.h"
#include "worker/model/model_context.h"
#include "worker/model/opt.h"
#include "worker/model/phi.h"

namespace quire {
namespace {

struct Family {
  ModelFamily family;
  absl::StatusOr<std::unique_ptr<Model>> (*create)(const ModelContext&);
};
constexpr Family kFamilies[] = {
    {ModelFamily::kLlama, CreateLlama},
    {ModelFamily::kOpt, CreateOpt},
    {ModelFamily::kGpt2, CreateGpt2},
    {ModelFamily::kPhi, CreatePhi},
};

absl::Status CheckLimits(const ModelConfig& config, const StepLimits& limits) {
  if (limits.max_num_batched_tokens < 1 || limits.max_num_seqs < 1 ||
      limits.max_model_len < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_num_batched_tokens ", limits.max_num_batched_tokens,
        ", max_num_seqs ", limits.max_num_seqs, " and max_model_len ",
        limits.max_model_len, " must be at least 1"));
  }
  if (limits.max_model_len > config.max_scaled_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_model_len ", limits.max_model_len, " is beyond the model's ",
        config.max_scaled_position, " positions (max_position_embeddings)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateModel(
    const ModelConfig& config, const StepLimits& limits, WeightSource& source,
    Backend& backend, Collective& collective, LoadProgress progress) {
  QUIRE_RETURN_IF_ERROR(config.CheckTensorParallel(collective.world_size()));
  QUIRE_RETURN_IF_ERROR(CheckLimits(config, limits));
  for (const Family& family : kFamilies) {
    if (family.family != config.family) continue;
    return family.create(
        {config, limits, source, backend, collective, std::move(progress)});
  }
  return absl::UnimplementedError(
      absl::StrCat("no model for the architecture ", config.architecture));
}

}  // namespace quire
