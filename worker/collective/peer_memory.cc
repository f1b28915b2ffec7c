// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/peer_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "worker/collective/machine.h"
#include "worker/collective/peer_watch.h"

namespace quire {
namespace {

// How a peer finds an inbox: by handle, or, in the same process, by address.
struct InboxNote {
  cudaIpcMemHandle_t handle;
  void* address;
};

std::string CardKey(int32_t rank) { return absl::StrCat("peer/card/", rank); }
std::string InboxKey(int32_t rank) { return absl::StrCat("peer/inbox/", rank); }

template <typename T>
std::string ToBytes(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
absl::StatusOr<T> FromBytes(const std::string& bytes) {
  if (bytes.size() != sizeof(T)) {
    return absl::InternalError(absl::StrCat("a peer's note of ", bytes.size(),
                                            " bytes, not of ", sizeof(T)));
  }
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// Puts this rank's value and waits for everybody's.
absl::StatusOr<std::vector<std::string>> PutAndGet(
    const PeerMemoryOptions& options, KeyBoard* board,
    std::string (*key_of)(int32_t), const std::string& value) {
  QUIRE_RETURN_IF_ERROR(board->Put(key_of(options.rank), value));
  std::vector<std::string> keys;
  for (int32_t rank = 0; rank < options.world_size; ++rank) {
    keys.push_back(key_of(rank));
  }
  auto values = board->Get(keys, options.connect_timeout);
  if (absl::IsDeadlineExceeded(values.status())) {
    return absl::UnavailableError(
        absl::StrCat("rank ", options.rank, " of ", options.world_size,
                     ": a peer did not join within ",
                     absl::FormatDuration(options.connect_timeout)));
  }
  return values;
}

bool IsSame(const char* a, const char* b) { return std::strcmp(a, b) == 0; }

// What keeps two GPUs of one machine from reaching each other's memory, or OK.
absl::Status CheckReach(int device, const PeerCard& card, int* peer_device) {
  if (cudaDeviceGetByPCIBusId(peer_device, card.pci_bus_id) != cudaSuccess) {
    cudaGetLastError();
    return absl::FailedPreconditionError(
        absl::StrCat("this process does not see the GPU at ", card.pci_bus_id,
                     " (CUDA_VISIBLE_DEVICES)"));
  }
  int can_access = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceCanAccessPeer(&can_access, device, *peer_device),
      "asking for peer access");
  if (can_access != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("GPU ", device, " does not reach the memory of the one at ",
                   card.pci_bus_id));
}

std::string LinkTo(const PeerMemoryOptions& options, const PeerCard& own,
                   const PeerCard& peer) {
  if (!IsSame(own.machine, peer.machine)) return "network";
  int device = 0, is_native = 0;
  if (!CheckReach(options.device, peer, &device).ok()) return "host memory";
  // PCIe has no atomics between devices.
  cudaDeviceGetP2PAttribute(&is_native, cudaDevP2PAttrNativeAtomicSupported,
                            options.device, device);
  return is_native != 0 ? "NVLink" : "PCIe";
}

}  // namespace

// In host memory, a cache line each.
struct PeerMemory::HostWords {
  alignas(64) uint32_t abort;
  alignas(64) uint32_t outcome;
};

absl::StatusOr<std::vector<PeerCard>> ExchangeCards(
    const PeerMemoryOptions& options, KeyBoard* board) {
  PeerCard card;
  card.pid = getpid();
  const auto write = [](const std::string& text, auto& to) {
    std::strncpy(to, text.c_str(), sizeof(to) - 1);
  };
  write(ThisPidNamespace(), card.pid_namespace);
  write(ThisMachine(), card.machine);
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetPCIBusId(card.pci_bus_id, sizeof(card.pci_bus_id),
                            options.device),
      "asking where the GPU is");
  QUIRE_ASSIGN_OR_RETURN(const auto values,
                         PutAndGet(options, board, CardKey, ToBytes(card)));
  std::vector<PeerCard> cards;
  for (const std::string& value : values) {
    QUIRE_ASSIGN_OR_RETURN(cards.emplace_back(), FromBytes<PeerCard>(value));
  }
  return cards;
}

std::vector<std::string> LinksOf(const PeerMemoryOptions& options,
                                 absl::Span<const PeerCard> cards) {
  std::vector<std::string> links(cards.size());
  for (int32_t peer = 0; peer < options.world_size; ++peer) {
    if (peer == options.rank) continue;
    links[peer] = LinkTo(options, cards[options.rank], cards[peer]);
  }
  return links;
}

absl::Status PeerMemory::Allocate() {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device),
                             "choosing the GPU");
  // A whole number of the driver's own pages, so that a handle is of this
  // allocation alone.
  static_assert(kInboxBytes % (2 << 20) == 0);
  QUIRE_ASSIGN_OR_RETURN(inbox_, AllocateCuda(kInboxBytes));
  QUIRE_ASSIGN_OR_RETURN(state_, AllocateCuda(sizeof(PeerState)));
  QUIRE_ASSIGN_OR_RETURN(words_, AllocatePinned(sizeof(HostWords)));
  *words_->as<HostWords>() = {};
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchEmptyInboxCuda(inbox_->data(), nullptr),
                             "emptying an inbox");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaMemset(state_->data(), 0, sizeof(PeerState)),
                             "emptying an inbox");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "emptying an inbox");
  group_.rank = options_.rank;
  group_.world_size = options_.world_size;
  group_.inboxes[options_.rank] = inbox_->as<char>();
  group_.state = state_->as<PeerState>();
  group_.abort = &words_->as<HostWords>()->abort;
  group_.outcome = &words_->as<HostWords>()->outcome;
  group_.timeout_ns = absl::ToInt64Nanoseconds(options_.operation_timeout);
  return CudaStatus(
      cudaDeviceGetAttribute(&group_.num_sms, cudaDevAttrMultiProcessorCount,
                             options_.device),
      "asking the GPU");
}

