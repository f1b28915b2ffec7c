// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/checkpoint_source.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "worker/weights/float16.h"
#include "worker/weights/parallel_rows.h"
#include "worker/weights/scratch.h"

namespace quire {
namespace {

constexpr size_t kNamesShown = 5;

// "3 tensors are missing: a, b, c", or nothing.
void AppendProblem(const std::vector<std::string>& names,
                   absl::string_view problem, std::vector<std::string>* out) {
  if (names.empty()) return;
  const std::vector<std::string> shown(
      names.begin(), names.begin() + std::min(names.size(), kNamesShown));
  out->push_back(absl::StrCat(
      names.size(), names.size() == 1 ? " tensor is " : " tensors are ",
      problem, ": ", absl::StrJoin(shown, ", "),
      names.size() > kNamesShown ? " ..." : ""));
}

bool IsFloating(StoredDType dtype) {
  return dtype == StoredDType::kF32 || dtype == StoredDType::kBf16 ||
         dtype == StoredDType::kF16;
}

// What quantizers write in place of weights, or beside them.
bool IsQuantized(const StoredTensor& stored) {
  switch (stored.dtype) {
    case StoredDType::kU8:
    case StoredDType::kI8:
    case StoredDType::kF8E5M2:
    case StoredDType::kF8E4M3:
    case StoredDType::kI32:  // eight weights of four bits
      return true;
    default:
      break;
  }
  for (const absl::string_view suffix :
       {".weight_scale", ".weight_scale_inv", ".scales", ".SCB", ".qweight"}) {
    if (absl::EndsWith(stored.name, suffix)) return true;
  }
  return false;
}

bool HasShape(const StoredTensor& stored, const TensorSpec& spec) {
  if (spec.is_vector) {
    return stored.shape == std::vector<int64_t>{spec.rows};
  }
  return stored.shape == std::vector<int64_t>{spec.rows, spec.cols};
}

std::string ShapeOf(const TensorSpec& spec) {
  return spec.is_vector ? absl::StrCat("[", spec.rows, "]")
                        : absl::StrCat("[", spec.rows, ", ", spec.cols, "]");
}

// Where a slice's first element lies in its tensor, and the elements from there
// to its last, gaps of a column slice included.
struct Span {
  int64_t offset;  // bytes from the start of the tensor
  int64_t bytes;
};

Span SpanOf(const WeightSlice& slice, StoredDType dtype) {
  if (slice.num_rows == 0 || slice.num_cols == 0) return {0, 0};
  const int64_t cols = slice.tensor.cols;
  const int64_t first = slice.first_row * cols + slice.first_col;
  const int64_t last = (slice.first_row + slice.num_rows - 1) * cols +
                       slice.first_col + slice.num_cols;
  return {first * SizeOf(dtype), (last - first) * SizeOf(dtype)};
}

template <typename T>
T LoadUnaligned(const char* data, int64_t idx) {
  T value;
  std::memcpy(&value, data + idx * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// Copies a slice densely into new memory, converting each element.
template <typename From, typename To, typename Convert>
LoadedSlice CopySlice(const char* first, const WeightSlice& slice,
                      DType out_dtype, Convert convert, ScratchPool& scratch) {
  std::shared_ptr<void> owned =
      scratch.Lend(slice.num_rows * slice.num_cols * int64_t{sizeof(To)});
  To* out = static_cast<To*>(owned.get());
  ParallelRows(slice.num_rows, slice.num_cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t col = 0; col < slice.num_cols; ++col) {
        out[row * slice.num_cols + col] =
            convert(LoadUnaligned<From>(first, row * slice.tensor.cols + col));
      }
    }
  });
  return {{out, out_dtype, slice.num_rows, slice.num_cols, slice.num_cols},
          std::move(owned)};
}

}  // namespace

CheckpointSource::CheckpointSource(std::unique_ptr<Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)) {}

absl::Status CheckpointSource::Prepare(const TensorSet& expected) {
  expected_prefix_ = expected.prefixes.front();
  stored_prefix_ = expected_prefix_;
  for (const std::string& prefix : expected.prefixes) {
    if (checkpoint_->Find(absl::StrCat(prefix, expected.probe)) == nullptr) {
      continue;
    }
    stored_prefix_ = prefix;
    break;
  }
  std::vector<std::string> missing, misshapen, mistyped;
  bool is_quantized = false;
  for (const TensorSpec& spec : expected.tensors) {
    const Checkpoint::Entry* entry = FindEntry(spec);
    const std::string name = StoredName(spec.name);
    if (entry == nullptr) {
      missing.push_back(name);
      continue;
    }
    is_quantized |= IsQuantized(*entry->tensor);
    if (!HasShape(*entry->tensor, spec)) {
      misshapen.push_back(
          absl::StrCat(name, " [", absl::StrJoin(entry->tensor->shape, ", "),
                       "], expected ", ShapeOf(spec)));
    } else if (!IsFloating(entry->tensor->dtype)) {
      mistyped.push_back(absl::StrCat(name, " ", Name(entry->tensor->dtype)));
    }
  }
  std::vector<std::string> problems;
  AppendProblem(missing, "missing", &problems);
  AppendProblem(misshapen, "of the wrong shape", &problems);
  AppendProblem(mistyped, "neither F32, BF16 nor F16", &problems);
  const std::vector<std::string> unexpected = Unexpected(expected);
  AppendProblem(unexpected, "not part of the model", &problems);
  if (problems.empty()) return absl::OkStatus();
  for (const std::string& name : unexpected) {
    is_quantized |= IsQuantized(*checkpoint_->Find(name)->tensor);
  }
  std::string remedy = Remedy(expected);
  if (is_quantized) {
    remedy =
        "quantized checkpoints are not supported: take the model's unquantized "
        "release";
  } else if (!mistyped.empty()) {
    remedy = "save the weights as F32, BF16 or F16";
  }
  return absl::InvalidArgumentError(
      absl::StrCat(checkpoint_->folder(), ": does not fit its config.json: ",
                   absl::StrJoin(problems, "; "), "; ", remedy));
}

