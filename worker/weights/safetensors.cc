// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/safetensors.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr int64_t kLengthBytes = 8;  // u64, little-endian, before the header
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

// Little-endian whatever the machine is.
uint64_t ReadLength(const char* data) {
  uint64_t length = 0;
  for (int i = 0; i < kLengthBytes; ++i) {
    length |= uint64_t{static_cast<uint8_t>(data[i])} << (8 * i);
  }
  return length;
}

absl::StatusOr<absl::string_view> FindHeader(const MappedFile& file) {
  if (file.bytes() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", file.bytes(), " bytes, too few for a header; truncated?"));
  }
  const uint64_t length = ReadLength(file.data());
  const int64_t limit = std::min(kMaxHeaderBytes, file.bytes() - kLengthBytes);
  if (length > static_cast<uint64_t>(limit)) {
    return absl::InvalidArgumentError(
        absl::StrCat("says that its header has ", length, " bytes, of at most ",
                     limit, "; truncated, or not a safetensors file"));
  }
  const absl::string_view header(file.data() + kLengthBytes,
                                 static_cast<size_t>(length));
  if (header.empty() || header.front() != '{') {
    return absl::InvalidArgumentError("header does not begin with {");
  }
  return header;
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  QUIRE_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  auto header = FindHeader(*file);
  if (!header.ok()) return InFile(path, header.status());
  const int64_t data_offset =
      kLengthBytes + static_cast<int64_t>(header->size());
  auto tensors = ParseSafetensorsHeader(*header, file->bytes() - data_offset);
  if (!tensors.ok()) return InFile(path, tensors.status());
  if (file->damaged()) {
    return absl::DataLossError(
        absl::StrCat(path, ": was truncated while its header was read"));
  }
  return std::unique_ptr<SafetensorsFile>(
      new SafetensorsFile(std::move(file), data_offset, *std::move(tensors)));
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<MappedFile> file,
                                 int64_t data_offset,
                                 std::vector<StoredTensor> tensors)
    : file_(std::move(file)),
      data_offset_(data_offset),
      tensors_(std::move(tensors)) {}

}  // namespace quire
