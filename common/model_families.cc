// SPDX-License-Identifier: Apache-2.0
#include "common/model_families.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/rope_parameters.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

using Json = nlohmann::json;
using Fields = JsonFields;

// Far beyond any published model, near enough that no product of two sizes
// overflows 64 bits.
constexpr int64_t kMaxWidth = int64_t{1} << 20;  // hidden sizes, heads x dim
constexpr int64_t kMaxFfn = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxPositions = int64_t{1} << 27;
constexpr int64_t kMaxHeadDim = 1024;
// What the kernels take (kernels/moe.h).
constexpr int32_t kMaxExperts = 1024;
constexpr int32_t kMaxExpertsPerToken = 32;

// One field under the name that a family gives it.
struct SizeNames {
  const char* layers = "num_hidden_layers";
  const char* hidden = "hidden_size";
  const char* q_heads = "num_attention_heads";
  const char* positions = "max_position_embeddings";
};

absl::Status ParseSizes(const Fields& fields, const SizeNames& names,
                        ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(config->num_layers,
                         fields.Int(names.layers, 1, kMaxLayers));
  QUIRE_ASSIGN_OR_RETURN(config->hidden_size,
                         fields.Int(names.hidden, 1, kMaxWidth));
  QUIRE_ASSIGN_OR_RETURN(config->num_q_heads,
                         fields.Int(names.q_heads, 1, kMaxWidth));
  QUIRE_ASSIGN_OR_RETURN(config->max_position,
                         fields.Int(names.positions, 1, kMaxPositions, 2048));
  config->max_scaled_position = config->max_position;
  config->embedding_size = config->hidden_size;
  return absl::OkStatus();
}

// After ParseSizes().
absl::Status ParseHeads(const Fields& fields, const SizeNames& names,
                        ModelConfig* config) {
  if (fields.Find("head_dim") == nullptr &&
      config->hidden_size % config->num_q_heads != 0) {
    return fields.Wrong(names.q_heads,
                        absl::StrCat("a divisor of ", names.hidden, " = ",
                                     config->hidden_size));
  }
  QUIRE_ASSIGN_OR_RETURN(config->head_dim,
                         fields.Int("head_dim", 1, kMaxHeadDim,
                                    config->hidden_size / config->num_q_heads));
  if (config->head_dim > kMaxHeadDim ||
      int64_t{config->num_q_heads} * config->head_dim > kMaxWidth) {
    return fields.Wrong(
        names.q_heads,
        absl::StrCat("a head dim of at most ", kMaxHeadDim,
                     " and heads x head dim of at most ", kMaxWidth,
                     " (head dim is ", config->head_dim, ")"));
  }
  config->num_kv_heads = config->num_q_heads;
  return absl::OkStatus();
}

// After ParseHeads().
absl::Status ParseKvHeads(const Fields& fields, ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(
      config->num_kv_heads,
      fields.Int("num_key_value_heads", 1, kMaxWidth, config->num_q_heads));
  if (config->num_q_heads % config->num_kv_heads != 0) {
    return fields.Wrong("num_key_value_heads",
                        absl::StrCat("a divisor of num_attention_heads = ",
                                     config->num_q_heads));
  }
  return absl::OkStatus();
}

// What Llama's relatives have in common.
absl::Status ParseLlamaBase(const Fields& fields, ModelConfig* config,
                            const RopeDefaults& defaults = {}) {
  config->family = ModelFamily::kLlama;
  const SizeNames names;
  QUIRE_RETURN_IF_ERROR(ParseSizes(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(config->intermediate_size,
                         fields.Int("intermediate_size", 1, kMaxFfn));
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, names, config));
  QUIRE_RETURN_IF_ERROR(ParseKvHeads(fields, config));
  QUIRE_ASSIGN_OR_RETURN(const double epsilon,
                         fields.Number("rms_norm_eps", 0, 1, 1e-6));
  config->norm_epsilon = static_cast<float>(epsilon);
  QUIRE_ASSIGN_OR_RETURN(const std::string activation,
                         fields.String("hidden_act", "silu"));
  if (activation != "silu") {
    return fields.Unsupported("hidden_act", "\"silu\"");
  }
  QUIRE_ASSIGN_OR_RETURN(config->tied_embeddings,
                         fields.Bool("tie_word_embeddings", false));
  return ParseRope(fields, defaults, config);
}

absl::Status ParseLlama(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  QUIRE_ASSIGN_OR_RETURN(config->attention_bias,
                         fields.Bool("attention_bias", false));
  config->attention_out_bias = config->attention_bias;
  QUIRE_ASSIGN_OR_RETURN(config->mlp_bias, fields.Bool("mlp_bias", false));
  return absl::OkStatus();
}

