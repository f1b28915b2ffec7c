// SPDX-License-Identifier: Apache-2.0
//
// Operations that all ranks of a tensor-parallel group join, in the same order
// and with the same sizes.
#ifndef WORKER_COLLECTIVE_COLLECTIVE_H_
#define WORKER_COLLECTIVE_COLLECTIVE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

struct PeerGroup;  // kernels/cuda/all_reduce.h

// Thread-compatible: the executor thread is the sole caller. AllReduceSum,
// AllReduceNorm, what they are of rows already sent, and EnqueueAllGather take
// memory of the backend's device, and on CUDA are enqueued on its stream and
// may be recorded there; the others take memory that the host reaches, and are
// done when they return. Unavailable when a peer is lost or does not answer in
// time: the group is over, every later call fails too.
class Collective {
 public:
  virtual ~Collective() = default;

  virtual int32_t rank() const = 0;        // [0, world_size)
  virtual int32_t world_size() const = 0;  // >= 1

  // What adds up: "peer", "nccl", "shm", "gloo"...
  virtual std::string name() const { return "local"; }
  // What connects this rank with each, for operators: "NVLink", "PCIe",
  // "shared memory", "network"...; empty for itself. May be empty as a whole.
  virtual std::vector<std::string> links() const { return {}; }

  // data[i] = sum over ranks of data[i], added in rank order on every rank:
  // bitwise the same everywhere, whatever the other elements. (On CUDA, more
  // than two ranks keep to the order in deterministic mode only.)
  virtual absl::Status AllReduceSum(void* data, int64_t num_elements,
                                    DType dtype) = 0;

  // AllReduceSum of norm.x, then Backend::Norm, in one operation; what norm.x
  // holds afterwards means nothing. False, and nothing is done, where the two
  // are no slower. `dtype` is the backend's.
  virtual absl::StatusOr<bool> AllReduceNorm(const NormParams& /*norm*/,
                                             DType /*dtype*/) {
    return false;
  }

  // Where a product may send `bytes` of rows while it stores them
  // (GemmParams::peers), or null: nowhere. What it has sent is summed next, by
  // one of the two below.
  virtual const PeerGroup* PeersFor(int64_t /*bytes*/) const { return nullptr; }
  // AllReduceSum and AllReduceNorm of such rows. REQUIRES: PeersFor().
  virtual absl::Status SumSent(void* /*data*/, int64_t /*num_elements*/,
                               DType /*dtype*/) {
    return absl::UnimplementedError("products send nothing");
  }
  virtual absl::StatusOr<bool> SumSentNorm(const NormParams& /*norm*/,
                                           DType /*dtype*/) {
    return false;
  }

  // AllGather between devices. Words of -0.0 may arrive as 0.0.
  // REQUIRES: `bytes` is a multiple of 4.
  virtual absl::Status EnqueueAllGather(const void* in, void* out,
                                        int64_t bytes) {
    return AllGather(in, out, bytes);
  }

  // Why the group is over, or OK. What was enqueued and has run by now means
  // nothing if it is. Any thread may ask.
  virtual absl::Status status() const { return absl::OkStatus(); }

  // out[r] = rank r's in. `in` may be out's own part.
  // in: [bytes], out: [world_size, bytes].
  virtual absl::Status AllGather(const void* in, void* out, int64_t bytes) = 0;

  // Returns once every rank has called it.
  virtual absl::Status Barrier() = 0;
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_COLLECTIVE_H_
