// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_input.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxIdBytes = 1024;

absl::Status ReadId(const Json& json, std::string* id) {
  const auto it = json.find("id");
  if (it == json.end()) return absl::OkStatus();
  if (it->is_number_integer()) {
    *id = it->dump();
    return absl::OkStatus();
  }
  if (!it->is_string() || it->get_ref<const std::string&>().empty() ||
      it->get_ref<const std::string&>().size() > kMaxIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"id\" must be a number or a string of 1 to ", kMaxIdBytes, " bytes"));
  }
  *id = it->get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadPrompt(const Json& json, v1::GenerateRequest* request) {
  const auto prompt = json.find("prompt");
  const auto token_ids = json.find("token_ids");
  if ((prompt == json.end()) == (token_ids == json.end())) {
    return absl::InvalidArgumentError(
        "it needs one of \"prompt\" and \"token_ids\"");
  }
  if (prompt != json.end()) {
    if (!prompt->is_string()) {
      return absl::InvalidArgumentError("\"prompt\" must be a string");
    }
    request->set_text(prompt->get<std::string>());
    return absl::OkStatus();
  }
  const absl::Status bad =
      absl::InvalidArgumentError("\"token_ids\" must be a list of ids");
  if (!token_ids->is_array()) return bad;
  for (const Json& id : *token_ids) {
    if (!id.is_number_unsigned() || id > UINT32_MAX) return bad;
    request->mutable_token_ids()->add_ids(id.get<uint32_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const Json& json, v1::SamplingParams* sampling) {
  const auto it = json.find("sampling");
  if (it == json.end()) return absl::OkStatus();
  v1::SamplingParams own;
  const auto status =
      google::protobuf::util::JsonStringToMessage(it->dump(), &own);
  if (!status.ok() || !it->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"sampling\": ", it->is_object() ? std::string(status.message())
                                          : std::string("not a JSON object")));
  }
  // A list replaces that of the defaults, as a value does.
  if (own.stop_size() > 0) sampling->clear_stop();
  if (own.stop_token_ids_size() > 0) sampling->clear_stop_token_ids();
  sampling->MergeFrom(own);
  return absl::OkStatus();
}

uint64_t HashOf(const std::string& text, uint64_t seed) {
  uint64_t hash = MixBits(seed);
  for (const char c : text) {
    hash = MixBits(hash ^ static_cast<unsigned char>(c));
  }
  return hash;
}

absl::Status Read(const std::string& line, const v1::SamplingParams& defaults,
                  BatchLine* result) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError("not a JSON object in UTF-8");
  }
  QUIRE_RETURN_IF_ERROR(ReadId(json, &result->id));
  for (const auto& [key, _] : json.items()) {
    if (key != "id" && key != "prompt" && key != "token_ids" &&
        key != "sampling") {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", key.substr(0, 40),
          "\" is unknown; a line has \"id\", \"prompt\" or \"token_ids\", and "
          "\"sampling\""));
    }
  }
  QUIRE_RETURN_IF_ERROR(ReadPrompt(json, &result->request));
  *result->request.mutable_sampling() = defaults;
  return ReadSampling(json, result->request.mutable_sampling());
}

}  // namespace

BatchLine ParseBatchLine(int64_t number, const std::string& line,
                         const v1::SamplingParams& defaults, uint64_t seed) {
  BatchLine result;
  result.id = absl::StrCat("line-", number);
  const absl::Status status = Read(line, defaults, &result);
  if (!status.ok()) {
    std::string message(status.message());
    for (char& c : message) {
      if (c == '\n') c = ' ';
    }
    result.status = absl::InvalidArgumentError(
        absl::StrCat("line ", number, ": ", message));
  }
  v1::SamplingParams* sampling = result.request.mutable_sampling();
  if (!sampling->has_seed()) {
    sampling->set_seed(static_cast<int64_t>(HashOf(result.id, seed)));
  }
  return result;
}

}  // namespace quire
