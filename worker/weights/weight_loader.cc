// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/weight_loader.h"

#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {

absl::StatusOr<std::unique_ptr<WeightLoader>> WeightLoader::Create(
    const TensorSet& expected, WeightSource& source, Backend& backend,
    LoadProgress progress) {
  QUIRE_RETURN_IF_ERROR(source.Prepare(expected));
  return absl::WrapUnique(
      new WeightLoader(expected, source, backend, std::move(progress)));
}

WeightLoader::WeightLoader(const TensorSet& expected, WeightSource& source,
                           Backend& backend, LoadProgress progress)
    : source_(source), backend_(backend), progress_(std::move(progress)) {
  for (const TensorSpec& spec : expected.tensors) {
    CHECK(specs_.try_emplace(spec.name, spec).second) << spec.name;
    elements_total_ += spec.rows * spec.cols;
  }
}

WeightSlice WeightLoader::Whole(absl::string_view name) const {
  const auto it = specs_.find(name);
  CHECK(it != specs_.end()) << "not an expected tensor: " << name;
  return {it->second, 0, it->second.rows, 0, it->second.cols};
}

WeightSlice WeightLoader::Rows(absl::string_view name, int64_t first,
                               int64_t num) const {
  WeightSlice slice = Whole(name);
  CHECK(first >= 0 && num >= 0 && first + num <= slice.num_rows) << name;
  slice.first_row = first;
  slice.num_rows = num;
  return slice;
}

WeightSlice WeightLoader::Cols(absl::string_view name, int64_t first,
                               int64_t num) const {
  WeightSlice slice = Whole(name);
  CHECK(first >= 0 && num >= 0 && first + num <= slice.num_cols) << name;
  slice.first_col = first;
  slice.num_cols = num;
  return slice;
}

template <typename Consume>
auto WeightLoader::Load(absl::Span<const WeightSlice> stacked, Consume consume)
    -> decltype(consume(absl::Span<const HostMatrix>())) {
  std::vector<LoadedSlice> loaded;
  std::vector<HostMatrix> matrices;
  for (const WeightSlice& slice : stacked) {
    QUIRE_ASSIGN_OR_RETURN(LoadedSlice part,
                           source_.Read(slice, backend_.dtype()));
    matrices.push_back(part.matrix);
    loaded.push_back(std::move(part));
  }
  auto result = consume(absl::MakeConstSpan(matrices));
  if (!result.ok()) return result;
  // A backend may still be copying.
  QUIRE_RETURN_IF_ERROR(backend_.Synchronize());
  for (size_t i = 0; i < stacked.size(); ++i) {
    QUIRE_RETURN_IF_ERROR(source_.Release(stacked[i], std::move(loaded[i])));
  }
  device_bytes_ += (*result)->bytes();
  Count(stacked);
  return result;
}

absl::StatusOr<std::unique_ptr<PackedWeight>> WeightLoader::Pack(
    absl::Span<const WeightSlice> stacked) {
  return Load(stacked, [this](absl::Span<const HostMatrix> matrices) {
    return backend_.PackWeight(matrices);
  });
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> WeightLoader::Upload(
    absl::Span<const WeightSlice> stacked) {
  return Load(stacked, [this](absl::Span<const HostMatrix> matrices) {
    return backend_.Upload(matrices);
  });
}

void WeightLoader::Count(absl::Span<const WeightSlice> stacked) {
  for (const WeightSlice& slice : stacked) {
    if (!counted_.insert(slice.tensor.name).second) continue;
    elements_done_ += slice.tensor.rows * slice.tensor.cols;
  }
  if (progress_) progress_(elements_done_, elements_total_);
}

}  // namespace quire
