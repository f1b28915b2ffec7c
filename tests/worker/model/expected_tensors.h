// SPDX-License-Identifier: Apache-2.0
//
// What a family asks of a checkpoint, without one.
#ifndef TESTS_WORKER_MODEL_EXPECTED_TENSORS_H_
#define TESTS_WORKER_MODEL_EXPECTED_TENSORS_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/collective/local.h"
#include "worker/model/registry.h"
#include "worker/weights/weight_source.h"

namespace quire {

// Remembers what is expected, and has nothing.
class AskedSource final : public WeightSource {
 public:
  absl::Status Prepare(const TensorSet& expected) override {
    expected_ = expected;
    return absl::NotFoundError("this source has nothing");
  }
  absl::StatusOr<LoadedSlice> Read(const WeightSlice&, DType) override {
    return absl::NotFoundError("this source has nothing");
  }
  absl::Status Release(const WeightSlice&, LoadedSlice) override {
    return absl::OkStatus();
  }
  const TensorSet& expected() const { return expected_; }

 private:
  TensorSet expected_;
};

// What the model of config.json asks for.
inline TensorSet ExpectedOf(const std::string& config_json) {
  const auto config = ModelConfig::FromJson(config_json, "");
  EXPECT_TRUE(config.ok()) << config.status();
  if (!config.ok()) return {};
  AskedSource source;
  const auto backend = *CpuBackend::Create({.num_threads = 1});
  LocalGroup group(/*world_size=*/1);
  const auto model = CreateModel(
      *config,
      {.max_num_batched_tokens = 1, .max_num_seqs = 1, .max_model_len = 1},
      source, *backend, *group.collective(0));
  EXPECT_EQ(model.status().message(), "this source has nothing");
  return source.expected();
}

// "name rows" of vectors, "name rowsxcols" of matrices.
inline std::vector<std::string> Described(const TensorSet& set) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : set.tensors) {
    names.push_back(absl::StrCat(spec.name, " ", spec.rows));
    if (!spec.is_vector) absl::StrAppend(&names.back(), "x", spec.cols);
  }
  return names;
}

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_EXPECTED_TENSORS_H_