// Gives a window to the layers that `layer_types` names, or, where there is no
// such list, to those from `first_layer` on.
absl::Status ParseLayerWindows(const Fields& fields, int32_t window,
                               int32_t first_layer, ModelConfig* config) {
  config->layer_windows.assign(config->num_layers, 0);
  const Json* types = fields.Find("layer_types");
  const std::string expected = absl::StrCat(
      "a list of \"full_attention\" and \"sliding_attention\", one for each of "
      "the ",
      config->num_layers, " layers");
  if (types != nullptr &&
      (!types->is_array() ||
       types->size() != static_cast<size_t>(config->num_layers))) {
    return fields.Wrong("layer_types", expected);
  }
  for (int32_t i = 0; i < config->num_layers; ++i) {
    bool slides = i >= first_layer;
    if (types != nullptr) {
      slides = (*types)[i] == "sliding_attention";
      if (!slides && (*types)[i] != "full_attention") {
        return fields.Wrong("layer_types", expected);
      }
    }
    if (slides) config->layer_windows[i] = window;
  }
  return absl::OkStatus();
}

absl::Status ParseMistral(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  if (fields.IsNull("sliding_window")) return absl::OkStatus();
  // Absent, it is that of the first release; null means none.
  QUIRE_ASSIGN_OR_RETURN(const int32_t window,
                         fields.Int("sliding_window", 1, kMaxPositions, 4096));
  return ParseLayerWindows(fields, window, /*first_layer=*/0, config);
}

absl::Status ParseQwenWindows(const Fields& fields, ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(const bool slides,
                         fields.Bool("use_sliding_window", false));
  if (!slides || fields.IsNull("sliding_window")) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(const int32_t window,
                         fields.Int("sliding_window", 1, kMaxPositions, 4096));
  QUIRE_ASSIGN_OR_RETURN(const int32_t first_layer,
                         fields.Int("max_window_layers", 0, kMaxLayers, 28));
  return ParseLayerWindows(fields, window, first_layer, config);
}

absl::Status ParseQwen2(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  config->attention_bias = true;
  return ParseQwenWindows(fields, config);
}

absl::Status ParseQwen3(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  if (fields.Find("head_dim") == nullptr) {
    return fields.Wrong("head_dim", "the elements of a head");
  }
  QUIRE_ASSIGN_OR_RETURN(config->attention_bias,
                         fields.Bool("attention_bias", false));
  config->attention_out_bias = config->attention_bias;
  config->qk_norm = true;
  return ParseQwenWindows(fields, config);
}

// Which layers have an MLP in place of experts: those listed, and all but each
// `decoder_sparse_step`th.
absl::Status ParseDenseLayers(const Fields& fields, ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(const int32_t step,
                         fields.Int("decoder_sparse_step", 1, kMaxLayers, 1));
  config->moe.dense_layers.assign(config->num_layers, false);
  for (int32_t i = 0; i < config->num_layers; ++i) {
    config->moe.dense_layers[i] = (i + 1) % step != 0;
  }
  constexpr char kListed[] = "mlp_only_layers";
  const Json* listed = fields.Find(kListed);
  if (listed == nullptr) return absl::OkStatus();
  const std::string expected =
      absl::StrCat("a list of layers in [0, ", config->num_layers, ")");
  if (!listed->is_array()) return fields.Wrong(kListed, expected);
  for (const Json& item : *listed) {
    if (!item.is_number_integer() || item < 0 || item >= config->num_layers) {
      return fields.Wrong(kListed, expected);
    }
    config->moe.dense_layers[item.get<int32_t>()] = true;
  }
  return absl::OkStatus();
}

// `experts`: the field of their number; `size`: of their width.
absl::Status ParseExperts(const Fields& fields, const char* experts,
                          const char* size, ModelConfig* config) {
  MoeConfig* moe = &config->moe;
  QUIRE_ASSIGN_OR_RETURN(moe->num_experts, fields.Int(experts, 1, kMaxExperts));
  QUIRE_ASSIGN_OR_RETURN(
      moe->top_k, fields.Int("num_experts_per_tok", 1,
                             std::min(moe->num_experts, kMaxExpertsPerToken)));
  QUIRE_ASSIGN_OR_RETURN(moe->intermediate_size, fields.Int(size, 1, kMaxFfn));
  moe->dense_layers.assign(config->num_layers, false);
  return absl::OkStatus();
}

absl::Status ParseMixtral(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config, {.theta = 1e6}));
  QUIRE_RETURN_IF_ERROR(
      ParseExperts(fields, "num_local_experts", "intermediate_size", config));
  config->moe.renormalize = true;
  if (fields.Find("sliding_window") == nullptr) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(const int32_t window,
                         fields.Int("sliding_window", 1, kMaxPositions));
  return ParseLayerWindows(fields, window, /*first_layer=*/0, config);
}

