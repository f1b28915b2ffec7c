// SPDX-License-Identifier: Apache-2.0
#include "common/model_config.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json_fields.h"
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
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 27;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxFileBytes = int64_t{16} << 20;

constexpr double kMaxRope = 1e12;

absl::Status ParseScaling(const Fields& fields, RopeConfig* rope) {
  const char* type_field = fields.Find("rope_type") ? "rope_type" : "type";
  QUIRE_ASSIGN_OR_RETURN(const std::string type,
                         fields.String(type_field, "default"));
  QUIRE_ASSIGN_OR_RETURN(const double partial,
                         fields.Number("partial_rotary_factor", 0, 1, 1));
  if (partial != 1) {
    return fields.Unsupported("partial_rotary_factor",
                              "1 for this architecture");
  }
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return fields.Unsupported(type_field, "one of: default, linear, llama3");
  }
  QUIRE_ASSIGN_OR_RETURN(rope->factor, fields.Number("factor", 1, kMaxRope));
  rope->scaling = RopeConfig::Scaling::kLinear;
  if (type == "linear") return absl::OkStatus();
  rope->scaling = RopeConfig::Scaling::kLlama3;
  QUIRE_ASSIGN_OR_RETURN(rope->low_freq_factor,
                         fields.Number("low_freq_factor", 1e-6, kMaxRope));
  QUIRE_ASSIGN_OR_RETURN(rope->high_freq_factor,
                         fields.Number("high_freq_factor", 1e-6, kMaxRope));
  QUIRE_ASSIGN_OR_RETURN(
      rope->original_max_position,
      fields.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (rope->high_freq_factor <= rope->low_freq_factor) {
    return fields.Wrong("high_freq_factor", "more than low_freq_factor");
  }
  return absl::OkStatus();
}

// Both spellings: `rope_parameters` with the base inside (transformers 5), or
// `rope_theta` and `rope_scaling` side by side.
absl::Status ParseRope(const Fields& fields, RopeConfig* rope) {
  QUIRE_ASSIGN_OR_RETURN(rope->theta,
                         fields.Number("rope_theta", 1, kMaxRope, 10000));
  QUIRE_ASSIGN_OR_RETURN(const double partial,
                         fields.Number("partial_rotary_factor", 0, 1, 1));
  if (partial != 1) {
    return fields.Unsupported("partial_rotary_factor",
                              "1 for this architecture");
  }
  const char* name =
      fields.Find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* scaling = fields.Find(name);
  if (scaling == nullptr) return absl::OkStatus();
  if (!scaling->is_object()) return fields.Wrong(name, "an object or null");
  const Fields inner(*scaling, absl::StrCat(fields.where(), ": ", name));
  QUIRE_ASSIGN_OR_RETURN(rope->theta,
                         inner.Number("rope_theta", 1, kMaxRope, rope->theta));
  return ParseScaling(inner, rope);
}

absl::Status ParseHeads(const Fields& fields, ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(config->num_q_heads,
                         fields.Int("num_attention_heads", 1, kMaxWidth));
  QUIRE_ASSIGN_OR_RETURN(
      config->num_kv_heads,
      fields.Int("num_key_value_heads", 1, kMaxWidth, config->num_q_heads));
  if (config->num_q_heads % config->num_kv_heads != 0) {
    return fields.Wrong("num_key_value_heads",
                        absl::StrCat("a divisor of num_attention_heads = ",
                                     config->num_q_heads));
  }
  if (fields.Find("head_dim") == nullptr &&
      config->hidden_size % config->num_q_heads != 0) {
    return fields.Wrong(
        "num_attention_heads",
        absl::StrCat("a divisor of hidden_size = ", config->hidden_size));
  }
  QUIRE_ASSIGN_OR_RETURN(config->head_dim,
                         fields.Int("head_dim", 1, kMaxHeadDim,
                                    config->hidden_size / config->num_q_heads));
  if (config->head_dim > kMaxHeadDim ||
      int64_t{config->num_q_heads} * config->head_dim > kMaxWidth) {
    return fields.Wrong(
        "num_attention_heads",
        absl::StrCat("a head dim of at most ", kMaxHeadDim,
                     " and heads x head dim of at most ", kMaxWidth,
                     " (head dim is ", config->head_dim, ")"));
  }
  return absl::OkStatus();
}

absl::Status ParseLlama(const Fields& fields, ModelConfig* config) {
  config->family = ModelFamily::kLlama;
  QUIRE_ASSIGN_OR_RETURN(config->intermediate_size,
                         fields.Int("intermediate_size", 1, kMaxFfn));
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, config));
  if (config->head_dim % 2 != 0) {
    return fields.Wrong("head_dim", absl::StrCat("an even number for rotary "
                                                 "positions (it comes to ",
                                                 config->head_dim, ")"));
  }
  QUIRE_ASSIGN_OR_RETURN(
      config->max_position,
      fields.Int("max_position_embeddings", 1, kMaxPositions, 2048));
  QUIRE_ASSIGN_OR_RETURN(const double epsilon,
                         fields.Number("rms_norm_eps", 0, 1, 1e-6));
  config->norm_epsilon = static_cast<float>(epsilon);
  QUIRE_ASSIGN_OR_RETURN(const std::string activation,
                         fields.String("hidden_act", "silu"));
  if (activation != "silu") {
    return fields.Unsupported("hidden_act", "\"silu\"");
  }
  QUIRE_ASSIGN_OR_RETURN(config->attention_bias,
                         fields.Bool("attention_bias", false));
  QUIRE_ASSIGN_OR_RETURN(config->mlp_bias, fields.Bool("mlp_bias", false));
  QUIRE_ASSIGN_OR_RETURN(config->tied_embeddings,
                         fields.Bool("tie_word_embeddings", false));
  config->embedding_size = config->hidden_size;
  return ParseRope(fields, &config->rope);
}

