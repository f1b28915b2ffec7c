// SPDX-License-Identifier: Apache-2.0
#include "common/rope_parameters.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

using Json = nlohmann::json;
using Fields = JsonFields;

constexpr double kMaxRope = 1e12;
constexpr int64_t kMaxPositions = int64_t{1} << 27;
constexpr char kOriginal[] = "original_max_position_embeddings";

// The part of a head that is rotated, given as a factor of its elements.
absl::Status ParsePartial(const Fields& fields, bool may_be_partial,
                          double fallback, double* partial) {
  constexpr char kField[] = "partial_rotary_factor";
  QUIRE_ASSIGN_OR_RETURN(*partial, fields.Number(kField, 0, 1, fallback));
  if (*partial == 1 || may_be_partial) return absl::OkStatus();
  return fields.Unsupported(kField, "1 for this architecture");
}

absl::Status SetRotaryDim(const Fields& fields, double partial,
                          ModelConfig* config) {
  config->rotary_dim = static_cast<int32_t>(config->head_dim * partial);
  if (partial != 1 && (config->rotary_dim == 0 || config->rotary_dim % 2)) {
    return fields.Wrong(
        "partial_rotary_factor",
        absl::StrCat("an even number of each head's ", config->head_dim,
                     " elements (it comes to ", config->rotary_dim, ")"));
  }
  if (config->rotary_dim % 2 != 0) {
    return fields.Wrong("head_dim", absl::StrCat("an even number for rotary "
                                                 "positions (it comes to ",
                                                 config->head_dim, ")"));
  }
  return absl::OkStatus();
}

absl::Status ParseLlama3(const Fields& inner, RopeConfig* rope) {
  QUIRE_ASSIGN_OR_RETURN(rope->low_freq_factor,
                         inner.Number("low_freq_factor", 1e-6, kMaxRope));
  QUIRE_ASSIGN_OR_RETURN(rope->high_freq_factor,
                         inner.Number("high_freq_factor", 1e-6, kMaxRope));
  if (rope->high_freq_factor <= rope->low_freq_factor) {
    return inner.Wrong("high_freq_factor", "more than low_freq_factor");
  }
  return absl::OkStatus();
}

// By how much scores are sharpened for a stretching by `scale`.
double YarnScale(double scale, double mscale) {
  return scale <= 1 ? 1 : 0.1 * mscale * std::log(scale) + 1;
}

absl::Status ParseYarn(const Fields& inner, RopeConfig* rope) {
  // Zero means the default, as transformers reads it.
  QUIRE_ASSIGN_OR_RETURN(const double fast,
                         inner.Number("beta_fast", 0, kMaxRope, 0));
  QUIRE_ASSIGN_OR_RETURN(const double slow,
                         inner.Number("beta_slow", 0, kMaxRope, 0));
  if (fast > 0) rope->beta_fast = fast;
  if (slow > 0) rope->beta_slow = slow;
  if (rope->beta_fast < rope->beta_slow) {
    return inner.Wrong("beta_fast",
                       absl::StrCat("at least beta_slow = ", rope->beta_slow));
  }
  if (rope->theta <= 1) return inner.Wrong("rope_theta", "more than 1");
  QUIRE_ASSIGN_OR_RETURN(rope->truncate, inner.Bool("truncate", true));
  QUIRE_ASSIGN_OR_RETURN(const double mscale,
                         inner.Number("mscale", -kMaxRope, kMaxRope, 0));
  QUIRE_ASSIGN_OR_RETURN(
      const double mscale_all_dim,
      inner.Number("mscale_all_dim", -kMaxRope, kMaxRope, 0));
  const bool has_both = mscale != 0 && mscale_all_dim != 0;
  const double inferred = has_both ? YarnScale(rope->factor, mscale) /
                                         YarnScale(rope->factor, mscale_all_dim)
                                   : YarnScale(rope->factor, 1);
  QUIRE_ASSIGN_OR_RETURN(
      rope->attention_factor,
      inner.Number("attention_factor", 0, kMaxRope, inferred));
  if (!std::isfinite(rope->attention_factor)) {
    return inner.Wrong("mscale_all_dim", "one that keeps scores finite");
  }
  return absl::OkStatus();
}

absl::Status ParseFactors(const Fields& inner, const char* name,
                          int32_t num_pairs, std::vector<double>* factors) {
  const Json* list = inner.Find(name);
  const std::string expected =
      absl::StrCat("a list of ", num_pairs,
                   " positive numbers, one for each pair of "
                   "rotated elements");
  if (list == nullptr || !list->is_array() ||
      list->size() != static_cast<size_t>(num_pairs)) {
    return inner.Wrong(name, expected);
  }
  for (const Json& item : *list) {
    const double factor = item.is_number() ? item.get<double>() : 0;
    if (!(factor >= 1 / kMaxRope && factor <= kMaxRope)) {
      return inner.Wrong(name, expected);
    }
    factors->push_back(factor);
  }
  return absl::OkStatus();
}

absl::Status ParseLongRope(const Fields& inner, int32_t rotary_dim,
                           RopeConfig* rope) {
  QUIRE_RETURN_IF_ERROR(ParseFactors(inner, "short_factor", rotary_dim / 2,
                                     &rope->short_factors));
  QUIRE_RETURN_IF_ERROR(
      ParseFactors(inner, "long_factor", rotary_dim / 2, &rope->long_factors));
  if (rope->original_max_position < 2) {
    return inner.Wrong(kOriginal, "at least 2");
  }
  const double inferred =
      rope->factor <= 1
          ? 1
          : std::sqrt(1 + std::log(rope->factor) /
                              std::log(rope->original_max_position));
  QUIRE_ASSIGN_OR_RETURN(
      rope->attention_factor,
      inner.Number("attention_factor", 0, kMaxRope, inferred));
  return absl::OkStatus();
}

