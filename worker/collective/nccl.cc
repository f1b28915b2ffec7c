// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/nccl.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/rank_sum.h"
#include "worker/collective/nccl_library.h"

namespace quire {
namespace {

constexpr char kNoMulticast[] = "NCCL_NVLS_ENABLE";
constexpr char kInterface[] = "NCCL_SOCKET_IFNAME";
constexpr char kIdKey[] = "nccl/id";

// Between looks at whether NCCL has met an error by itself. The end of the
// group is noticed at once.
constexpr absl::Duration kWatchPeriod = absl::Milliseconds(100);
// Between looks at whether the peers have joined.
constexpr absl::Duration kJoinNap = absl::Milliseconds(1);
// For a copy of the communicator whose operations may block. Those of one that
// never does start a thread each: eager ones take 70 us instead of 10 on an
// H200's host.
constexpr absl::Duration kCopyTimeout = absl::Seconds(10);
// What ranks gather at a time when they add up by themselves, of all ranks
// together: past some MiB a longer message is no faster a byte.
constexpr int64_t kGatherBytes = 32 << 20;

ncclDataType_t NcclType(DType dtype) {
  return dtype == DType::kF32 ? ncclFloat32 : ncclBfloat16;
}

// The name of the interface with that address, or nothing.
std::string InterfaceOf(const std::string& host) {
  in_addr v4;
  in6_addr v6;
  const bool is_v4 = inet_pton(AF_INET, host.c_str(), &v4) == 1;
  const bool is_v6 = inet_pton(AF_INET6, host.c_str(), &v6) == 1;
  ifaddrs* all = nullptr;
  if ((!is_v4 && !is_v6) || getifaddrs(&all) != 0) return "";
  std::string name;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const int family = one->ifa_addr->sa_family;
    const bool is_it =
        (is_v4 && family == AF_INET &&
         std::memcmp(&reinterpret_cast<sockaddr_in*>(one->ifa_addr)->sin_addr,
                     &v4, sizeof(v4)) == 0) ||
        (is_v6 && family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<sockaddr_in6*>(one->ifa_addr)->sin6_addr,
                     &v6, sizeof(v6)) == 0);
    if (is_it) name = one->ifa_name;
  }
  freeifaddrs(all);
  return name;
}

class NcclCollective final : public Collective {
 public:
  NcclCollective(const NcclOptions& options, const NcclLibrary& nccl,
                 std::unique_ptr<Collective> host)
      : options_(options),
        nccl_(nccl),
        stream_(static_cast<cudaStream_t>(options.stream)),
        host_(std::move(host)) {}
  ~NcclCollective() override;

  // Joins the other ranks.
  absl::Status Join(const ncclUniqueId& id);

  int32_t rank() const override { return options_.rank; }
  int32_t world_size() const override { return options_.world_size; }
  std::string name() const override { return "nccl"; }

  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override;
  absl::Status EnqueueAllGather(const void* in, void* out,
                                int64_t bytes) override;
  absl::Status status() const override {
    absl::MutexLock lock(&mutex_);
    return broken_;
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    QUIRE_RETURN_IF_ERROR(status());
    return host_->AllGather(in, out, bytes);
  }
  absl::Status Barrier() override {
    QUIRE_RETURN_IF_ERROR(status());
    return host_->Barrier();
  }