absl::Status ParseQwenExperts(const Fields& fields, ModelConfig* config) {
  const char* experts =
      fields.Find("num_experts") ? "num_experts" : "num_local_experts";
  QUIRE_RETURN_IF_ERROR(
      ParseExperts(fields, experts, "moe_intermediate_size", config));
  QUIRE_ASSIGN_OR_RETURN(config->moe.renormalize,
                         fields.Bool("norm_topk_prob", false));
  return ParseDenseLayers(fields, config);
}

absl::Status ParseQwen2Moe(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  QUIRE_ASSIGN_OR_RETURN(config->attention_bias, fields.Bool("qkv_bias", true));
  QUIRE_RETURN_IF_ERROR(ParseQwenExperts(fields, config));
  QUIRE_ASSIGN_OR_RETURN(
      config->moe.shared_intermediate_size,
      fields.Int("shared_expert_intermediate_size", 1, kMaxFfn));
  QUIRE_ASSIGN_OR_RETURN(const bool slides,
                         fields.Bool("use_sliding_window", false));
  if (!slides || fields.IsNull("sliding_window")) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(const int32_t window,
                         fields.Int("sliding_window", 1, kMaxPositions, 4096));
  QUIRE_ASSIGN_OR_RETURN(const int32_t end,
                         fields.Int("max_window_layers", 0, kMaxLayers, 28));
  QUIRE_RETURN_IF_ERROR(
      ParseLayerWindows(fields, window, /*first_layer=*/0, config));
  // Unless a list names them: every other layer before max_window_layers.
  if (fields.Find("layer_types") != nullptr) return absl::OkStatus();
  for (int32_t i = 0; i < config->num_layers; ++i) {
    if (i % 2 != 0 || i >= end) config->layer_windows[i] = 0;
  }
  return absl::OkStatus();
}

absl::Status ParseQwen3Moe(const Fields& fields, ModelConfig* config) {
  QUIRE_RETURN_IF_ERROR(ParseLlamaBase(fields, config));
  QUIRE_ASSIGN_OR_RETURN(config->attention_bias,
                         fields.Bool("attention_bias", false));
  config->attention_out_bias = config->attention_bias;
  config->qk_norm = true;
  QUIRE_RETURN_IF_ERROR(ParseQwenExperts(fields, config));
  QUIRE_ASSIGN_OR_RETURN(const bool slides,
                         fields.Bool("use_sliding_window", false));
  if (!slides || fields.IsNull("sliding_window")) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(const int32_t window,
                         fields.Int("sliding_window", 1, kMaxPositions, 4096));
  config->layer_windows.assign(config->num_layers, window);
  return absl::OkStatus();
}

struct NamedActivation {
  const char* name;
  MlpType mlp;
};
constexpr NamedActivation kActivations[] = {
    {"relu", MlpType::kRelu},
    {"gelu", MlpType::kGelu},
    {"gelu_new", MlpType::kGeluTanh},
    {"gelu_pytorch_tanh", MlpType::kGeluTanh},
};

absl::StatusOr<MlpType> ParseActivation(const Fields& fields, const char* name,
                                        absl::string_view fallback) {
  QUIRE_ASSIGN_OR_RETURN(const std::string found,
                         fields.String(name, fallback));
  for (const NamedActivation& known : kActivations) {
    if (found == known.name) return known.mlp;
  }
  return fields.Unsupported(name,
                            "one of: relu, gelu, gelu_new, gelu_pytorch_tanh");
}

