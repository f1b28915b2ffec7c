// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/safetensors_header.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

struct DTypeEntry {
  StoredDType dtype;
  const char* name;
  int64_t bytes;
};
// In the order of StoredDType.
constexpr DTypeEntry kDTypes[] = {
    {StoredDType::kBool, "BOOL", 1},      {StoredDType::kU8, "U8", 1},
    {StoredDType::kI8, "I8", 1},          {StoredDType::kF8E5M2, "F8_E5M2", 1},
    {StoredDType::kF8E4M3, "F8_E4M3", 1}, {StoredDType::kI16, "I16", 2},
    {StoredDType::kU16, "U16", 2},        {StoredDType::kF16, "F16", 2},
    {StoredDType::kBf16, "BF16", 2},      {StoredDType::kI32, "I32", 4},
    {StoredDType::kU32, "U32", 4},        {StoredDType::kF32, "F32", 4},
    {StoredDType::kF64, "F64", 8},        {StoredDType::kI64, "I64", 8},
    {StoredDType::kU64, "U64", 8},
};

constexpr size_t kMaxRank = 8;  // dimensions; a model's matrices have two

// Receives the header token by token: no document is built, whatever the size
// of the header, and repeated keys are seen, which a document would hide.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool start_object(size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTensorValue:
        seen_ = 0;
        state_ = State::kTensor;
        return true;
      case State::kMetadataValue:
        state_ = State::kMetadata;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& key) override {
    switch (state_) {
      case State::kTop:
        if (!names_.insert(key).second) {
          return Fail(absl::StrCat("the name \"", key, "\" appears twice"));
        }
        if (key == "__metadata__") {
          state_ = State::kMetadataValue;
          return true;
        }
        tensors_.emplace_back().name = key;
        state_ = State::kTensorValue;
        return true;
      case State::kMetadata:
        if (!metadata_keys_.insert(key).second) {
          return Fail(
              absl::StrCat("__metadata__ has the key \"", key, "\" twice"));
        }
        state_ = State::kMetadataString;
        return true;
      default:
        return TensorKey(key);
    }
  }

  bool end_object() override {
    if (state_ == State::kTensor) {
      if (seen_ != (kSeenDtype | kSeenShape | kSeenOffsets)) {
        return Fail(
            absl::StrCat(Current(), "needs dtype, shape and data_offsets"));
      }
      state_ = State::kTop;
    } else if (state_ == State::kMetadata) {
      state_ = State::kTop;
    } else {
      state_ = State::kEnd;
    }
    return true;
  }

  bool start_array(size_t) override {
    if (state_ == State::kShapeValue) {
      state_ = State::kShape;
      return true;
    }
    if (state_ == State::kOffsetsValue) {
      state_ = State::kOffsets;
      num_offsets_ = 0;
      return true;
    }
    return Unexpected("an array");
  }

  bool end_array() override {
    if (state_ == State::kOffsets && num_offsets_ != 2) {
      return Fail(absl::StrCat(Current(), "data_offsets has ", num_offsets_,
                               " numbers, expected [begin, end]"));
    }
    state_ = State::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(
          absl::StrCat(Current(), "the number ", value, " is beyond 63 bits"));
    }
    StoredTensor* tensor = tensors_.empty() ? nullptr : &tensors_.back();
    if (state_ == State::kShape) {
      if (tensor->shape.size() == kMaxRank) {
        return Fail(
            absl::StrCat(Current(), "has more than ", kMaxRank, " dimensions"));
      }
      tensor->shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      if (num_offsets_ == 0) tensor->begin = static_cast<int64_t>(value);
      if (num_offsets_ == 1) tensor->end = static_cast<int64_t>(value);
      ++num_offsets_;
      return true;
    }
    return Unexpected("a number");
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadataString) {
      state_ = State::kMetadata;
      return true;
    }
    if (state_ != State::kDtypeValue) return Unexpected("a string");
    for (const DTypeEntry& entry : kDTypes) {
      if (value != entry.name) continue;
      tensors_.back().dtype = entry.dtype;
      state_ = State::kTensor;
      return true;
    }
    return Fail(absl::StrCat(Current(), "unknown dtype \"", value,
                             "\"; only F32, BF16 and F16 are supported, not "
                             "quantized checkpoints: take the model's "
                             "unquantized release"));
  }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool binary(binary_t&) override { return Unexpected("binary data"); }
  bool number_integer(number_integer_t value) override {
    return Fail(absl::StrCat(Current(), "unexpected number ", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Fail(absl::StrCat(Current(), "unexpected number ", text));
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("not JSON in UTF-8 at byte ", position));
  }

  const absl::Status& status() const { return status_; }
  std::vector<StoredTensor> TakeTensors() { return std::move(tensors_); }

 private:
  // What was read last, hence what may come next.
  enum class State {
    kStart,
    kTop,
    kTensorValue,
    kTensor,
    kDtypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kMetadataValue,
    kMetadata,
    kMetadataString,
    kEnd,
  };
  enum Seen { kSeenDtype = 1, kSeenShape = 2, kSeenOffsets = 4 };

  bool TensorKey(const std::string& key) {
    Seen field = kSeenDtype;
    if (key == "dtype") {
      state_ = State::kDtypeValue;
    } else if (key == "shape") {
      field = kSeenShape;
      state_ = State::kShapeValue;
    } else if (key == "data_offsets") {
      field = kSeenOffsets;
      state_ = State::kOffsetsValue;
    } else {
      return Fail(absl::StrCat(Current(), "unknown key \"", key, "\""));
    }
    if ((seen_ & field) != 0) {
      return Fail(
          absl::StrCat(Current(), "the key \"", key, "\" appears twice"));
    }
    seen_ |= field;
    return true;
  }

  // Where we are, as the beginning of a message.
  std::string Current() const {
    if (state_ == State::kMetadataString || state_ == State::kMetadataValue ||
        state_ == State::kMetadata) {
      return "__metadata__: ";
    }
    if (tensors_.empty()) return "header: ";
    return absl::StrCat("tensor \"", tensors_.back().name, "\": ");
  }

  bool Unexpected(const char* what) {
    return Fail(absl::StrCat(Current(), "unexpected ", what));
  }

  bool Fail(const std::string& message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(message);
    return false;
  }

  State state_ = State::kStart;
  int seen_ = 0;
  int num_offsets_ = 0;
  std::vector<StoredTensor> tensors_;
  absl::flat_hash_set<std::string> names_;
  absl::flat_hash_set<std::string> metadata_keys_;
  absl::Status status_;
};

