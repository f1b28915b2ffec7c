// SPDX-License-Identifier: Apache-2.0
//
// Hopper's copy engine and matrix instructions (sm_90a), as products use them:
// barriers that count bytes, boxes copied from tensor maps, and a warpgroup's
// multiplication of two matrices in shared memory.
#ifndef KERNELS_CUDA_WGMMA_CUH_
#define KERNELS_CUDA_WGMMA_CUH_

#include <cstdint>

#include "cuda.h"

namespace quire::hopper {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(arrivals));
}

// Makes barriers that this thread initialised visible to the copy engine.
__device__ __forceinline__ void PublishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Arrives, and lets the phase wait for so many bytes of copies.
__device__ __forceinline__ void Expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier))
      : "memory");
}

__device__ __forceinline__ void Wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// What happens to lines in the second-level cache.
__device__ __forceinline__ uint64_t EvictFirst() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0;"
               : "=l"(policy));
  return policy;
}

__device__ __forceinline__ uint64_t EvictLast() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void CopyBox(const CUtensorMap& map, int col,
                                        int row, void* to, uint64_t* barrier,
                                        uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier"
      "::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::
          "r"(SharedAddress(to)),
      "l"(&map), "r"(col), "r"(row), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// Lets a map, a kernel's parameter, be there when the first copy needs it.
__device__ __forceinline__ void PrefetchMap(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// A matrix in shared memory: rows of 128 bytes, swizzled, k along the row.
__device__ __forceinline__ uint64_t Descriptor(const void* matrix) {
  constexpr uint64_t kEightRows = 1024;  // bytes
  return (SharedAddress(matrix) & 0x3ffff) >> 4 | uint64_t{1} << 16 |
         (kEightRows >> 4) << 32 | uint64_t{1} << 62;
}

// The matrix from 16 `steps` columns on. Only the lower word changes, and the
// upper is a constant.
__device__ __forceinline__ uint64_t Advance(uint64_t descriptor, int steps) {
  return descriptor >> 32 << 32 |
         (static_cast<uint32_t>(descriptor) + 2 * steps);
}

// Before the first product after its registers were written.
__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most kPending committed groups run.
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of `registers` across this point: a
// product in flight owns them.
template <int kCount>
__device__ __forceinline__ void HoldRegisters(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(registers[i])::"memory");
  }
}

// d [64, kColumns] += a [64, 16] b [kColumns, 16]^T, by the 128 threads of a
// warpgroup. Lane l of its warp w holds rows 16 w + l / 4 (elements 0 and 1 of
// every four) and 8 more (2 and 3), and of every 8 columns numbers 2 (l % 4)
// and the next.
template <int kColumns>
__device__ __forceinline__ void Multiply(float (&d)[kColumns / 2], uint64_t a,
                                         uint64_t b);

#define QUIRE_NAMES_0        \
  "%0,%1,%2,%3,%4,%5,%6,%7," \
  "%8,%9,%10,%11,%12,%13,%14,%15"
#define QUIRE_NAMES_1                \
  "%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31"
#define QUIRE_NAMES_2                \
  "%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47"
#define QUIRE_NAMES_3                \
  "%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63"
#define QUIRE_NAMES_4                \
  "%64,%65,%66,%67,%68,%69,%70,%71," \
  "%72,%73,%74,%75,%76,%77,%78,%79"
#define QUIRE_NAMES_5                \
  "%80,%81,%82,%83,%84,%85,%86,%87," \
  "%88,%89,%90,%91,%92,%93,%94,%95"
#define QUIRE_NAMES_6                    \
  "%96,%97,%98,%99,%100,%101,%102,%103," \
  "%104,%105,%106,%107,%108,%109,%110,%111"
#define QUIRE_NAMES_7                        \
  "%112,%113,%114,%115,%116,%117,%118,%119," \
  "%120,%121,%122,%123,%124,%125,%126,%127"