absl::Status ParseOpt(const Fields& fields, ModelConfig* config) {
  config->family = ModelFamily::kOpt;
  const SizeNames names;
  QUIRE_RETURN_IF_ERROR(ParseSizes(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(config->intermediate_size,
                         fields.Int("ffn_dim", 1, kMaxFfn));
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(
      config->embedding_size,
      fields.Int("word_embed_proj_dim", 1, kMaxWidth, config->hidden_size));
  QUIRE_ASSIGN_OR_RETURN(
      config->mlp, ParseActivation(fields, "activation_function", "relu"));
  QUIRE_ASSIGN_OR_RETURN(config->pre_norm,
                         fields.Bool("do_layer_norm_before", true));
  QUIRE_ASSIGN_OR_RETURN(const bool removed,
                         fields.Bool("_remove_final_layer_norm", false));
  QUIRE_ASSIGN_OR_RETURN(const bool bias, fields.Bool("enable_bias", true));
  QUIRE_ASSIGN_OR_RETURN(config->norm_affine,
                         fields.Bool("layer_norm_elementwise_affine", true));
  QUIRE_ASSIGN_OR_RETURN(config->tied_embeddings,
                         fields.Bool("tie_word_embeddings", true));
  config->norm = NormType::kLayer;
  config->norm_epsilon = 1e-5f;
  config->final_norm = config->pre_norm && !removed;
  config->attention_bias = bias;
  config->attention_out_bias = bias;
  config->mlp_bias = bias;
  config->use_rope = false;
  config->position_offset = 2;  // the first two rows were fairseq's padding
  return absl::OkStatus();
}

// A field whose other value means a computation that is not offered.
absl::Status ExpectFlag(const Fields& fields, const char* name, bool wanted) {
  QUIRE_ASSIGN_OR_RETURN(const bool found, fields.Bool(name, wanted));
  if (found == wanted) return absl::OkStatus();
  return fields.Unsupported(name, wanted ? "true" : "false");
}

absl::Status ParseGpt2(const Fields& fields, ModelConfig* config) {
  config->family = ModelFamily::kGpt2;
  const SizeNames names = {.layers = "n_layer",
                           .hidden = "n_embd",
                           .q_heads = "n_head",
                           .positions = "n_positions"};
  QUIRE_RETURN_IF_ERROR(ParseSizes(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(
      config->intermediate_size,
      fields.Int("n_inner", 1, kMaxFfn, 4 * int64_t{config->hidden_size}));
  if (fields.Find("head_dim") != nullptr) {
    return fields.Unsupported("head_dim", "none for this architecture");
  }
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(
      config->mlp, ParseActivation(fields, "activation_function", "gelu_new"));
  QUIRE_ASSIGN_OR_RETURN(const double epsilon,
                         fields.Number("layer_norm_epsilon", 0, 1, 1e-5));
  QUIRE_RETURN_IF_ERROR(ExpectFlag(fields, "scale_attn_weights", true));
  QUIRE_RETURN_IF_ERROR(
      ExpectFlag(fields, "scale_attn_by_inverse_layer_idx", false));
  QUIRE_RETURN_IF_ERROR(ExpectFlag(fields, "add_cross_attention", false));
  QUIRE_ASSIGN_OR_RETURN(config->tied_embeddings,
                         fields.Bool("tie_word_embeddings", true));
  config->norm = NormType::kLayer;
  config->norm_epsilon = static_cast<float>(epsilon);
  config->attention_bias = true;
  config->attention_out_bias = true;
  config->mlp_bias = true;
  config->use_rope = false;
  return absl::OkStatus();
}

absl::Status ParsePhi(const Fields& fields, ModelConfig* config) {
  config->family = ModelFamily::kPhi;
  const SizeNames names;
  QUIRE_RETURN_IF_ERROR(ParseSizes(fields, names, config));
  QUIRE_ASSIGN_OR_RETURN(config->intermediate_size,
                         fields.Int("intermediate_size", 1, kMaxFfn));
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, names, config));
  QUIRE_RETURN_IF_ERROR(ParseKvHeads(fields, config));
  QUIRE_ASSIGN_OR_RETURN(config->mlp,
                         ParseActivation(fields, "hidden_act", "gelu_new"));
  QUIRE_ASSIGN_OR_RETURN(const double epsilon,
                         fields.Number("layer_norm_eps", 0, 1, 1e-5));
  QUIRE_ASSIGN_OR_RETURN(config->qk_norm, fields.Bool("qk_layernorm", false));
  QUIRE_ASSIGN_OR_RETURN(config->tied_embeddings,
                         fields.Bool("tie_word_embeddings", false));
  config->norm = NormType::kLayer;
  config->norm_epsilon = static_cast<float>(epsilon);
  config->attention_bias = true;
  config->attention_out_bias = true;
  config->mlp_bias = true;
  return ParseRope(fields, {.partial = 0.5}, config);
}

constexpr ModelArchitecture kArchitectures[] = {
    {"LlamaForCausalLM", ParseLlama},
    {"MistralForCausalLM", ParseMistral},
    {"MixtralForCausalLM", ParseMixtral},
    {"Qwen2ForCausalLM", ParseQwen2},
    {"Qwen2MoeForCausalLM", ParseQwen2Moe},
    {"Qwen3ForCausalLM", ParseQwen3},
    {"Qwen3MoeForCausalLM", ParseQwen3Moe},
    {"OPTForCausalLM", ParseOpt},
    {"GPT2LMHeadModel", ParseGpt2},
    {"PhiForCausalLM", ParsePhi},
};

}  // namespace

absl::Span<const ModelArchitecture> ModelArchitectures() {
  return kArchitectures;
}

}  // namespace quire
