// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/registry.h"

#include "absl/strings/str_cat.h"
#include "worker/collective/gloo.h"
#include "worker/collective/shm.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

using Factory = absl::StatusOr<std::unique_ptr<Collective>> (*)(
    const CollectiveOptions&, KeyBoard*);

absl::StatusOr<std::unique_ptr<Collective>> MakeGloo(
    const CollectiveOptions& options, KeyBoard* board) {
  GlooOptions gloo;
  gloo.rank = options.rank;
  gloo.world_size = options.world_size;
  gloo.host = options.host;
  gloo.connect_timeout = options.connect_timeout;
  gloo.operation_timeout = options.operation_timeout;
  return ConnectGloo(gloo, board);
}

absl::StatusOr<std::unique_ptr<Collective>> MakeShm(
    const CollectiveOptions& options, KeyBoard* board) {
  if (options.num_local_ranks != options.world_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "only ", options.num_local_ranks, " of ", options.world_size,
        " ranks are on this machine: shared memory cannot join them; use "
        "--collective=gloo"));
  }
  ShmOptions shm;
  shm.rank = options.rank;
  shm.world_size = options.world_size;
  shm.connect_timeout = options.connect_timeout;
  shm.operation_timeout = options.operation_timeout;
  return ConnectShm(shm, board);
}

absl::StatusOr<std::unique_ptr<Collective>> MakeAuto(
    const CollectiveOptions& options, KeyBoard* board) {
  return options.num_local_ranks == options.world_size
             ? MakeShm(options, board)
             : MakeGloo(options, board);
}

struct Entry {
  const char* name;
  Factory make;
};

constexpr Entry kEntries[] = {
    {"auto", MakeAuto},  // shm if all ranks are on one machine, else gloo
    {"gloo", MakeGloo},
    {"shm", MakeShm},
};

}  // namespace

std::string CollectiveNames() {
  std::string names;
  for (const Entry& entry : kEntries) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", entry.name);
  }
  return names;
}

absl::Status CheckCollectiveName(const std::string& name) {
  for (const Entry& entry : kEntries) {
    if (name == entry.name) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no collective is called \"", name, "\"; one of ", CollectiveNames()));
}

absl::StatusOr<std::unique_ptr<Collective>> CreateCollective(
    const std::string& name, const CollectiveOptions& options,
    KeyBoard* board) {
  for (const Entry& entry : kEntries) {
    if (name != entry.name) continue;
    if (options.world_size == 1) return std::make_unique<SoloCollective>();
    return entry.make(options, board);
  }
  return CheckCollectiveName(name);
}

}  // namespace quire
