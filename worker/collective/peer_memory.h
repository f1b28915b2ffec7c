// SPDX-License-Identifier: Apache-2.0
//
// The inboxes (kernels/cuda/all_reduce.h) of ranks whose GPUs reach each other:
// allocated here, opened there by CUDA IPC.
#ifndef WORKER_COLLECTIVE_PEER_MEMORY_H_
#define WORKER_COLLECTIVE_PEER_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/all_reduce.h"
#include "worker/collective/collective.h"
#include "worker/collective/key_board.h"

namespace quire {

struct PeerMemoryOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t device = 0;  // this rank's GPU
  absl::Duration connect_timeout = absl::Seconds(60);
  // That a kernel waits for a peer at most.
  absl::Duration operation_timeout = absl::Seconds(60);
};

// What a rank says of itself before it knows its peers.
struct PeerCard {
  int64_t pid = 0;
  char pid_namespace[64] = {};
  char machine[320] = {};
  char pci_bus_id[32] = {};
};

// Every rank calls it, once per board. Unavailable if a peer does not.
absl::StatusOr<std::vector<PeerCard>> ExchangeCards(
    const PeerMemoryOptions& options, KeyBoard* board);

// What connects this rank's GPU with that of a peer: "NVLink", "PCIe", "host
// memory" or "network"; empty for itself.
std::vector<std::string> LinksOf(const PeerMemoryOptions& options,
                                 absl::Span<const PeerCard> cards);

// Thread-compatible.
class PeerMemory {
 public:
  // Every rank calls it; `host` gathers between them. Either all ranks succeed
  // or none does: FailedPrecondition says why this one cannot, or who cannot.
  static absl::StatusOr<std::unique_ptr<PeerMemory>> Connect(
      const PeerMemoryOptions& options, absl::Span<const PeerCard> cards,
      KeyBoard* board, Collective* host);
  // Work of this rank that uses the memory is done or does not matter.
  ~PeerMemory();

  const PeerGroup& group() const { return group_; }

  // Ends all waits of kernels, soon. Any thread may call it.
  void Abort();
  // How the kernels that have run ended: a PeerOutcome.
  uint32_t outcome() const;

 private:
  struct HostWords;

  explicit PeerMemory(const PeerMemoryOptions& options) : options_(options) {}

  absl::Status Allocate();
  absl::Status Open(absl::Span<const PeerCard> cards, KeyBoard* board);
  absl::Status OpenPeer(int32_t peer, const PeerCard& card, bool is_here,
                        const std::string& note);

  const PeerMemoryOptions options_;
  PeerGroup group_ = {};
  std::unique_ptr<DeviceBuffer> inbox_, state_, words_;
  std::vector<void*> opened_;  // by IPC
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_PEER_MEMORY_H_