#define QUIRE_NAMES_TO_48 QUIRE_NAMES_0 "," QUIRE_NAMES_1 "," QUIRE_NAMES_2
#define QUIRE_NAMES_TO_64 QUIRE_NAMES_TO_48 "," QUIRE_NAMES_3
#define QUIRE_NAMES_TO_80 QUIRE_NAMES_TO_64 "," QUIRE_NAMES_4
#define QUIRE_NAMES_TO_96 QUIRE_NAMES_TO_80 "," QUIRE_NAMES_5
#define QUIRE_NAMES_TO_112 QUIRE_NAMES_TO_96 "," QUIRE_NAMES_6
#define QUIRE_NAMES_TO_128 QUIRE_NAMES_TO_112 "," QUIRE_NAMES_7

#define QUIRE_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define QUIRE_D16(i) \
  QUIRE_D4(i), QUIRE_D4(i + 4), QUIRE_D4(i + 8), QUIRE_D4(i + 12)
#define QUIRE_D32(i) QUIRE_D16(i), QUIRE_D16(i + 16)
#define QUIRE_D64(i) QUIRE_D32(i), QUIRE_D32(i + 32)

// The names of n / 2 registers, and of the two descriptors that follow them.
#define QUIRE_DEFINE_MULTIPLY(n, names, a_name, b_name, ...)                \
  template <>                                                               \
  __device__ __forceinline__ void Multiply<n>(float(&d)[n / 2], uint64_t a, \
                                              uint64_t b) {                 \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n                     \
                 "k16.f32.bf16.bf16 {" names "}, " a_name ", " b_name       \
                 ", 1, 1, 1, 0, 0;"                                         \
                 : __VA_ARGS__                                              \
                 : "l"(a), "l"(b));                                         \
  }

QUIRE_DEFINE_MULTIPLY(8, "%0,%1,%2,%3", "%4", "%5", QUIRE_D4(0))
QUIRE_DEFINE_MULTIPLY(16, "%0,%1,%2,%3,%4,%5,%6,%7", "%8", "%9", QUIRE_D4(0),
                      QUIRE_D4(4))
QUIRE_DEFINE_MULTIPLY(32, QUIRE_NAMES_0, "%16", "%17", QUIRE_D16(0))
QUIRE_DEFINE_MULTIPLY(64, QUIRE_NAMES_0 "," QUIRE_NAMES_1, "%32", "%33",
                      QUIRE_D32(0))
QUIRE_DEFINE_MULTIPLY(96, QUIRE_NAMES_TO_48, "%48", "%49", QUIRE_D32(0),
                      QUIRE_D16(32))
QUIRE_DEFINE_MULTIPLY(128, QUIRE_NAMES_TO_64, "%64", "%65", QUIRE_D64(0))
QUIRE_DEFINE_MULTIPLY(160, QUIRE_NAMES_TO_80, "%80", "%81", QUIRE_D64(0),
                      QUIRE_D16(64))
QUIRE_DEFINE_MULTIPLY(192, QUIRE_NAMES_TO_96, "%96", "%97", QUIRE_D64(0),
                      QUIRE_D32(64))
QUIRE_DEFINE_MULTIPLY(224, QUIRE_NAMES_TO_112, "%112", "%113", QUIRE_D64(0),
                      QUIRE_D32(64), QUIRE_D16(96))
QUIRE_DEFINE_MULTIPLY(256, QUIRE_NAMES_TO_128, "%128", "%129", QUIRE_D64(0),
                      QUIRE_D64(64))

#undef QUIRE_DEFINE_MULTIPLY
#undef QUIRE_D64
#undef QUIRE_D32
#undef QUIRE_D16
#undef QUIRE_D4
#undef QUIRE_NAMES_TO_128
#undef QUIRE_NAMES_TO_112
#undef QUIRE_NAMES_TO_96
#undef QUIRE_NAMES_TO_80
#undef QUIRE_NAMES_TO_64
#undef QUIRE_NAMES_TO_48
#undef QUIRE_NAMES_7
#undef QUIRE_NAMES_6
#undef QUIRE_NAMES_5
#undef QUIRE_NAMES_4
#undef QUIRE_NAMES_3
#undef QUIRE_NAMES_2
#undef QUIRE_NAMES_1
#undef QUIRE_NAMES_0

}  // namespace quire::hopper

#endif  // KERNELS_CUDA_WGMMA_CUH_
