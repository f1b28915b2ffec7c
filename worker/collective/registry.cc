// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/collective/gloo.h"
#include "worker/collective/nccl.h"
#include "worker/collective/shm.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

using Factory = absl::StatusOr<std::unique_ptr<Collective>> (*)(
    const CollectiveOptions&, KeyBoard*);

absl::Status CheckHostMemory(const CollectiveOptions& options,
                             const char* name) {
  if (!options.gpu.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--collective=", name,
                   " adds up in host memory, not on GPUs; use "
                   "--collective=nccl or auto"));
}

absl::StatusOr<std::unique_ptr<Collective>> MakeGloo(
    const CollectiveOptions& options, KeyBoard* board) {
  QUIRE_RETURN_IF_ERROR(CheckHostMemory(options, "gloo"));
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
  QUIRE_RETURN_IF_ERROR(CheckHostMemory(options, "shm"));
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

absl::StatusOr<std::unique_ptr<Collective>> MakeNccl(
    const CollectiveOptions& options, KeyBoard* board);

absl::StatusOr<std::unique_ptr<Collective>> MakeAuto(
    const CollectiveOptions& options, KeyBoard* board) {
  if (options.gpu.has_value()) return MakeNccl(options, board);
  return options.num_local_ranks == options.world_size
             ? MakeShm(options, board)
             : MakeGloo(options, board);
}

absl::StatusOr<std::unique_ptr<Collective>> MakeNccl(
    const CollectiveOptions& options, KeyBoard* board) {
  if (!options.gpu.has_value()) {
    return absl::InvalidArgumentError(
        "--collective=nccl joins GPUs; it needs --device=cuda");
  }
  // What ranks tell each other beside sums is in host memory.
  CollectiveOptions beside = options;
  beside.gpu.reset();
  QUIRE_ASSIGN_OR_RETURN(auto host, MakeAuto(beside, board));
  NcclOptions nccl;
  nccl.rank = options.rank;
  nccl.world_size = options.world_size;
  nccl.device = *options.gpu;
  nccl.stream = options.stream;
  nccl.is_deterministic = options.is_deterministic;
  nccl.connect_timeout = options.connect_timeout;
  nccl.operation_timeout = options.operation_timeout;
  nccl.group_end = options.group_end;
  return ConnectNccl(nccl, board, std::move(host));
}

struct Entry {
  const char* name;
  Factory make;
};

constexpr Entry kEntries[] = {
    // nccl for GPUs; else shm if all ranks are on one machine, else gloo.
    {"auto", MakeAuto},
    {"gloo", MakeGloo},
    {"nccl", MakeNccl},
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