// What the field of the type is called, and what it says.
struct ScalingType {
  const char* name;
  RopeConfig::Scaling scaling;
};
constexpr ScalingType kScalingTypes[] = {
    {"default", RopeConfig::Scaling::kNone},
    {"linear", RopeConfig::Scaling::kLinear},
    {"dynamic", RopeConfig::Scaling::kDynamic},
    {"llama3", RopeConfig::Scaling::kLlama3},
    {"yarn", RopeConfig::Scaling::kYarn},
    {"longrope", RopeConfig::Scaling::kLongRope},
};

absl::Status ParseType(const Fields& inner, RopeConfig* rope) {
  for (const char* layers : {"full_attention", "sliding_attention"}) {
    if (inner.Find(layers) == nullptr) continue;
    return inner.Unsupported(layers, "one rotation for all layers");
  }
  const char* field = inner.Find("rope_type") ? "rope_type" : "type";
  QUIRE_ASSIGN_OR_RETURN(const std::string type,
                         inner.String(field, "default"));
  for (const ScalingType& known : kScalingTypes) {
    if (type != known.name) continue;
    rope->scaling = known.scaling;
    return absl::OkStatus();
  }
  return inner.Unsupported(
      field, "one of: default, linear, dynamic, llama3, yarn, longrope");
}

// The positions that a scaling with its own idea of them was trained on: beside
// the scaling, as Phi 3 has it, or in it.
absl::Status ParseOriginal(const Fields& fields, const Fields& inner,
                           const ModelConfig& config, RopeConfig* rope) {
  rope->original_max_position = config.max_position;
  if (rope->scaling == RopeConfig::Scaling::kDynamic) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(
      rope->original_max_position,
      inner.Int(kOriginal, 1, kMaxPositions, config.max_position));
  QUIRE_ASSIGN_OR_RETURN(
      rope->original_max_position,
      fields.Int(kOriginal, 1, kMaxPositions, rope->original_max_position));
  return absl::OkStatus();
}

// `original` times the factor, rounded down.
int32_t Stretched(const RopeConfig& rope) {
  return static_cast<int32_t>(std::min(rope.original_max_position * rope.factor,
                                       double{kMaxPositions}));
}

absl::Status ParseScaling(const Fields& fields, const Fields& inner,
                          ModelConfig* config) {
  RopeConfig* rope = &config->rope;
  using Scaling = RopeConfig::Scaling;
  QUIRE_RETURN_IF_ERROR(ParseType(inner, rope));
  if (rope->scaling == Scaling::kNone) return absl::OkStatus();
  if (rope->scaling != Scaling::kLinear) {
    QUIRE_RETURN_IF_ERROR(ParseOriginal(fields, inner, *config, rope));
  }
  std::optional<double> ratio;  // of the two lengths, where it may stand in
  if (rope->scaling == Scaling::kYarn || rope->scaling == Scaling::kLongRope) {
    ratio = std::max(1.0, static_cast<double>(config->max_position) /
                              rope->original_max_position);
  }
  QUIRE_ASSIGN_OR_RETURN(rope->factor,
                         inner.Number("factor", 1, kMaxRope, ratio));
  switch (rope->scaling) {
    case Scaling::kNone:
    case Scaling::kLinear:
      return absl::OkStatus();
    case Scaling::kDynamic:
      if (config->rotary_dim <= 2) {
        return fields.Wrong("head_dim",
                            "more than 2 rotated elements for "
                            "dynamic scaling");
      }
      config->max_scaled_position = Stretched(*rope);
      return absl::OkStatus();
    case Scaling::kLlama3:
      return ParseLlama3(inner, rope);
    case Scaling::kYarn:
      if (rope->original_max_position < config->max_position ||
          inner.Find(kOriginal) != nullptr) {
        config->max_position = std::max(config->max_position, Stretched(*rope));
      }
      config->max_scaled_position = config->max_position;
      return ParseYarn(inner, rope);
    case Scaling::kLongRope:
      return ParseLongRope(inner, config->rotary_dim, rope);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseRope(const JsonFields& fields, const RopeDefaults& defaults,
                       ModelConfig* config) {
  RopeConfig* rope = &config->rope;
  const bool may_be_partial = defaults.partial != 1;
  double partial = 1;
  QUIRE_ASSIGN_OR_RETURN(
      rope->theta, fields.Number("rope_theta", 1, kMaxRope, defaults.theta));
  QUIRE_RETURN_IF_ERROR(
      ParsePartial(fields, may_be_partial, defaults.partial, &partial));
  const char* name =
      fields.Find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* scaling = fields.Find(name);
  if (scaling == nullptr) return SetRotaryDim(fields, partial, config);
  if (!scaling->is_object()) return fields.Wrong(name, "an object or null");
  const Fields inner(*scaling, absl::StrCat(fields.where(), ": ", name));
  QUIRE_ASSIGN_OR_RETURN(rope->theta,
                         inner.Number("rope_theta", 1, kMaxRope, rope->theta));
  QUIRE_RETURN_IF_ERROR(ParsePartial(inner, may_be_partial, partial, &partial));
  QUIRE_RETURN_IF_ERROR(SetRotaryDim(fields, partial, config));
  return ParseScaling(fields, inner, config);
}

}  // namespace quire