 private:
  absl::Status GroupStatus() const;
  // The status of a call that has returned `result`: waits for what is still
  // in progress. REQUIRES: mutex_ is held, which is released meanwhile.
  absl::Status Settle(ncclResult_t result, const char* call,
                      absl::Duration timeout, absl::Duration nap)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StatusOf(ncclResult_t result, const char* call)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes copy_.
  absl::Status MakeCopy() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsCopyReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ncclComm_t comm() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return has_copy_ ? copy_ : comm_;
  }
  // Ends the communicator, and with it what waits for peers on the device.
  void Abort(const absl::Status& cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gathers what all ranks have, a piece at a time, and adds in rank order.
  absl::Status GatherAndAdd(char* data, int64_t num_elements, DType dtype)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();

  const NcclOptions options_;
  const NcclLibrary& nccl_;
  const cudaStream_t stream_;
  const std::unique_ptr<Collective> host_;
  std::unique_ptr<DeviceBuffer> gathered_;  // of GatherAndAdd, if it is used

  mutable absl::Mutex mutex_;
  // What joins and is watched, and never blocks.
  ncclComm_t comm_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // Its copy for operations, if all ranks have one. Written by NCCL's thread.
  ncclComm_t copy_ = nullptr;
  bool has_copy_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);

  absl::Notification leaving_;
  std::thread watcher_;  // once joined
};

NcclCollective::~NcclCollective() {
  leaving_.Notify();
  if (watcher_.joinable()) watcher_.join();
  absl::MutexLock lock(&mutex_);
  // Not ncclCommDestroy, which would wait for the peers.
  Abort(absl::CancelledError("the collective is gone"));
}

absl::Status NcclCollective::GroupStatus() const {
  return options_.group_end == nullptr ? absl::OkStatus()
                                       : options_.group_end->status();
}

void NcclCollective::Abort(const absl::Status& cause) {
  if (broken_.ok()) {
    broken_ = absl::UnavailableError(absl::StrCat(
        "rank ", rank(), " has no group any more: ", cause.message()));
  }
  if (comm_ == nullptr) return;
  // Each waits up to half a second for a thread of its own to look.
  std::thread beside;
  if (std::exchange(has_copy_, false)) {
    beside = std::thread([this] { nccl_.CommAbort(copy_); });
  }
  nccl_.CommAbort(std::exchange(comm_, nullptr));
  if (beside.joinable()) beside.join();
}

absl::Status NcclCollective::StatusOf(ncclResult_t result, const char* call) {
  if (result == ncclSuccess) return absl::OkStatus();
  const char* last = comm_ == nullptr ? nullptr : nccl_.GetLastError(comm());
  const std::string message =
      absl::StrCat("NCCL's ", call, ": ", nccl_.GetErrorString(result),
                   last == nullptr || *last == '\0' ? "" : ", ",
                   last == nullptr ? "" : last);
  const bool is_bug = result == ncclInvalidArgument ||
                      result == ncclInvalidUsage ||
                      result == ncclUnhandledCudaError;
  return is_bug ? absl::InternalError(message)
                : absl::UnavailableError(message);
}

absl::Status NcclCollective::Settle(ncclResult_t result, const char* call,
                                    absl::Duration timeout,
                                    absl::Duration nap) {
  const absl::Time end = absl::Now() + timeout;
  while (result == ncclInProgress && broken_.ok()) {
    mutex_.Unlock();
    if (nap > absl::ZeroDuration()) {
      absl::SleepFor(nap);
    } else {
      sched_yield();
    }
    mutex_.Lock();
    if (!broken_.ok()) return broken_;
    if (const absl::Status group = GroupStatus(); !group.ok()) {
      Abort(group);
      return broken_;
    }
    const ncclResult_t error = nccl_.CommGetAsyncError(comm(), &result);
    if (error != ncclSuccess) result = error;
    if (result == ncclInProgress && absl::Now() > end) {
      Abort(absl::UnavailableError(absl::StrCat(
          call, " took longer than ", absl::FormatDuration(timeout))));
      return broken_;
    }
  }
  if (!broken_.ok()) return broken_;
  const absl::Status status = StatusOf(result, call);
  if (!status.ok()) {
    Abort(status);
    broken_ = status;
  }
  return status;
}

