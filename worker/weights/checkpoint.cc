// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/checkpoint.h"

#include <dirent.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json_fields.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/weights/mapped_file.h"

namespace quire {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = int64_t{100} << 20;

// Names in the folder; empty if it cannot be read.
std::vector<std::string> ListFolder(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) names.push_back(entry->d_name);
  closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

bool Contains(const std::vector<std::string>& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Says what the folder lacks, and what to do about what it has instead.
absl::Status NoWeights(const std::string& folder,
                       const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, ".bin") && !absl::EndsWith(name, ".pt") &&
        !absl::EndsWith(name, ".pth")) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": has pickled weights (", name,
        ") but no safetensors, and unpickling runs code; convert with: python3 "
        "-c \"from transformers import AutoModelForCausalLM as M; "
        "M.from_pretrained('",
        folder, "', dtype='auto').save_pretrained('", folder, "')\""));
  }
  return absl::NotFoundError(
      absl::StrCat(folder, ": has neither ", kSingleFile, " nor ", kIndexFile,
                   "; download the model's *.safetensors files into it, and "
                   "their index if there are several"));
}

// A shard is a plain file of the folder itself.
absl::Status CheckShardName(const std::string& name) {
  if (name.empty() || absl::StrContains(name, '/') ||
      absl::StrContains(name, "..") || absl::StrContains(name, '\0') ||
      !absl::EndsWith(name, ".safetensors")) {
    return absl::InvalidArgumentError(
        absl::StrCat(kIndexFile, ": weight_map names the shard \"", name,
                     "\", expected a *.safetensors file of this folder"));
  }
  return absl::OkStatus();
}

// Shard -> names of its tensors.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ParseIndex(
    absl::string_view text) {
  QUIRE_ASSIGN_OR_RETURN(const nlohmann::json index,
                         ParseJsonObject(text, kIndexFile));
  const JsonFields fields(index, kIndexFile);
  const nlohmann::json* weight_map = fields.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() ||
      weight_map->empty()) {
    return fields.Wrong("weight_map", "tensor names with their shards");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, ": weight_map[\"", tensor,
                       "\"] is not the name of a shard"));
    }
    const std::string name = shard.get<std::string>();
    QUIRE_RETURN_IF_ERROR(CheckShardName(name));
    shards[name].push_back(tensor);
  }
  return shards;
}

absl::StatusOr<std::string> ReadIndex(const std::string& path) {
  QUIRE_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->bytes() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", file->bytes(),
                                                   " bytes, expected at most ",
                                                   kMaxIndexBytes));
  }
  return std::string(file->data(), static_cast<size_t>(file->bytes()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::string& folder) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(folder));
  const std::vector<std::string> names = ListFolder(folder);
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, ": no such folder"));
  }
  if (Contains(names, kSingleFile)) {
    QUIRE_RETURN_IF_ERROR(checkpoint->AddFile(kSingleFile));
    return checkpoint;
  }
  if (!Contains(names, kIndexFile)) return NoWeights(folder, names);
  QUIRE_ASSIGN_OR_RETURN(const std::string index_json,
                         ReadIndex(absl::StrCat(folder, "/", kIndexFile)));
  const absl::Status status = checkpoint->OpenShards(index_json);
  if (status.ok()) return checkpoint;
  return absl::StartsWith(status.message(), folder)
             ? status
             : absl::Status(status.code(),
                            absl::StrCat(folder, "/", status.message()));
}

absl::Status Checkpoint::OpenShards(const std::string& index_json) {
  QUIRE_ASSIGN_OR_RETURN(const auto shards, ParseIndex(index_json));
  const std::vector<std::string> names = ListFolder(folder_);
  std::vector<std::string> missing;
  for (const auto& [shard, tensors] : shards) {
    if (!Contains(names, shard)) missing.push_back(shard);
  }
  if (!missing.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder_, ": ", missing.size(), " of ", shards.size(),
                     " shards are missing: ", absl::StrJoin(missing, ", "),
                     "; download them into it"));
  }
  for (const auto& [shard, tensors] : shards) {
    QUIRE_RETURN_IF_ERROR(AddFile(shard));
    for (const std::string& tensor : tensors) {
      const Entry* entry = Find(tensor);
      if (entry != nullptr && entry->file == files_.back().get()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(folder_, "/", shard, ": lacks the tensor \"", tensor,
                       "\", which ", kIndexFile, " says it holds"));
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::AddFile(const std::string& name) {
  QUIRE_ASSIGN_OR_RETURN(
      auto file, SafetensorsFile::Open(absl::StrCat(folder_, "/", name)));
  for (const StoredTensor& tensor : file->tensors()) {
    const auto [it, inserted] =
        entries_.try_emplace(tensor.name, Entry{file.get(), &tensor});
    if (!inserted) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder_, "/", name, ": tensor \"", tensor.name,
                       "\" is also in ", it->second.file->file().path()));
    }
  }
  file_bytes_ += file->file().bytes();
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

const Checkpoint::Entry* Checkpoint::Find(absl::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

std::vector<absl::string_view> Checkpoint::Names() const {
  std::vector<absl::string_view> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace quire
