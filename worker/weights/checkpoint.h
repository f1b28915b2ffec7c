// SPDX-License-Identifier: Apache-2.0
//
// The safetensors files of a model folder as one set of named tensors.
#ifndef WORKER_WEIGHTS_CHECKPOINT_H_
#define WORKER_WEIGHTS_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/weights/safetensors.h"

namespace quire {

// Immutable; thread-safe.
class Checkpoint {
 public:
  // A tensor and the file that holds it; both live as long as the checkpoint.
  struct Entry {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };

  // Opens `model.safetensors`, or the shards that
  // `model.safetensors.index.json` names, and checks each file whole. NotFound
  // lists what is missing; a folder with weights in another format only is
  // refused with the way to convert it.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::string& folder);

  // Null if there is no such tensor.
  const Entry* Find(absl::string_view name) const;
  // Every name, in alphabetical order.
  std::vector<absl::string_view> Names() const;

  const std::string& folder() const { return folder_; }
  int64_t file_bytes() const { return file_bytes_; }

 private:
  explicit Checkpoint(std::string folder) : folder_(std::move(folder)) {}

  absl::Status AddFile(const std::string& name);
  absl::Status OpenShards(const std::string& index_json);

  std::string folder_;
  int64_t file_bytes_ = 0;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  absl::flat_hash_map<std::string, Entry> entries_;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_CHECKPOINT_H_