struct NamedActivation {
  const char* name;
  MlpType mlp;
};
constexpr NamedActivation kOptActivations[] = {
    {"relu", MlpType::kRelu},
    {"gelu", MlpType::kGelu},
    {"gelu_new", MlpType::kGeluTanh},
    {"gelu_pytorch_tanh", MlpType::kGeluTanh},
};

absl::StatusOr<MlpType> ParseOptActivation(const Fields& fields) {
  QUIRE_ASSIGN_OR_RETURN(const std::string found,
                         fields.String("activation_function", "relu"));
  for (const NamedActivation& known : kOptActivations) {
    if (found == known.name) return known.mlp;
  }
  return fields.Unsupported("activation_function",
                            "one of: relu, gelu, gelu_new, gelu_pytorch_tanh");
}

absl::Status ParseOpt(const Fields& fields, ModelConfig* config) {
  config->family = ModelFamily::kOpt;
  QUIRE_ASSIGN_OR_RETURN(config->intermediate_size,
                         fields.Int("ffn_dim", 1, kMaxFfn));
  QUIRE_RETURN_IF_ERROR(ParseHeads(fields, config));
  QUIRE_ASSIGN_OR_RETURN(
      config->max_position,
      fields.Int("max_position_embeddings", 1, kMaxPositions, 2048));
  QUIRE_ASSIGN_OR_RETURN(
      config->embedding_size,
      fields.Int("word_embed_proj_dim", 1, kMaxWidth, config->hidden_size));
  QUIRE_ASSIGN_OR_RETURN(config->mlp, ParseOptActivation(fields));
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
  config->mlp_bias = bias;
  config->use_rope = false;
  config->position_offset = 2;  // the first two rows were fairseq's padding
  return absl::OkStatus();
}

struct Architecture {
  const char* name;
  absl::Status (*parse)(const Fields&, ModelConfig*);
};
constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", ParseLlama},
    {"OPTForCausalLM", ParseOpt},
};

absl::StatusOr<const Architecture*> FindArchitecture(const Fields& fields) {
  const std::string known =
      absl::StrJoin(kArchitectures, ", ",
                    [](std::string* out, const Architecture& architecture) {
                      out->append(architecture.name);
                    });
  const Json* names = fields.Find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() ||
      !names->front().is_string()) {
    return fields.Wrong("architectures",
                        absl::StrCat("a list naming one of: ", known));
  }
  const std::string name = names->front().get<std::string>();
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return &architecture;
  }
  return absl::UnimplementedError(
      absl::StrCat(fields.where(), ": unknown architecture \"", name,
                   "\"; Quire knows: ", known));
}

absl::StatusOr<std::string> ParseDtype(const Fields& fields) {
  const char* name = fields.Find("dtype") ? "dtype" : "torch_dtype";
  QUIRE_ASSIGN_OR_RETURN(std::string dtype, fields.String(name, "float32"));
  if (dtype != "float32" && dtype != "bfloat16" && dtype != "float16") {
    return fields.Wrong(name, "one of: float32, bfloat16, float16");
  }
  return dtype;
}

absl::Status RefuseQuantized(const Fields& fields) {
  for (const char* name : {"quantization_config", "compression_config"}) {
    const Json* quantization = fields.Find(name);
    if (quantization == nullptr) continue;
    std::string method = "unnamed";
    if (quantization->is_object()) {
      const Fields inner(*quantization, absl::StrCat("config.json: ", name));
      QUIRE_ASSIGN_OR_RETURN(method, inner.String("quant_method", "unnamed"));
    }
    return absl::UnimplementedError(absl::StrCat(
        fields.where(), ": ", name, " asks for the quantization \"", method,
        "\"; Quire reads unquantized float32, bfloat16 and float16 weights"));
  }
  return absl::OkStatus();
}

// Beginning and padding ids beyond the vocabulary are common in published
// files ("pad_token_id": -1) and mean that there is none.
absl::StatusOr<TokenId> ParseOptionalId(const Fields& fields, const char* name,
                                        int32_t vocab_size) {
  const int64_t limit = std::numeric_limits<int32_t>::max();
  QUIRE_ASSIGN_OR_RETURN(const int32_t id, fields.Int(name, -limit, limit, -1));
  return id < 0 || id >= vocab_size ? -1 : id;
}

