// SPDX-License-Identifier: Apache-2.0
#include "common/text/stream_decoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/status_macros.h"
#include "common/text/utf8.h"

namespace quire {
namespace {

// Bytes of `text` that later tokens cannot change. A character cut short shows
// as U+FFFD at the end, one or (byte by byte) up to three of them.
size_t SettledBytes(std::string_view text) {
  for (int i = 0; i < 3; ++i) {
    if (text.size() < kReplacementCharacter.size() ||
        text.substr(text.size() - kReplacementCharacter.size()) !=
            kReplacementCharacter) {
      break;
    }
    text.remove_suffix(kReplacementCharacter.size());
  }
  return text.size();
}

// `from` moved up to the next beginning of a character in `text`.
size_t NextBoundary(std::string_view text, size_t from) {
  while (from < text.size() && !IsUtf8Boundary(text[from])) ++from;
  return from;
}

}  // namespace

absl::StatusOr<std::string> StreamDecoder::Append(
    absl::Span<const TokenId> ids) {
  std::string out;
  for (const TokenId id : ids) QUIRE_RETURN_IF_ERROR(AppendOne(id, &out));
  return out;
}

absl::Status StreamDecoder::AppendOne(TokenId id, std::string* out) {
  // Decoding leaves these out before anything else looks at them.
  if (!tokenizer_->IsKnown(id)) return absl::OkStatus();
  if (skip_special_tokens_ && tokenizer_->IsSpecial(id)) {
    return absl::OkStatus();
  }
  if (tokenizer_->adds_bytes()) {
    AppendBytes(tokenizer_->TokenBytes(id), out);
    return absl::OkStatus();
  }
  window_.push_back(id);
  QUIRE_ASSIGN_OR_RETURN(const std::string text,
                         DecodeWindow(0, window_.size()));
  const size_t settled = SettledBytes(text);
  if (settled > given_bytes_) {
    const size_t from = NextBoundary(text, given_bytes_);
    out->append(text, from, settled - from);
    given_bytes_ = settled;
    if (settled == text.size()) cuts_.push_back({window_.size(), settled});
  }
  if (window_.size() < next_shrink_) return absl::OkStatus();
  return cuts_.size() > 2 ? ShrinkAtCleanCut(text) : ShrinkInsideGarbage(text);
}

void StreamDecoder::AppendBytes(std::string_view bytes, std::string* out) {
  if (!held_.empty()) {
    held_.append(bytes);
    bytes = held_;
  }
  while (true) {
    const size_t num_valid = ValidUtf8Prefix(bytes);
    out->append(bytes.substr(0, num_valid));
    bytes.remove_prefix(num_valid);
    const size_t num_broken = bytes.empty() ? 0 : BrokenUtf8Prefix(bytes);
    if (num_broken == 0) break;
    out->append(kReplacementCharacter);
    bytes.remove_prefix(num_broken);
  }
  held_ = std::string(bytes);
}

// Keeps the tokens after the third last cut. Those between it and the second
// last gave text of their own, so they take whatever a decoder does to the
// beginning of a text, and what comes after them must decode as before.
absl::Status StreamDecoder::ShrinkAtCleanCut(const std::string& text) {
  const CleanCut begin = cuts_[cuts_.size() - 3];
  const CleanCut check = cuts_[cuts_.size() - 2];
  QUIRE_ASSIGN_OR_RETURN(const std::string shorter,
                         DecodeWindow(begin.num_ids, window_.size()));
  const std::string_view tail = std::string_view(text).substr(check.text_bytes);
  if (shorter.size() < tail.size() ||
      std::string_view(shorter).substr(shorter.size() - tail.size()) != tail) {
    next_shrink_ *= 2;  // a decoder that looks further back: try again later
    return absl::OkStatus();
  }
  // Places in the old text, counted from its end, are the same in the new.
  const size_t lost = text.size() - shorter.size();
  window_.erase(window_.begin(), window_.begin() + begin.num_ids);
  cuts_.erase(cuts_.begin(), cuts_.end() - 2);
  for (CleanCut& cut : cuts_) {
    cut.num_ids -= begin.num_ids;
    cut.text_bytes -= lost;
  }
  given_bytes_ -= lost;
  next_shrink_ = std::max(kShrinkAt, 2 * window_.size());
  return absl::OkStatus();
}

// A model that writes bytes which are no text offers no clean cut. But a
// decoder of UTF-8 that starts anywhere agrees with one that started earlier
// after three bytes: the first byte that begins a character, or the third that
// continues one, puts both at the beginning of a character.
absl::Status StreamDecoder::ShrinkInsideGarbage(const std::string& text) {
  const size_t size = window_.size();
  const size_t begin = size - size / 2;
  const size_t check = size - size / 4;
  QUIRE_ASSIGN_OR_RETURN(const std::string before, DecodeWindow(0, check));
  QUIRE_ASSIGN_OR_RETURN(const std::string head, DecodeWindow(begin, check));
  QUIRE_ASSIGN_OR_RETURN(const std::string shorter, DecodeWindow(begin, size));
  // Four characters: the first may be dropped for beginning a text.
  constexpr size_t kSynchronized = 4 * 4;
  const bool same =
      head.size() >= kSynchronized && text.size() >= before.size() &&
      shorter.size() >= head.size() &&
      text.size() - before.size() == shorter.size() - head.size() &&
      text.substr(before.size()) == shorter.substr(head.size()) &&
      given_bytes_ >= text.size() - shorter.size();
  if (!same) {
    next_shrink_ *= 2;
    return absl::OkStatus();
  }
  given_bytes_ -= text.size() - shorter.size();
  window_.erase(window_.begin(), window_.begin() + begin);
  cuts_.clear();
  next_shrink_ = std::max(kShrinkAt, 2 * window_.size());
  return absl::OkStatus();
}

absl::StatusOr<std::string> StreamDecoder::Flush() {
  if (tokenizer_->adds_bytes()) {
    const bool holds = !held_.empty();
    held_.clear();
    return std::string(holds ? kReplacementCharacter : "");
  }
  QUIRE_ASSIGN_OR_RETURN(const std::string text,
                         DecodeWindow(0, window_.size()));
  const size_t from = NextBoundary(text, given_bytes_);
  std::string out = from < text.size() ? text.substr(from) : "";
  given_bytes_ = std::max(given_bytes_, text.size());
  return out;
}

absl::StatusOr<std::string> StreamDecoder::DecodeWindow(size_t begin,
                                                        size_t end) const {
  return tokenizer_->Decode(
      absl::MakeConstSpan(window_).subspan(begin, end - begin),
      skip_special_tokens_);
}

}  // namespace quire
