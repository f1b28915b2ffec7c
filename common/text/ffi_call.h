// SPDX-License-Identifier: Apache-2.0
//
// The two ends of a call into the Rust text library: its buffers as C++ values
// and its failures as absl::Status. Private to common/text.
#ifndef COMMON_TEXT_FFI_CALL_H_
#define COMMON_TEXT_FFI_CALL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/text/ffi/quire_text.h"

namespace quire {

// A buffer that the library fills and this object gives back.
class FfiBuffer final {
 public:
  FfiBuffer() = default;
  ~FfiBuffer() { qt_buffer_free(buffer_); }
  FfiBuffer(const FfiBuffer&) = delete;
  FfiBuffer& operator=(const FfiBuffer&) = delete;

  QtBuffer* out() { return &buffer_; }

  // Valid while this object lives.
  std::string_view view() const {
    return {reinterpret_cast<const char*>(buffer_.data), buffer_.size};
  }

 private:
  QtBuffer buffer_ = {nullptr, 0};
};

inline const uint8_t* FfiBytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// `code` of a call that stored its message in `error`. `context` (a path, a
// name, or nothing) stands before the message.
absl::Status FfiStatus(int32_t code, const FfiBuffer& error,
                       std::string_view context = "");

}  // namespace quire

#endif  // COMMON_TEXT_FFI_CALL_H_
