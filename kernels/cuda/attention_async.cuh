// SPDX-License-Identifier: Apache-2.0
//
// Copying to shared memory in the background, and the barriers that tell when
// it is done.
#ifndef KERNELS_CUDA_ATTENTION_ASYNC_CUH_
#define KERNELS_CUDA_ATTENTION_ASYNC_CUH_

#include <cstdint>

namespace quire::attention {

// Marks a row that nothing is copied from.
constexpr uint32_t kNoRow = ~0u;

__device__ __forceinline__ uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Copies 16 bytes, or zeros if not `valid`. Prefetching 256 bytes at a time
// read more than was used: 4% slower.
__device__ __forceinline__ void CopyAsync(uint32_t dst, const void* src,
                                          bool valid) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(dst),
      "l"(src), "r"(valid ? 16 : 0)
      : "memory");
}

// For what is read once: what else the L2 cache holds is to stay.
__device__ __forceinline__ uint64_t ReadOncePolicy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// The same by a policy of the L2 cache.
__device__ __forceinline__ void CopyAsyncOnce(uint32_t dst, const void* src,
                                              bool valid, uint64_t policy) {
  asm volatile(
      "cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, "
      "%3;" ::"r"(dst),
      "l"(src), "r"(valid ? 16 : 0), "l"(policy)
      : "memory");
}

// By the engine for bulk copies: `bytes`, a multiple of 16, from and to
// addresses aligned to 16. `barrier` counts them.
__device__ __forceinline__ void CopyBulk(uint32_t dst, const void* src,
                                         uint32_t bytes, uint32_t barrier,
                                         uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(dst),
      "l"(src), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
#endif
}

// The same of what others read, too.
__device__ __forceinline__ void CopyBulk(uint32_t dst, const void* src,
                                         uint32_t bytes, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1], %2, [%3];" ::"r"(dst),
      "l"(src), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}

// Orders this thread's accesses to shared memory before bulk copies and matrix
// products of whom it tells.
__device__ __forceinline__ void FenceAsyncProxy() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Barriers between some warps, in shared memory. Phases alternate in parity.
__device__ __forceinline__ void InitBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier),
               "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void Arrive(uint32_t barrier) {
  asm volatile(
      "{\n.reg .b64 state;\n"
      "mbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(barrier)
      : "memory");
}

// Arrives, and lets the phase wait for so many bytes of bulk copies, too.
__device__ __forceinline__ void ArriveExpecting(uint32_t barrier,
                                                uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b64 state;\n"
      "mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}" ::"r"(barrier),
      "r"(bytes)
      : "memory");
#endif
}

// Arrives when this thread's copies so far are there.
__device__ __forceinline__ void ArriveAfterCopies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier)
               : "memory");
}

// Whether the phase of that parity is over; the one before the first is.
__device__ __forceinline__ bool TestPhase(uint32_t barrier, int parity) {
  uint32_t is_over;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(is_over)
      : "r"(barrier), "r"(parity)
      : "memory");
  return is_over != 0;
}

// Waits for the end of the phase of that parity.
__device__ __forceinline__ void WaitForPhase(uint32_t barrier, int parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t is_over;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(is_over)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!is_over);
#else
  while (!TestPhase(barrier, parity)) {
  }
#endif
}

// A place in a ring of barriers.
template <int kSize>
struct RingPosition {
  int at = 0;
  int parity = 0;

  __device__ __forceinline__ void Advance() {
    if (++at == kSize) {
      at = 0;
      parity ^= 1;
    }
  }
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_ASYNC_CUH_
