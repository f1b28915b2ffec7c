// SPDX-License-Identifier: Apache-2.0
#include "common/model_config.h"

#include <algorithm>
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
#include "common/model_families.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

using Json = nlohmann::json;
using Fields = JsonFields;

// Far beyond any published model.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxFileBytes = int64_t{16} << 20;

absl::StatusOr<const ModelArchitecture*> FindArchitecture(
    const Fields& fields) {
  const std::string known = absl::StrJoin(
      ModelArchitectures(), ", ",
      [](std::string* out, const ModelArchitecture& architecture) {
        out->append(architecture.name);
      });
  const Json* names = fields.Find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() ||
      !names->front().is_string()) {
    return fields.Wrong("architectures",
                        absl::StrCat("a list naming one of: ", known));
  }
  const std::string name = names->front().get<std::string>();
  for (const ModelArchitecture& architecture : ModelArchitectures()) {
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
        "\"; Quire reads unquantized float32, bfloat16 and float16 weights: "
        "take the model's unquantized release"));
  }
  return absl::OkStatus();
}

// Negative ids are common in published files ("pad_token_id": -1) and mean that
// there is none.
absl::StatusOr<TokenId> ParseBosId(const Fields& fields, int32_t vocab_size) {
  const int64_t limit = std::numeric_limits<int32_t>::max();
  QUIRE_ASSIGN_OR_RETURN(const int32_t id,
                         fields.Int("bos_token_id", -limit, limit, -1));
  if (id >= vocab_size) {
    return fields.Wrong(
        "bos_token_id",
        absl::StrCat("a token id in [0, ", vocab_size, "), or -1 for none"));
  }
  return std::max(id, -1);
}

// So are ids one above the vocabulary, of a padding that training added and
// that the published weights do not have. Nothing that Quire computes is
// padded.
absl::StatusOr<TokenId> ParsePadId(const Fields& fields, int32_t vocab_size) {
  const int64_t limit = std::numeric_limits<int32_t>::max();
  QUIRE_ASSIGN_OR_RETURN(const int32_t id,
                         fields.Int("pad_token_id", -limit, limit, -1));
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
  QUIRE_ASSIGN_OR_RETURN(config->bos_token_id,
                         ParseBosId(fields, config->vocab_size));
  QUIRE_ASSIGN_OR_RETURN(config->pad_token_id,
                         ParsePadId(fields, config->vocab_size));
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
  const std::vector<bool>& dense = config.moe.dense_layers;
  const bool has_mlp =
      config.moe.num_experts == 0 ||
      std::find(dense.begin(), dense.end(), true) != dense.end();
  if (has_mlp && config.intermediate_size % size != 0) {
    return "intermediate size";
  }
  if (config.moe.intermediate_size % size != 0) return "experts' size";
  if (config.moe.shared_intermediate_size % size != 0) {
    return "shared expert's size";
  }
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
  QUIRE_ASSIGN_OR_RETURN(const ModelArchitecture* architecture,
                         FindArchitecture(fields));
  QUIRE_RETURN_IF_ERROR(RefuseQuantized(fields));
  ModelConfig config;
  config.architecture = architecture->name;
  QUIRE_ASSIGN_OR_RETURN(config.dtype, ParseDtype(fields));
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

int32_t ModelConfig::sliding_window() const {
  if (layer_windows.empty()) return 0;
  const auto [least, most] =
      std::minmax_element(layer_windows.begin(), layer_windows.end());
  return *least == 0 ? 0 : *most;
}

absl::Status ModelConfig::CheckTensorParallel(
    int32_t tensor_parallel_size) const {
  const char* problem = TensorParallelProblem(*this, tensor_parallel_size);
  if (problem == nullptr) return absl::OkStatus();
  std::vector<int32_t> possible;
  for (int32_t size = 1; size <= num_q_heads; ++size) {
    if (TensorParallelProblem(*this, size) == nullptr) possible.push_back(size);
  }
  std::string experts;
  if (moe.num_experts > 0) {
    experts = absl::StrCat(", experts of ", moe.intermediate_size);
    if (moe.shared_intermediate_size > 0) {
      absl::StrAppend(&experts, " and ", moe.shared_intermediate_size);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--tensor_parallel_size=", tensor_parallel_size, " does not divide the ",
      problem, " (", num_q_heads, " query heads, ", num_kv_heads,
      " KV heads, intermediate size ", intermediate_size, experts,
      ", vocabulary ", vocab_size,
      "); sizes that would: ", absl::StrJoin(possible, ", ")));
}

}  // namespace quire