absl::StatusOr<std::vector<TokenId>> ParseEosIds(const Fields& fields,
                                                 int32_t vocab_size) {
  const Json* value = fields.Find("eos_token_id");
  std::vector<TokenId> ids;
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 ||
        item.get<int64_t>() >= vocab_size) {
      return fields.Wrong("eos_token_id",
                          absl::StrCat("token ids in [0, ", vocab_size, ")"));
    }
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

absl::Status ParseTokenIds(const Fields& fields, absl::string_view generation,
                           ModelConfig* config) {
  QUIRE_ASSIGN_OR_RETURN(
      config->bos_token_id,
      ParseOptionalId(fields, "bos_token_id", config->vocab_size));
  QUIRE_ASSIGN_OR_RETURN(
      config->pad_token_id,
      ParseOptionalId(fields, "pad_token_id", config->vocab_size));
  if (!generation.empty()) {
    QUIRE_ASSIGN_OR_RETURN(
        const Json json, ParseJsonObject(generation, "generation_config.json"));
    const Fields generation_fields(json, "generation_config.json");
    QUIRE_ASSIGN_OR_RETURN(config->eos_token_ids,
                           ParseEosIds(generation_fields, config->vocab_size));
    if (!config->eos_token_ids.empty()) return absl::OkStatus();
  }
  QUIRE_ASSIGN_OR_RETURN(config->eos_token_ids,
                         ParseEosIds(fields, config->vocab_size));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const std::string reason =
        errno == ENOENT ? "no such file" : std::strerror(errno);
    return absl::NotFoundError(
        absl::StrCat(path, ": ", reason,
                     "; --model wants a Hugging Face model folder with "
                     "config.json, tokenizer.json and *.safetensors"));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (file.bad() || text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": unreadable, or more than ", kMaxFileBytes, " bytes"));
  }
  return text;
}

// What `size` ranks cannot share, or null. Fewer KV heads than ranks are
// copied to several ranks; the vocabulary goes out in equal runs of rows, of
// which the last may be shorter but not empty.
const char* TensorParallelProblem(const ModelConfig& config, int32_t size) {
  if (size < 1 || config.num_q_heads % size != 0) return "query heads";
  if (config.num_kv_heads % size != 0 && size % config.num_kv_heads != 0) {
    return "KV heads";
  }
  if (config.intermediate_size % size != 0) return "intermediate size";
  const int64_t rows = (int64_t{config.vocab_size} + size - 1) / size;
  if (rows * (size - 1) >= config.vocab_size) return "vocabulary";
  return nullptr;
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfig::FromJson(
    absl::string_view config_json, absl::string_view generation_json) {
  QUIRE_ASSIGN_OR_RETURN(const Json json,
                         ParseJsonObject(config_json, "config.json"));
  const Fields fields(json, "config.json");
  QUIRE_ASSIGN_OR_RETURN(const Architecture* architecture,
                         FindArchitecture(fields));
  QUIRE_RETURN_IF_ERROR(RefuseQuantized(fields));
  ModelConfig config;
  config.architecture = architecture->name;
  QUIRE_ASSIGN_OR_RETURN(config.dtype, ParseDtype(fields));
  QUIRE_ASSIGN_OR_RETURN(config.num_layers,
                         fields.Int("num_hidden_layers", 1, kMaxLayers));
  QUIRE_ASSIGN_OR_RETURN(config.hidden_size,
                         fields.Int("hidden_size", 1, kMaxWidth));
  QUIRE_ASSIGN_OR_RETURN(config.vocab_size,
                         fields.Int("vocab_size", 1, kMaxVocab));
  QUIRE_RETURN_IF_ERROR(architecture->parse(fields, &config));
  QUIRE_RETURN_IF_ERROR(ParseTokenIds(fields, generation_json, &config));
  return config;
}

absl::StatusOr<ModelConfig> ModelConfig::FromFolder(const std::string& folder) {
  QUIRE_ASSIGN_OR_RETURN(const std::string config_json,
                         ReadFile(absl::StrCat(folder, "/config.json")));
  auto generation_json =
      ReadFile(absl::StrCat(folder, "/generation_config.json"));
  if (!generation_json.ok() && !absl::IsNotFound(generation_json.status())) {
    return generation_json.status();
  }
  auto config =
      FromJson(config_json, generation_json.ok() ? *generation_json : "");
  if (config.ok()) return config;
  return absl::Status(config.status().code(),
                      absl::StrCat(folder, "/", config.status().message()));
}

absl::Status ModelConfig::CheckTensorParallel(
    int32_t tensor_parallel_size) const {
  const char* problem = TensorParallelProblem(*this, tensor_parallel_size);
  if (problem == nullptr) return absl::OkStatus();
  std::vector<int32_t> possible;
  for (int32_t size = 1; size <= num_q_heads; ++size) {
    if (TensorParallelProblem(*this, size) == nullptr) possible.push_back(size);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor_parallel_size ", tensor_parallel_size, " does not divide the ",
      problem, " (", num_q_heads, " query heads, ", num_kv_heads,
      " KV heads, intermediate size ", intermediate_size, ", vocabulary ",
      vocab_size, "); sizes that would: ", absl::StrJoin(possible, ", ")));
}

}  // namespace quire
