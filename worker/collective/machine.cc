// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/machine.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {
namespace {

std::string KeyOf(int32_t rank) { return absl::StrCat("machine/", rank); }

}  // namespace

std::string ThisMachine() {
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  // Containers of one machine share the boot, yet not the memory limit.
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, "/", boot_id);
}

absl::StatusOr<LocalSeat> FindLocalSeat(KeyBoard* board, int32_t rank,
                                        int32_t world_size,
                                        const std::string& machine,
                                        absl::Duration timeout) {
  if (world_size == 1) return LocalSeat();
  QUIRE_RETURN_IF_ERROR(board->Put(KeyOf(rank), machine));
  std::vector<std::string> keys;
  for (int32_t peer = 0; peer < world_size; ++peer) {
    keys.push_back(KeyOf(peer));
  }
  QUIRE_ASSIGN_OR_RETURN(const auto machines, board->Get(keys, timeout));
  LocalSeat seat;
  seat.index = static_cast<int32_t>(
      std::count(machines.begin(), machines.begin() + rank, machine));
  seat.num_ranks = static_cast<int32_t>(
      std::count(machines.begin(), machines.end(), machine));
  return seat;
}

}  // namespace quire