absl::Status CheckSize(const StoredTensor& tensor) {
  int64_t bytes = SizeOf(tensor.dtype);
  bool overflow = false;
  for (int64_t dim : tensor.shape) {
    overflow |= __builtin_mul_overflow(bytes, dim, &bytes);
  }
  // A zero behind the overflowing product would hide it; refused all the same.
  if (overflow) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", tensor.name, "\": its shape is beyond 63 bits of bytes"));
  }
  if (tensor.end < tensor.begin || tensor.end - tensor.begin != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", tensor.name, "\": data_offsets [", tensor.begin, ", ",
        tensor.end, ") should span ", bytes, " bytes by shape and dtype"));
  }
  return absl::OkStatus();
}

// A message quotes what the file says, which may have any length and lines.
absl::Status OneLine(const absl::Status& status) {
  constexpr size_t kMaxMessage = 500;
  std::string message(status.message().substr(0, kMaxMessage));
  if (message.size() < status.message().size()) message += " ...";
  for (char& c : message) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return absl::Status(status.code(), message);
}

absl::StatusOr<std::vector<StoredTensor>> ParseHeader(absl::string_view json,
                                                      int64_t data_bytes) {
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    return reader.status();
  }
  std::vector<StoredTensor> tensors = reader.TakeTensors();
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  int64_t expected = 0;
  for (const StoredTensor& tensor : tensors) {
    QUIRE_RETURN_IF_ERROR(CheckSize(tensor));
    if (tensor.begin != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", tensor.name, "\": begins at byte ", tensor.begin,
          tensor.begin < expected ? ", inside of the tensor before it, which "
                                    "ends at "
                                  : ", leaving a hole behind byte ",
          expected));
    }
    if (tensor.end > data_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", tensor.name, "\": ends at byte ", tensor.end, " of ",
          data_bytes, "; the file is truncated"));
    }
    expected = tensor.end;
  }
  if (expected != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the tensors end at byte ",
                                                   expected, " of ", data_bytes,
                                                   " bytes of data"));
  }
  return tensors;
}

}  // namespace

int64_t SizeOf(StoredDType dtype) {
  return kDTypes[static_cast<int>(dtype)].bytes;
}

const char* Name(StoredDType dtype) {
  return kDTypes[static_cast<int>(dtype)].name;
}

absl::StatusOr<std::vector<StoredTensor>> ParseSafetensorsHeader(
    absl::string_view json, int64_t data_bytes) {
  auto tensors = ParseHeader(json, data_bytes);
  if (!tensors.ok()) return OneLine(tensors.status());
  return tensors;
}

}  // namespace quire
