// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/tenant_config.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/json_fields.h"
#include "common/status_macros.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr int32_t kMany = 1 << 30;
constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxListed = 10000;

// A field that is misspelt would silently not count.
absl::Status CheckNames(const Json& object, const std::string& where,
                        const std::vector<std::string>& known) {
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string list;
    for (const std::string& field : known) {
      absl::StrAppend(&list, list.empty() ? "" : ", ", field);
    }
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": \"", name, "\" is no known field; known: ", list));
  }
  return absl::OkStatus();
}

absl::Status CheckShares(const JsonFields& fields, const TenantLimits& limits) {
  if (fields.Find("guaranteed_kv") && fields.Find("guaranteed_blocks")) {
    return fields.Wrong("guaranteed_blocks",
                        "nothing beside \"guaranteed_kv\"");
  }
  if (fields.Find("max_kv") && fields.Find("max_blocks")) {
    return fields.Wrong("max_blocks", "nothing beside \"max_kv\"");
  }
  if (limits.guaranteed_blocks < 0 && limits.max_blocks < 0 &&
      limits.guaranteed_kv > limits.max_kv) {
    return fields.Wrong("guaranteed_kv", "at most \"max_kv\"");
  }
  if (limits.max_blocks >= 0 && limits.guaranteed_blocks > limits.max_blocks) {
    return fields.Wrong("guaranteed_blocks", "at most \"max_blocks\"");
  }
  return absl::OkStatus();
}

absl::StatusOr<TenantLimits> ParseLimits(const Json& object,
                                         const std::string& where) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected an object"));
  }
  QUIRE_RETURN_IF_ERROR(
      CheckNames(object, where,
                 {"name", "weight", "guaranteed_kv", "guaranteed_blocks",
                  "max_kv", "max_blocks", "priority"}));
  const JsonFields fields(object, where);
  TenantLimits limits;
  QUIRE_ASSIGN_OR_RETURN(limits.weight,
                         fields.Number("weight", 0.001, 1000, 1));
  QUIRE_ASSIGN_OR_RETURN(limits.guaranteed_kv,
                         fields.Number("guaranteed_kv", 0, 1, 0));
  QUIRE_ASSIGN_OR_RETURN(limits.max_kv, fields.Number("max_kv", 0.001, 1, 1));
  QUIRE_ASSIGN_OR_RETURN(limits.guaranteed_blocks,
                         fields.Int("guaranteed_blocks", 0, kMany, -1));
  QUIRE_ASSIGN_OR_RETURN(limits.max_blocks,
                         fields.Int("max_blocks", 1, kMany, -1));
  QUIRE_ASSIGN_OR_RETURN(limits.priority,
                         fields.Int("priority", -kMany, kMany, 0));
  QUIRE_RETURN_IF_ERROR(CheckShares(fields, limits));
  return limits;
}

absl::Status ParseTenants(const Json& list, const std::string& file,
                          TenantConfig* config) {
  if (!list.is_array() || list.size() > kMaxListed) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": \"tenants\" must be a list of at most ", kMaxListed));
  }
  double guaranteed = 0;
  for (size_t idx = 0; idx < list.size(); ++idx) {
    const std::string where = absl::StrCat(file, ": tenants[", idx, "]");
    QUIRE_ASSIGN_OR_RETURN(const TenantLimits limits,
                           ParseLimits(list[idx], where));
    const JsonFields fields(list[idx], where);
    const Json* name = fields.Find("name");
    if (name == nullptr || !name->is_string() ||
        name->get_ref<const std::string&>().size() > kMaxNameBytes) {
      return fields.Wrong("name", "a string of at most 128 bytes");
    }
    if (!config->tenants.emplace(name->get<std::string>(), limits).second) {
      return fields.Wrong("name", "a name that no other entry has");
    }
    guaranteed += limits.guaranteed_blocks < 0 ? limits.guaranteed_kv : 0;
  }
  if (guaranteed > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": \"guaranteed_kv\" of all tenants adds up to ",
                     guaranteed, ", more than the pool"));
  }
  return absl::OkStatus();
}

}  // namespace

int32_t TenantLimits::GuaranteedBlocks(int32_t num_blocks) const {
  return guaranteed_blocks >= 0
             ? std::min(guaranteed_blocks, num_blocks)
             : static_cast<int32_t>(guaranteed_kv * num_blocks);
}

int32_t TenantLimits::MaxBlocks(int32_t num_blocks) const {
  if (max_blocks >= 0) return max_blocks;
  return max_kv >= 1 ? std::numeric_limits<int32_t>::max()
                     : static_cast<int32_t>(std::ceil(max_kv * num_blocks));
}

void TenantConfig::DivideBlocks(int32_t num_groups) {
  const auto divide = [num_groups](TenantLimits* limits) {
    if (limits->guaranteed_blocks > 0) limits->guaranteed_blocks /= num_groups;
    if (limits->max_blocks > 0) {
      limits->max_blocks = (limits->max_blocks + num_groups - 1) / num_groups;
    }
  };
  for (auto& [name, limits] : tenants) divide(&limits);
  divide(&unlisted);
}

const TenantLimits& TenantConfig::Of(const std::string& name) const {
  const auto it = tenants.find(name);
  return it == tenants.end() ? unlisted : it->second;
}

absl::StatusOr<TenantConfig> ParseTenantConfig(absl::string_view json,
                                               const std::string& file) {
  QUIRE_ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, file));
  QUIRE_RETURN_IF_ERROR(
      CheckNames(root, file,
                 {"tenants", "default", "max_tracked", "idle_expiry_s",
                  "prompt_token_cost", "output_token_cost", "burst_tokens"}));
  const JsonFields fields(root, file);
  TenantConfig config;
  if (const Json* list = fields.Find("tenants")) {
    QUIRE_RETURN_IF_ERROR(ParseTenants(*list, file, &config));
  }
  if (const Json* unlisted = fields.Find("default")) {
    const std::string where = absl::StrCat(file, ": default");
    QUIRE_ASSIGN_OR_RETURN(config.unlisted, ParseLimits(*unlisted, where));
    if (config.unlisted.guaranteed_kv > 0 ||
        config.unlisted.guaranteed_blocks > 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": only a listed tenant can be guaranteed memory"));
    }
  }
  QUIRE_ASSIGN_OR_RETURN(config.max_tracked,
                         fields.Int("max_tracked", 1, 1 << 20, 1024));
  QUIRE_ASSIGN_OR_RETURN(const double expiry_s,
                         fields.Number("idle_expiry_s", 0, 1e9, 600));
  config.idle_expiry = absl::Seconds(expiry_s);
  QUIRE_ASSIGN_OR_RETURN(config.prompt_token_cost,
                         fields.Number("prompt_token_cost", 0.001, 1000, 1));
  QUIRE_ASSIGN_OR_RETURN(config.output_token_cost,
                         fields.Number("output_token_cost", 0.001, 1000, 2));
  QUIRE_ASSIGN_OR_RETURN(config.burst_tokens,
                         fields.Int("burst_tokens", 0, kMany, 8192));
  return config;
}

absl::StatusOr<TenantConfig> ReadTenantConfig(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path));
  }
  const std::string text((std::istreambuf_iterator<char>(in)),
                         std::istreambuf_iterator<char>());
  return ParseTenantConfig(text, path);
}

}  // namespace quire
