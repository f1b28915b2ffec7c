// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/verify.h"

#include <algorithm>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace quire {
namespace {

constexpr size_t kMaxDetails = 5;

std::string TokenAt(const RequestRecord& record, size_t offset) {
  if (offset >= record.token_ids.size()) return "the end";
  return absl::StrCat("token ", record.token_ids[offset]);
}

std::string Difference(const RequestRecord& first,
                       const RequestRecord& second) {
  const auto [one, other] =
      std::mismatch(first.token_ids.begin(), first.token_ids.end(),
                    second.token_ids.begin(), second.token_ids.end());
  const size_t offset = one - first.token_ids.begin();
  return absl::StrCat("request ", first.idx, " differs at output offset ",
                      offset, ": ", TokenAt(first, offset), " under load, ",
                      TokenAt(second, offset), " alone");
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
    ++result.num_compared;
    if (record.token_ids != it->second->token_ids) {
      ++result.num_differing;
      add_detail(Difference(record, *it->second));
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
