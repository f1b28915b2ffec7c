// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/status_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "proto/cluster.pb.h"
#include "tools/cli/progress.h"
#include "tools/cli/text_table.h"

namespace quire {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string StateName(v1::GroupState state) {
  const std::string name = v1::GroupState_Name(state);
  return absl::AsciiStrToLower(absl::StripPrefix(name, "GROUP_STATE_"));
}

std::string GroupTable(const v1::StatusResponse& status) {
  Rows rows;
  for (const v1::Group& group : status.groups()) {
    // Blocks that sequences hold: neither free nor merely cached.
    const int64_t num_held = int64_t{group.num_blocks()} -
                             group.num_free_blocks() -
                             group.num_cached_blocks();
    const double used =
        group.num_blocks() == 0 ? 0 : 100.0 * num_held / group.num_blocks();
    rows.push_back(
        {absl::StrCat(group.group()), absl::StrCat(group.group_epoch()),
         StateName(group.state()), absl::StrCat(group.num_running_requests()),
         absl::StrCat(group.num_waiting_requests()),
         absl::StrCat(group.num_blocks()), absl::StrCat(num_held),
         absl::StrCat(group.num_cached_blocks()),
         absl::StrCat(group.num_free_blocks()), absl::StrFormat("%.1f", used),
         absl::StrCat(group.last_step_id()), group.detail()});
  }
  return FormatTable({"GROUP", "EPOCH", "STATE", "RUNNING", "WAITING", "BLOCKS",
                      "HELD", "CACHED", "FREE", "USED%", "STEP", "DETAIL"},
                     rows);
}

std::string Loaded(const v1::Rank& rank) {
  if (rank.load_phase().empty() || rank.load_phase() == "done" ||
      rank.load_bytes_total() == 0) {
    return rank.load_phase().empty() ? "-" : rank.load_phase();
  }
  return absl::StrFormat(
      "%s %.0f%%", rank.load_phase(),
      100.0 * rank.load_bytes_done() / rank.load_bytes_total());
}

std::string RankTable(const v1::StatusResponse& status) {
  Rows rows;
  for (const v1::Group& group : status.groups()) {
    for (const v1::Rank& rank : group.ranks()) {
      rows.push_back({absl::StrCat(group.group()), absl::StrCat(rank.rank()),
                      rank.address(), rank.device(), absl::StrCat(rank.pid()),
                      absl::StrFormat("%.1fs ago", rank.heartbeat_age_s()),
                      Loaded(rank), absl::StrCat(rank.last_step_id())});
    }
  }
  return FormatTable({"GROUP", "RANK", "ADDRESS", "DEVICE", "PID", "HEARTBEAT",
                      "LOAD", "STEP"},
                     rows);
}

// "1: NVLink, 2: NVLink".
std::string Links(const v1::Rank& rank) {
  std::string text;
  for (int peer = 0; peer < rank.links_size(); ++peer) {
    if (rank.links(peer).empty()) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", peer, ": ",
                    rank.links(peer));
  }
  return text.empty() ? "-" : text;
}

// "8 KB 2.3, 4 MB 14.2".
std::string Sums(const v1::Rank& rank) {
  std::string text;
  const int num_times =
      std::min(rank.all_reduce_bytes_size(), rank.all_reduce_us_size());
  for (int i = 0; i < num_times; ++i) {
    const uint64_t kb = rank.all_reduce_bytes(i) >> 10;
    absl::StrAppend(&text, text.empty() ? "" : ", ", kb >= 1024 ? kb >> 10 : kb,
                    kb >= 1024 ? " MB " : " KB ",
                    absl::StrFormat("%.1f", rank.all_reduce_us(i)));
  }
  return text.empty() ? "-" : text;
}

// Nothing where no group has ranks to connect.
std::string LinkTable(const v1::StatusResponse& status) {
  Rows rows;
  for (const v1::Group& group : status.groups()) {
    for (const v1::Rank& rank : group.ranks()) {
      if (rank.collective().empty()) continue;
      rows.push_back({absl::StrCat(group.group()), absl::StrCat(rank.rank()),
                      rank.collective(), Links(rank), Sums(rank)});
    }
  }
  if (rows.empty()) return "";
  return "\n" +
         FormatTable({"GROUP", "RANK", "COLLECTIVE", "LINKS", "ALL-REDUCE US"},
                     rows);
}

}  // namespace

std::string StatusText(const v1::StatusResponse& status) {
  std::string text = absl::StrCat(
      "Quire ", status.version(), " serves ", status.model(), " at ",
      status.public_address(), status.draining() ? " (draining)" : "", ", up ",
      ShortDuration(absl::Seconds(status.uptime_s())), ", coordinator epoch ",
      status.coordinator_epoch(), "\n");
  absl::StrAppend(&text, "requests: ", status.num_running_requests(),
                  " running, ", status.num_waiting_requests(), " waiting, ",
                  status.num_finished_requests(), " finished; ",
                  status.num_preemptions(), " preemptions\n\n");
  return absl::StrCat(text, GroupTable(status), "\n", RankTable(status),
                      LinkTable(status));
}

}  // namespace quire
