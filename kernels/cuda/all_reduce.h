// SPDX-License-Identifier: Apache-2.0
//
// Sums over the ranks of one machine whose GPUs reach each other's memory: a
// rank writes what it has into its peers' inboxes and reads its own. Data is
// its own flag, in the manner of Lamport's mailboxes (TensorRT-LLM's name): an
// empty word of an inbox holds kEmptyWord, which no message holds, so a word
// that holds something else has arrived, and whoever reads it empties it.
//
// Two halves of an inbox take turns. A rank writes into a half again two calls
// later: it has read something of every peer's call between by then, which the
// peer wrote after it had ended the call that emptied the half.
//
// Where a message or a sum has an empty word, which is a -0.0, it gets 0.0.
//
// Addition is in rank order, in float and rounded once. So the bits are the
// same on every rank, in every run and by either way of adding, and an element
// does not depend on its neighbours.
//
// No wait is without end: when the host's abort word is set, or a peer is
// silent for longer than the limit, the kernel says so (PeerOutcome) and it and
// all that follow end at once, with results that mean nothing.
#ifndef KERNELS_CUDA_ALL_REDUCE_H_
#define KERNELS_CUDA_ALL_REDUCE_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/cuda/all_reduce_plan.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

enum PeerOutcome : uint32_t {
  kPeersFine = 0,
  kPeersAborted = 1,  // the host said so
  kPeerSilent = 2,    // for longer than the limit
};

// Between calls, in the rank's own device memory; zeros at first.
struct PeerState {
  uint32_t turn;      // calls so far: which half is next
  uint32_t arrivals;  // blocks of the running call that have read `turn`
  uint32_t outcome;   // once not kPeersFine, no call waits any more
  uint32_t unused;
};

// A rank's view of its group. One stream at a time uses it.
struct PeerGroup {
  int32_t rank;
  int32_t world_size;  // 2, 4 or 8
  // Every rank's inbox, as this rank's device reaches it: kInboxBytes each, all
  // of it kEmptyWord at first.
  char* inboxes[kMaxPeers];
  PeerState* state;
  const uint32_t* abort;  // host memory; not 0: the group is over
  uint32_t* outcome;      // host memory: a copy of the state's
  int64_t timeout_ns;
  int32_t num_sms;
};

// Empties an inbox.
cudaError_t LaunchEmptyInboxCuda(void* inbox, cudaStream_t stream);

// data[i] = sum over ranks of data[i]. In one shot every rank sends all to all
// and adds up everything; in two, a slice each, and sends the sum.
// REQUIRES: 1 <= n, n * SizeOf(dtype) <= MaxOneShotBytes(), MaxTwoShotBytes().
cudaError_t LaunchOneShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream);
cudaError_t LaunchTwoShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream);

// LaunchOneShotCuda of data that a product has sent to the peers
// (GemmParams::peers), as the only one since the last call. It sends from its
// rank's own kernels, which run after the last call and before this one: so the
// turns are as if this call had sent.
cudaError_t LaunchSumSentCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream);

// LaunchOneShotCuda, or with `is_sent` LaunchSumSentCuda, of norm.x and
// LaunchNormCuda, to the same bits, in one kernel; what norm.x holds afterwards
// means nothing. REQUIRES: CanReduceAndNorm().
cudaError_t LaunchOneShotNormCuda(const PeerGroup& group,
                                  const NormParams& norm, DType dtype,
                                  cudaStream_t stream, bool is_sent = false);
bool CanReduceAndNorm(int32_t world_size, const NormParams& norm, DType dtype);

// out[r] = rank r's in: [num_words] and [world_size, num_words].
// REQUIRES: 1 <= num_words, 4 * num_words <= MaxOneShotBytes().
cudaError_t LaunchPeerGatherCuda(const PeerGroup& group, const uint32_t* in,
                                 uint32_t* out, int64_t num_words,
                                 cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ALL_REDUCE_H_