absl::Status NcclCollective::Join(const ncclUniqueId& id) {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device),
                             "choosing the GPU");
  if (options_.is_deterministic && options_.world_size > 2) {
    QUIRE_ASSIGN_OR_RETURN(gathered_, AllocateCuda(kGatherBytes));
  }
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  absl::MutexLock lock(&mutex_);
  const ncclResult_t result =
      nccl_.CommInitRankConfig(&comm_, world_size(), id, rank(), &config);
  QUIRE_RETURN_IF_ERROR(
      Settle(result, "joining", options_.connect_timeout, kJoinNap));
  QUIRE_RETURN_IF_ERROR(MakeCopy());
  watcher_ = std::thread([this] { Watch(); });
  return absl::OkStatus();
}

bool NcclCollective::IsCopyReady() {
  const ncclComm_t copy = __atomic_load_n(&copy_, __ATOMIC_ACQUIRE);
  ncclResult_t state = ncclInProgress;
  int count = 0;
  return copy != nullptr &&
         nccl_.CommGetAsyncError(comm_, &state) == ncclSuccess &&
         state == ncclSuccess &&
         nccl_.CommGetAsyncError(copy, &state) == ncclSuccess &&
         state == ncclSuccess && nccl_.CommCount(copy, &count) == ncclSuccess &&
         count == world_size();
}

absl::Status NcclCollective::MakeCopy() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  const ncclResult_t result =
      nccl_.CommSplit(comm_, /*color=*/0, rank(), &copy_, &config);
  QUIRE_RETURN_IF_ERROR(
      Settle(result, "copying", options_.connect_timeout, kJoinNap));
  // Told to go on before there is one.
  const absl::Time end =
      absl::Now() + std::min(options_.connect_timeout, kCopyTimeout);
  bool is_ready = IsCopyReady();
  while (!is_ready && absl::Now() < end && GroupStatus().ok()) {
    absl::SleepFor(kJoinNap);
    is_ready = IsCopyReady();
  }
  // One communicator for all, whichever it is.
  std::vector<char> all(world_size());
  all[rank()] = is_ready ? 1 : 0;
  QUIRE_RETURN_IF_ERROR(
      host_->AllGather(all.data() + rank(), all.data(), /*bytes=*/1));
  has_copy_ = std::count(all.begin(), all.end(), 1) == world_size();
  if (!has_copy_) LOG(WARNING) << "NCCL's operations will start threads";
  return absl::OkStatus();
}

void NcclCollective::Watch() {
  pthread_setname_np(pthread_self(), "quire-nccl");
  while (true) {
    // The end of a group wakes it; leaving waits a period at most.
    absl::Status cause;
    if (options_.group_end != nullptr) {
      cause = options_.group_end->Await(kWatchPeriod);
    } else {
      leaving_.WaitForNotificationWithTimeout(kWatchPeriod);
    }
    if (leaving_.HasBeenNotified()) return;
    absl::MutexLock lock(&mutex_);
    if (comm_ == nullptr) return;
    ncclResult_t result = ncclSuccess;
    nccl_.CommGetAsyncError(comm(), &result);
    if (cause.ok() && result != ncclSuccess && result != ncclInProgress) {
      cause = StatusOf(result, "watch");
    }
    if (cause.ok()) continue;
    LOG(WARNING) << "leaving the group: " << cause.message();
    Abort(cause);
    return;
  }
}

absl::Status NcclCollective::AllReduceSum(void* data, int64_t num_elements,
                                          DType dtype) {
  if (num_elements == 0) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  QUIRE_RETURN_IF_ERROR(broken_);
  if (gathered_ != nullptr) {
    return GatherAndAdd(static_cast<char*>(data), num_elements, dtype);
  }
  return Settle(nccl_.AllReduce(data, data, num_elements, NcclType(dtype),
                                ncclSum, comm(), stream_),
                "all-reduce", options_.operation_timeout,
                /*nap=*/absl::ZeroDuration());
}

absl::Status NcclCollective::EnqueueAllGather(const void* in, void* out,
                                              int64_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  QUIRE_RETURN_IF_ERROR(broken_);
  return Settle(nccl_.AllGather(in, out, bytes, ncclUint8, comm(), stream_),
                "all-gather", options_.operation_timeout,
                /*nap=*/absl::ZeroDuration());
}

