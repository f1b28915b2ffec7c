// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/collective/gloo.h"
#include "worker/collective/nccl.h"
#include "worker/collective/peer.h"
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

absl::Status CheckDeviceMemory(const CollectiveOptions& options,
                               const char* name) {
  if (options.gpu.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--collective=", name, " joins GPUs; it needs --device=cuda"));
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

// What ranks tell each other beside sums is in host memory.
absl::StatusOr<std::unique_ptr<Collective>> MakeHost(
    const CollectiveOptions& options, KeyBoard* board) {
  CollectiveOptions beside = options;
  beside.gpu.reset();
  return options.num_local_ranks == options.world_size
             ? MakeShm(beside, board)
             : MakeGloo(beside, board);
}

absl::StatusOr<std::unique_ptr<Collective>> MakeNccl(
    const CollectiveOptions& options, KeyBoard* board) {
  QUIRE_RETURN_IF_ERROR(CheckDeviceMemory(options, "nccl"));
  QUIRE_ASSIGN_OR_RETURN(auto host, MakeHost(options, board));
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

// Kernels of our own; beside them NCCL, or nothing but the host.
absl::StatusOr<std::unique_ptr<Collective>> MakePeers(
    const CollectiveOptions& options, KeyBoard* board, bool has_library) {
  auto watch = std::make_unique<PeerWatch>(options.group_end);
  CollectiveOptions watched = options;
  watched.group_end = watch->end();
  QUIRE_ASSIGN_OR_RETURN(auto beside, has_library ? MakeNccl(watched, board)
                                                  : MakeHost(watched, board));
  PeerOptions peer;
  peer.rank = options.rank;
  peer.world_size = options.world_size;
  peer.device = *options.gpu;
  peer.stream = options.stream;
  peer.is_deterministic = options.is_deterministic;
  peer.connect_timeout = options.connect_timeout;
  peer.operation_timeout = options.operation_timeout;
  peer.is_required = !has_library;
  peer.has_library = has_library;
  return ConnectPeer(peer, board, std::move(watch), std::move(beside));
}

absl::StatusOr<std::unique_ptr<Collective>> MakePeer(
    const CollectiveOptions& options, KeyBoard* board) {
  QUIRE_RETURN_IF_ERROR(CheckDeviceMemory(options, "peer"));
  return MakePeers(options, board, /*has_library=*/false);
}

absl::StatusOr<std::unique_ptr<Collective>> MakeAuto(
    const CollectiveOptions& options, KeyBoard* board) {
  return options.gpu.has_value()
             ? MakePeers(options, board, /*has_library=*/true)
             : MakeHost(options, board);
}

struct Entry {
  const char* name;
  Factory make;
};

constexpr Entry kEntries[] = {
    // For GPUs peer where it can, with nccl beside it; else shm if all ranks
    // are on one machine, else gloo.
    {"auto", MakeAuto}, {"gloo", MakeGloo}, {"nccl", MakeNccl},
    {"peer", MakePeer}, {"shm", MakeShm},
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