absl::Status PeerMemory::OpenPeer(int32_t peer, const PeerCard& card,
                                  bool is_here, const std::string& note) {
  int device = 0;
  QUIRE_RETURN_IF_ERROR(CheckReach(options_.device, card, &device));
  QUIRE_ASSIGN_OR_RETURN(const InboxNote inbox, FromBytes<InboxNote>(note));
  if (is_here) {
    const cudaError_t error = cudaDeviceEnablePeerAccess(device, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      cudaGetLastError();
    } else {
      QUIRE_RETURN_IF_CUDA_ERROR(error, "enabling peer access");
    }
    group_.inboxes[peer] = static_cast<char*>(inbox.address);
    return absl::OkStatus();
  }
  void* address = nullptr;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaIpcOpenMemHandle(&address, inbox.handle,
                           cudaIpcMemLazyEnablePeerAccess),
      "opening a peer's memory");
  opened_.push_back(address);
  group_.inboxes[peer] = static_cast<char*>(address);
  return absl::OkStatus();
}

absl::Status PeerMemory::Open(absl::Span<const PeerCard> cards,
                              KeyBoard* board) {
  InboxNote note = {};
  note.address = inbox_->data();
  const absl::Status exported = CudaStatus(
      cudaIpcGetMemHandle(&note.handle, inbox_->data()), "exporting memory");
  if (!exported.ok()) cudaGetLastError();
  QUIRE_ASSIGN_OR_RETURN(const auto notes,
                         PutAndGet(options_, board, InboxKey, ToBytes(note)));
  const PeerCard& own = cards[options_.rank];
  for (int32_t peer = 0; peer < options_.world_size; ++peer) {
    if (peer == options_.rank) continue;
    const bool is_here = cards[peer].pid == own.pid &&
                         IsSame(cards[peer].pid_namespace, own.pid_namespace);
    if (!is_here) QUIRE_RETURN_IF_ERROR(exported);
    QUIRE_RETURN_IF_ERROR(OpenPeer(peer, cards[peer], is_here, notes[peer]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PeerMemory>> PeerMemory::Connect(
    const PeerMemoryOptions& options, absl::Span<const PeerCard> cards,
    KeyBoard* board, Collective* host) {
  // All ranks see the same cards.
  for (const PeerCard& card : cards) {
    if (IsSame(card.machine, cards[0].machine)) continue;
    return absl::FailedPreconditionError("the ranks are on several machines");
  }
  if (options.world_size != 2 && options.world_size != 4 &&
      options.world_size != 8) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.world_size, " ranks; 2, 4 or 8 can"));
  }
  auto memory = absl::WrapUnique(new PeerMemory(options));
  absl::Status own = memory->Allocate();
  // Whoever has no memory has nothing to note, and the others need not wait.
  std::vector<char> is_ready(options.world_size);
  const auto agree = [&]() -> absl::Status {
    is_ready[options.rank] = own.ok() ? 1 : 0;
    QUIRE_RETURN_IF_ERROR(
        host->AllGather(&is_ready[options.rank], is_ready.data(), /*bytes=*/1));
    if (!own.ok()) return absl::FailedPreconditionError(own.message());
    const auto it = std::find(is_ready.begin(), is_ready.end(), 0);
    if (it == is_ready.end()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("rank ", it - is_ready.begin(), " says that it cannot"));
  };
  QUIRE_RETURN_IF_ERROR(agree());
  own = memory->Open(cards, board);
  cudaGetLastError();  // not the next operation's
  QUIRE_RETURN_IF_ERROR(agree());
  return memory;
}

PeerMemory::~PeerMemory() {
  cudaSetDevice(options_.device);
  for (void* address : opened_) cudaIpcCloseMemHandle(address);
}

void PeerMemory::Abort() {
  __atomic_store_n(&words_->as<HostWords>()->abort, 1, __ATOMIC_RELEASE);
}

uint32_t PeerMemory::outcome() const {
  return __atomic_load_n(&words_->as<HostWords>()->outcome, __ATOMIC_ACQUIRE);
}

}  // namespace quire
