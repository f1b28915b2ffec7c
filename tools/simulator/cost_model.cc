// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/cost_model.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "common/json_fields.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr double kMuch = 1e18;

// An object of `object` as fields; an empty one if absent.
absl::StatusOr<const nlohmann::json*> Section(const nlohmann::json& object,
                                              const char* name,
                                              absl::string_view where) {
  static const nlohmann::json& empty =
      *new nlohmann::json(nlohmann::json::object());
  const auto it = object.find(name);
  if (it == object.end()) return &empty;
  if (!it->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(where), ": ", name, " is not an object"));
  }
  return &*it;
}

absl::Status ReadModel(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(model->weight_bytes,
                         fields.Number("weight_bytes", 1, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->gemm_flops,
                         fields.Number("gemm_flops_per_token", 1, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->attention_flops,
                         fields.Number("attention_flops_per_pair", 0, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->kv_bytes_per_token,
                         fields.Number("kv_bytes_per_token", 1, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->num_layers, fields.Int("num_layers", 1, 10000));
  QUIRE_ASSIGN_OR_RETURN(model->hidden_size,
                         fields.Int("hidden_size", 1, 1 << 24));
  return absl::OkStatus();
}

absl::Status ReadDevice(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(model->bandwidth,
                         fields.Number("bandwidth_bytes_per_s", 1, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->peak_flops,
                         fields.Number("flops_per_s", 1, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->memory_bytes,
                         fields.Number("memory_bytes", 0, kMuch, 0));
  QUIRE_ASSIGN_OR_RETURN(model->kv_bytes, fields.Number("kv_bytes", 0, kMuch));
  QUIRE_ASSIGN_OR_RETURN(model->kv_slots,
                         fields.Int("kv_slots", 0, 1 << 30, 0));
  QUIRE_ASSIGN_OR_RETURN(const double overhead_us,
                         fields.Number("step_overhead_us", 0, 1e9, 0));
  model->step_overhead_s = overhead_us / 1e6;
  return absl::OkStatus();
}

absl::Status ReadBlocks(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(model->span_tokens,
                         fields.Number("span_tokens", 0, 1e6, 0));
  QUIRE_ASSIGN_OR_RETURN(model->reference_block_size,
                         fields.Int("reference_block_size", 1, 256, 16));
  QUIRE_ASSIGN_OR_RETURN(model->paged_factor,
                         fields.Number("paged_factor", 0.1, 100, 1));
  return absl::OkStatus();
}

absl::Status ReadSwap(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(model->swap_bandwidth,
                         fields.Number("bandwidth_bytes_per_s", 0, kMuch, 0));
  QUIRE_ASSIGN_OR_RETURN(const double block_us,
                         fields.Number("block_us", 0, 1e9, 0));
  model->swap_block_s = block_us / 1e6;
  QUIRE_ASSIGN_OR_RETURN(model->swap_overlap,
                         fields.Number("overlap", 0, 1, 1));
  QUIRE_ASSIGN_OR_RETURN(model->host_block_bytes,
                         fields.Number("host_bytes", 0, kMuch, 0));
  return absl::OkStatus();
}

absl::Status ReadRanks(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(model->num_ranks, fields.Int("num_ranks", 1, 1024, 1));
  QUIRE_ASSIGN_OR_RETURN(const double all_reduce_us,
                         fields.Number("all_reduce_us", 0, 1e9, 0));
  model->all_reduce_s = all_reduce_us / 1e6;
  QUIRE_ASSIGN_OR_RETURN(
      model->all_reduce_bandwidth,
      fields.Number("all_reduce_bytes_per_s", 1, kMuch, kMuch));
  return absl::OkStatus();
}

absl::Status ReadHost(const JsonFields& fields, CostModel* model) {
  QUIRE_ASSIGN_OR_RETURN(const double step_us,
                         fields.Number("step_us", 0, 1e9, 0));
  QUIRE_ASSIGN_OR_RETURN(const double sequence_us,
                         fields.Number("sequence_us", 0, 1e9, 0));
  model->host_step_s = step_us / 1e6;
  model->host_sequence_s = sequence_us / 1e6;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CostModel> ParseCostModel(absl::string_view text,
                                         absl::string_view where) {
  QUIRE_ASSIGN_OR_RETURN(const nlohmann::json object,
                         ParseJsonObject(text, where));
  const std::string file(where);
  CostModel model;
  const JsonFields fields(object, file);
  QUIRE_ASSIGN_OR_RETURN(model.name, fields.String("name", file));
  QUIRE_ASSIGN_OR_RETURN(model.source, fields.String("source", ""));
  constexpr struct {
    const char* name;
    absl::Status (*read)(const JsonFields&, CostModel*);
  } kSections[] = {{"model", &ReadModel},  {"device", &ReadDevice},
                   {"block", &ReadBlocks}, {"swap", &ReadSwap},
                   {"ranks", &ReadRanks},  {"host", &ReadHost}};
  for (const auto& section : kSections) {
    QUIRE_ASSIGN_OR_RETURN(const nlohmann::json* part,
                           Section(object, section.name, where));
    QUIRE_RETURN_IF_ERROR(section.read(
        JsonFields(*part, absl::StrCat(file, ": ", section.name)), &model));
  }
  if (model.kv_bytes == 0 && model.kv_slots == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": device: neither kv_bytes nor kv_slots"));
  }
  return model;
}

absl::StatusOr<CostModel> LoadCostModel(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  return ParseCostModel(text.str(), path);
}

double BlockFactor(const CostModel& model, int32_t block_size) {
  return (1 + model.span_tokens / block_size) /
         (1 + model.span_tokens / model.reference_block_size);
}

double StepSeconds(const CostModel& model, const StepWork& work,
                   int32_t block_size, bool contiguous) {
  const double gemms =
      work.num_tokens == 0
          ? 0
          : std::max(model.weight_bytes / model.bandwidth,
                     work.num_tokens * model.gemm_flops / model.peak_flops);
  const double factor =
      contiguous ? 1 : model.paged_factor * BlockFactor(model, block_size);
  const double kv_s_per_token = model.kv_bytes_per_token / model.bandwidth;
  double attention = work.num_kv_tokens * kv_s_per_token * factor;
  attention +=
      work.num_attention_pairs * model.attention_flops / model.peak_flops;
  double ranks = 0;
  if (model.num_ranks > 1 && work.num_tokens > 0) {
    // Activations of two bytes, after attention and after the MLP.
    const double bytes = 2.0 * work.num_tokens * model.hidden_size;
    ranks = 2 * model.num_layers *
            (model.all_reduce_s + bytes / model.all_reduce_bandwidth);
  }
  // Read and written.
  const double copies =
      2.0 * work.num_copied_blocks * block_size * kv_s_per_token;
  const double compute = gemms + attention + ranks + copies;
  double swap = 0;
  if (work.num_swapped_blocks > 0 && model.swap_bandwidth > 0) {
    swap = work.num_swapped_blocks / SwapBlocksPerSecond(model, block_size);
  }
  return compute + std::max(0.0, swap - model.swap_overlap * compute) +
         model.step_overhead_s + model.host_step_s +
         model.host_sequence_s * work.num_sequences;
}

int32_t NumBlocks(const CostModel& model, int32_t block_size) {
  const double slots = model.kv_slots > 0
                           ? model.kv_slots
                           : model.kv_bytes / model.kv_bytes_per_token;
  constexpr double kMost = std::numeric_limits<int32_t>::max() / 2;
  return static_cast<int32_t>(
      std::clamp(std::floor(slots / block_size), 1.0, kMost));
}

int32_t NumHostBlocks(const CostModel& model, int32_t block_size) {
  constexpr double kMost = std::numeric_limits<int32_t>::max() / 2;
  return static_cast<int32_t>(std::min(
      kMost, model.host_block_bytes / (model.kv_bytes_per_token * block_size)));
}

double SwapBlocksPerSecond(const CostModel& model, int32_t block_size) {
  if (model.swap_bandwidth == 0) return 0;
  return 1 / (model.swap_block_s +
              model.kv_bytes_per_token * block_size / model.swap_bandwidth);
}

double PrefillTokensPerSecond(const CostModel& model) {
  return model.peak_flops / model.gemm_flops;
}

}  // namespace quire
