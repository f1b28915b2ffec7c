// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/explain_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/inference.pb.h"
#include "tools/cli/text_table.h"

namespace quire {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string Milliseconds(int64_t ns) {
  return absl::StrFormat("%.3f", static_cast<double>(ns) / 1e6);
}

std::string Named(const std::string& request_id) {
  return request_id.empty() ? "another request" : request_id;
}

std::string Reason(v1::WaitReason reason) {
  switch (reason) {
    case v1::WAIT_REASON_NEXT_STEP:
      return "next step";
    case v1::WAIT_REASON_NEEDS_BLOCKS:
      return "needs blocks";
    case v1::WAIT_REASON_TOKEN_BUDGET:
      return "token budget";
    case v1::WAIT_REASON_NO_SLOT:
      return "no slot";
    case v1::WAIT_REASON_HEAD_RESERVED:
      return "head reserved";
    case v1::WAIT_REASON_BEHIND:
      return "behind others";
    case v1::WAIT_REASON_TENANT_QUOTA:
      return "tenant quota";
    case v1::WAIT_REASON_TENANT_TURN:
      return "tenant's turn";
    case v1::WAIT_REASON_PREEMPTED_BY:
      return "preempted";
    case v1::WAIT_REASON_RESULTS_IN_FLIGHT:
      return "results in flight";
    case v1::WAIT_REASON_BATCH_RUNS:
      return "batch runs";
    case v1::WAIT_REASON_NO_WORKER_GROUP:
      return "no workers";
    case v1::WAIT_REASON_RESYNC:
      return "resync";
    case v1::WAIT_REASON_OTHER_ALONE:
      return "another runs alone";
    default:
      return absl::StrCat("reason ", static_cast<int>(reason));
  }
}

// What the reason's numbers say; empty if it has none.
std::string Detail(const v1::WaitInterval& interval) {
  const int32_t needed = interval.num_needed();
  const int32_t available = interval.num_available();
  switch (interval.reason()) {
    case v1::WAIT_REASON_NEEDS_BLOCKS:
      return absl::StrCat("needs ", needed, " KV blocks, ", available, " free");
    case v1::WAIT_REASON_TOKEN_BUDGET:
      return absl::StrCat(needed, " tokens to compute");
    case v1::WAIT_REASON_NO_SLOT:
      return absl::StrCat("needs ", needed, " slots, ", available, " free");
    case v1::WAIT_REASON_HEAD_RESERVED:
      return absl::StrCat(needed, " KV blocks are kept for ",
                          Named(interval.other()));
    case v1::WAIT_REASON_BEHIND:
      return absl::StrCat(needed, " before it");
    case v1::WAIT_REASON_TENANT_QUOTA:
      return absl::StrCat("needs ", needed, " KV blocks, its tenant may take ",
                          available);
    case v1::WAIT_REASON_PREEMPTED_BY:
      return interval.other().empty() ? ""
                                      : absl::StrCat("by ", interval.other());
    default:
      return "";
  }
}

std::string IntervalTable(const v1::ExplainResponse& explained) {
  Rows rows;
  for (const v1::WaitInterval& interval : explained.intervals()) {
    rows.push_back({Milliseconds(interval.from_ns()),
                    Milliseconds(interval.to_ns()),
                    Milliseconds(interval.to_ns() - interval.from_ns()),
                    Reason(interval.reason()), Detail(interval)});
  }
  return FormatTable({"FROM_MS", "TO_MS", "MS", "REASON", "DETAIL"}, rows);
}

std::string ShareTable(
    const google::protobuf::RepeatedPtrField<v1::WaitShare>& shares) {
  std::vector<v1::WaitShare> sorted(shares.begin(), shares.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const v1::WaitShare& a, const v1::WaitShare& b) {
                     return a.ns() > b.ns();
                   });
  double sum = 0;
  for (const v1::WaitShare& share : sorted) {
    sum += static_cast<double>(share.ns());
  }
  Rows rows;
  for (const v1::WaitShare& share : sorted) {
    rows.push_back(
        {absl::StrFormat("%.1f", 100 * static_cast<double>(share.ns()) / sum),
         Milliseconds(share.ns()), Reason(share.reason())});
  }
  return FormatTable({"SHARE%", "MS", "REASON"}, rows);
}

const char* StateText(v1::ExplainResponse::State state) {
  switch (state) {
    case v1::ExplainResponse::STATE_WAITING:
      return "waits";
    case v1::ExplainResponse::STATE_RUNNING:
      return "runs";
    default:
      return "has ended";
  }
}

}  // namespace

std::string ExplainText(const v1::ExplainResponse& explained) {
  std::string text = absl::StrCat(
      "request ", explained.request_id(), " ", StateText(explained.state()),
      ": waited ", Milliseconds(explained.waited_ns()), " of ",
      Milliseconds(explained.elapsed_ns()), " ms, preempted ",
      explained.num_preemptions(),
      explained.num_preemptions() == 1 ? " time\n" : " times\n");
  if (explained.waited_ns() == 0) return text;
  absl::StrAppend(&text, "\n", IntervalTable(explained));
  if (explained.unlisted_ns() > 0) {
    absl::StrAppend(&text, "and ", Milliseconds(explained.unlisted_ns()),
                    " ms before these\n");
  }
  absl::StrAppend(&text, "\n", ShareTable(explained.totals()));
  if (explained.behind_causes_size() > 0) {
    absl::StrAppend(&text, "\nwhat those before it waited for:\n",
                    ShareTable(explained.behind_causes()));
  }
  return text;
}

}  // namespace quire
