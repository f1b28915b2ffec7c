// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/verify.h"

#include <algorithm>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace quire {
namespace {

constexpr size_t kMaxDetails = 5;

std::string TokenAt(const std::vector<uint32_t>& token_ids, size_t offset) {
  if (offset >= token_ids.size()) return "the end";
  return absl::StrCat("token ", token_ids[offset]);
}

std::string Difference(const RequestRecord& record, size_t index,
                       const std::vector<uint32_t>& first,
                       const std::vector<uint32_t>& second) {
  const auto [one, other] =
      std::mismatch(first.begin(), first.end(), second.begin(), second.end());
  const size_t offset = one - first.begin();
  return absl::StrCat(
      "request ", record.idx,
      record.sequences.size() > 1 ? absl::StrCat(" sequence ", index) : "",
      " differs at output offset ", offset, ": ", TokenAt(first, offset),
      " under load, ", TokenAt(second, offset), " alone");
}

// Of the index-th sequence; empty if it was never heard of.
const std::vector<uint32_t>& TokensOf(const RequestRecord& record,
                                      size_t index) {
  static const auto* none = new std::vector<uint32_t>;
  return index < record.sequences.size() ? record.sequences[index].token_ids
                                         : *none;
}

}  // namespace

VerifyResult CompareRuns(const std::vector<RequestRecord>& first,
                         const std::vector<RequestRecord>& second) {
  std::unordered_map<int64_t, const RequestRecord*> by_idx;
  for (const RequestRecord& record : second) by_idx[record.idx] = &record;
  VerifyResult result;
  const auto add_detail = [&result](std::string detail) {
    if (result.details.size() < kMaxDetails) {
      result.details.push_back(std::move(detail));
    }
  };
  for (const RequestRecord& record : first) {
    if (record.outcome != RequestOutcome::kCompleted) continue;
    const auto it = by_idx.find(record.idx);
    if (it == by_idx.end() ||
        it->second->outcome != RequestOutcome::kCompleted) {
      ++result.num_unrepeated;
      add_detail(absl::StrCat(
          "request ", record.idx, " could not be repeated: ",
          it == by_idx.end() ? "it was not sent" : it->second->error));
      continue;
    }
    const RequestRecord& other = *it->second;
    const size_t num_sequences = std::max<size_t>(
        1, std::max(record.sequences.size(), other.sequences.size()));
    for (size_t index = 0; index < num_sequences; ++index) {
      const std::vector<uint32_t>& one = TokensOf(record, index);
      const std::vector<uint32_t>& same = TokensOf(other, index);
      ++result.num_compared;
      if (one == same) continue;
      ++result.num_differing;
      add_detail(Difference(record, index, one, same));
    }
  }
  return result;
}

std::string VerifyText(const VerifyResult& result) {
  std::string text = absl::StrFormat(
      "%-40s %-10d\n%-40s %-10d\n", "Compared streams:", result.num_compared,
      "Differing streams:", result.num_differing);
  if (result.num_unrepeated > 0) {
    absl::StrAppendFormat(&text, "%-40s %-10d\n",
                          "Streams not repeated:", result.num_unrepeated);
  }
  for (const std::string& detail : result.details) {
    absl::StrAppend(&text, "  ", detail, "\n");
  }
  return text;
}

}  // namespace quire