absl::Status NcclCollective::GatherAndAdd(char* data, int64_t num_elements,
                                          DType dtype) {
  const int64_t width = SizeOf(dtype);
  // Whole 16 bytes, so that all pieces but the last are added 16 at a time.
  const int64_t most = kGatherBytes / (world_size() * width) / 16 * 16;
  for (int64_t first = 0; first < num_elements; first += most) {
    const int64_t n = std::min(most, num_elements - first);
    char* piece = data + first * width;
    QUIRE_RETURN_IF_ERROR(
        Settle(nccl_.AllGather(piece, gathered_->data(), n, NcclType(dtype),
                               comm(), stream_),
               "all-gather", options_.operation_timeout,
               /*nap=*/absl::ZeroDuration()));
    QUIRE_RETURN_IF_CUDA_ERROR(
        LaunchRankSumCuda(gathered_->data(), world_size(), piece, n, dtype,
                          stream_),
        "sum over ranks");
  }
  return absl::OkStatus();
}

absl::StatusOr<ncclUniqueId> ShareId(const NcclOptions& options,
                                     const NcclLibrary& nccl, KeyBoard* board) {
  ncclUniqueId id;
  if (options.rank == 0) {
    const ncclResult_t result = nccl.GetUniqueId(&id);
    if (result != ncclSuccess) {
      return absl::UnavailableError(
          absl::StrCat("NCCL mints no id: ", nccl.GetErrorString(result)));
    }
    QUIRE_RETURN_IF_ERROR(
        board->Put(kIdKey, std::string(id.internal, sizeof(id.internal))));
    return id;
  }
  const auto values = board->Get({kIdKey}, options.connect_timeout);
  if (absl::IsDeadlineExceeded(values.status())) {
    return absl::UnavailableError(
        absl::StrCat("rank ", options.rank, " of ", options.world_size,
                     ": rank 0 did not join within ",
                     absl::FormatDuration(options.connect_timeout)));
  }
  QUIRE_RETURN_IF_ERROR(values.status());
  if (values->front().size() != sizeof(id.internal)) {
    return absl::InternalError(
        absl::StrCat("an NCCL id of ", values->front().size(),
                     " bytes, not of ", sizeof(id.internal)));
  }
  std::memcpy(id.internal, values->front().data(), sizeof(id.internal));
  return id;
}

}  // namespace

void PrepareNcclEnvironment(const std::string& host) {
  // A program that fails while it uses multicast can put all GPUs of its
  // machine out of service.
  setenv(kNoMulticast, "0", /*overwrite=*/1);
  const std::string interface = InterfaceOf(host);
  if (!interface.empty()) {
    setenv(kInterface, absl::StrCat("=", interface).c_str(), /*overwrite=*/0);
  }
}

absl::StatusOr<std::unique_ptr<Collective>> ConnectNccl(
    const NcclOptions& options, KeyBoard* board,
    std::unique_ptr<Collective> host) {
  const char* multicast = std::getenv(kNoMulticast);
  if (multicast == nullptr || std::strcmp(multicast, "0") != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(kNoMulticast, " must be 0"));
  }
  QUIRE_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, NcclLibrary::Load());
  const absl::Time start = absl::Now();
  QUIRE_ASSIGN_OR_RETURN(const ncclUniqueId id, ShareId(options, *nccl, board));
  auto collective =
      std::make_unique<NcclCollective>(options, *nccl, std::move(host));
  QUIRE_RETURN_IF_ERROR(collective->Join(id));
  LOG(INFO) << "NCCL " << nccl->version << " joined rank " << options.rank
            << " of " << options.world_size << " on GPU " << options.device
            << " in " << absl::FormatDuration(absl::Now() - start);
  return collective;
}

}  // namespace quire