std::string CheckpointSource::Remedy(const TensorSet& expected) const {
  const std::string embedding = absl::StrCat(expected_prefix_, expected.probe);
  for (const TensorSpec& spec : expected.tensors) {
    const Checkpoint::Entry* entry = FindEntry(spec);
    if (spec.name != embedding || entry == nullptr) continue;
    const std::vector<int64_t>& shape = entry->tensor->shape;
    if (shape.size() != 2 || shape[1] != spec.cols || shape[0] == spec.rows) {
      continue;
    }
    return absl::StrCat(
        "for an embedding of ", shape[0],
        " rows, config.json must say \"vocab_size\": ", shape[0]);
  }
  return "take config.json and the weights from the same release of the model";
}

std::string CheckpointSource::StoredName(const std::string& name) const {
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, expected_prefix_)) return name;
  return absl::StrCat(stored_prefix_, rest);
}

const Checkpoint::Entry* CheckpointSource::FindEntry(
    const TensorSpec& tensor) const {
  return checkpoint_->Find(StoredName(tensor.name));
}

std::vector<std::string> CheckpointSource::Unexpected(
    const TensorSet& expected) const {
  absl::flat_hash_set<std::string> known;
  for (const TensorSpec& spec : expected.tensors) {
    known.insert(StoredName(spec.name));
  }
  std::vector<std::string> names;
  for (absl::string_view name : checkpoint_->Names()) {
    bool accepted = known.contains(name);
    for (const std::string& suffix : expected.unused_suffixes) {
      accepted |= absl::EndsWith(name, suffix);
    }
    if (!accepted) names.emplace_back(name);
  }
  return names;
}

absl::StatusOr<LoadedSlice> CheckpointSource::Read(const WeightSlice& slice,
                                                   DType dtype) {
  const Checkpoint::Entry* entry = FindEntry(slice.tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("no tensor \"", slice.tensor.name, "\""));
  }
  const StoredTensor& stored = *entry->tensor;
  const Span span = SpanOf(slice, stored.dtype);
  entry->file->file().WillNeed(entry->file->file_offset(stored) + span.offset,
                               span.bytes);
  const char* first = entry->file->data(stored) + span.offset;
  const auto same = [](auto bits) { return bits; };
  if (stored.dtype == StoredDType::kF16) {
    if (dtype == DType::kF32) {
      return CopySlice<uint16_t, float>(first, slice, DType::kF32,
                                        Float16ToFloat, scratch_);
    }
    return CopySlice<uint16_t, uint16_t>(
        first, slice, DType::kBf16,
        [](uint16_t half) { return FloatToBfloat16(Float16ToFloat(half)); },
        scratch_);
  }
  const bool is_f32 = stored.dtype == StoredDType::kF32;
  const DType as_stored = is_f32 ? DType::kF32 : DType::kBf16;
  if (reinterpret_cast<uintptr_t>(first) % SizeOf(as_stored) == 0) {
    return LoadedSlice{
        {first, as_stored, slice.num_rows, slice.num_cols, slice.tensor.cols},
        nullptr};
  }
  return is_f32
             ? CopySlice<float, float>(first, slice, as_stored, same, scratch_)
             : CopySlice<uint16_t, uint16_t>(first, slice, as_stored, same,
                                             scratch_);
}

absl::Status CheckpointSource::Release(const WeightSlice& slice,
                                       LoadedSlice loaded) {
  loaded.owned.reset();
  const Checkpoint::Entry* entry = FindEntry(slice.tensor);
  const MappedFile& file = entry->file->file();
  if (file.damaged()) {
    return absl::DataLossError(
        absl::StrCat(file.path(), ": tensor \"", entry->tensor->name,
                     "\": the file was truncated while it was read"));
  }
  const Span span = SpanOf(slice, entry->tensor->dtype);
  file.Release(entry->file->file_offset(*entry->tensor) + span.offset,
               span.bytes);
  return absl::OkStatus();
}

}  // namespace quire
