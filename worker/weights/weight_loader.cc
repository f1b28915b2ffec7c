// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/weight_loader.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/weights/parallel_rows.h"

namespace quire {
namespace {

constexpr int64_t kTransposeTile = 16;  // a cache line of float32

}  // namespace

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
  return {it->second,      /*first_row=*/0, it->second.rows,
          /*first_col=*/0, it->second.cols, /*transposed=*/false};
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

WeightSlice WeightLoader::Transposed(WeightSlice slice) {
  slice.transposed = !slice.transposed;
  return slice;
}

LoadedSlice WeightLoader::Transpose(const HostMatrix& matrix) {
  std::shared_ptr<void> owned =
      scratch_.Lend(matrix.rows * matrix.cols * SizeOf(matrix.dtype));
  const auto exchange = [&](auto element) {
    using T = decltype(element);
    const T* in = static_cast<const T*>(matrix.data);
    T* out = static_cast<T*>(owned.get());
    ParallelRows(matrix.cols, matrix.rows, [&](int64_t begin, int64_t end) {
      // Tiles, so that both sides are met in runs.
      for (int64_t first = begin; first < end; first += kTransposeTile) {
        const int64_t last = std::min(first + kTransposeTile, end);
        for (int64_t row = 0; row < matrix.rows; ++row) {
          for (int64_t col = first; col < last; ++col) {
            out[col * matrix.rows + row] = in[row * matrix.row_stride + col];
          }
        }
      }
    });
  };
  if (SizeOf(matrix.dtype) == sizeof(uint32_t)) {
    exchange(uint32_t());
  } else {
    exchange(uint16_t());
  }
  return {{owned.get(), matrix.dtype, matrix.cols, matrix.rows, matrix.rows},
          owned};
}

template <typename Consume>
auto WeightLoader::Load(absl::Span<const WeightSlice> stacked, Consume consume)
    -> decltype(consume(absl::Span<const HostMatrix>())) {
  std::vector<LoadedSlice> loaded, exchanged;
  std::vector<HostMatrix> matrices;
  for (const WeightSlice& slice : stacked) {
    QUIRE_ASSIGN_OR_RETURN(LoadedSlice part,
                           source_.Read(slice, backend_.dtype()));
    if (slice.transposed) {
      exchanged.push_back(Transpose(part.matrix));
      matrices.push_back(exchanged.back().matrix);
    } else {
      matrices.push_back(part.matrix);
    }
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
    absl::Span<const WeightSlice> stacked, int64_t row_multiple) {
  return Load(stacked, [&](absl::Span<const HostMatrix> matrices) {
    int64_t rows = 0;
    for (const HostMatrix& matrix : matrices) rows += matrix.rows;
    const int64_t missing = (row_multiple - rows % row_multiple) % row_multiple;
    if (missing == 0) return backend_.PackWeight(matrices);
    const int64_t cols = matrices.front().cols;
    const std::vector<float> zeros(static_cast<size_t>(missing * cols));
    std::vector<HostMatrix> filled(matrices.begin(), matrices.end());
    filled.push_back({zeros.data(), DType::kF32, missing, cols, cols});
    return backend_.PackWeight(filled);
  });
}

absl::StatusOr<std::unique_ptr<PackedWeight>> WeightLoader::PackGated(
    const WeightSlice& gate, const WeightSlice& up) {
  return Load({gate, up}, [this](absl::Span<const HostMatrix> matrices) {
    return backend_.PackGated(matrices[0], matrices[1]);
  });
}

absl::StatusOr<std::unique_ptr<PackedWeight>> WeightLoader::PackExperts(
    absl::Span<const WeightSlice> stacked, int32_t num_experts) {
  return Load(stacked, [&](absl::Span<const HostMatrix> matrices) {
    return backend_.PackExperts(matrices, num_experts);
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
