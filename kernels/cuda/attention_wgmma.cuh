// SPDX-License-Identifier: Apache-2.0
//
// The matrix instructions of Hopper (sm_90a), as attention uses them: a warp
// group of 128 threads multiplies 64 rows at once, asynchronously, with one or
// both operands in shared memory.
//
// Accumulators: lane `l` of warp `w` holds rows 16 w + l / 4 and 8 more, and of
// every 8 columns numbers 2 (l % 4) and the next, as mma.m16n8k16 does.
#ifndef KERNELS_CUDA_ATTENTION_WGMMA_CUH_
#define KERNELS_CUDA_ATTENTION_WGMMA_CUH_

#include <cstdint>

namespace quire::attention {

// A matrix of bfloat16 in shared memory whose rows are cut into parts of kPart
// elements: [parts][rows][kPart], the 16-byte units of each row of a part
// permuted by the row's number ("swizzled"), so that neither reading rows nor
// reading columns meets bank conflicts.
template <int kPart>
struct Swizzle {
  static_assert(kPart == 64 || kPart == 32);
  static constexpr int kRowBytes = kPart * 2;
  static constexpr int kUnits = kPart / 8;  // 16 bytes each, of a row

  // Where in a part a row's unit lies, in bytes.
  static __device__ __forceinline__ int Offset(int row, int unit) {
    const int key = kPart == 64 ? row & 7 : (row >> 1) & 3;
    return row * kRowBytes + ((unit ^ key) << 4);
  }

  // What the offset of a row differs by, bit by bit, from that of the row
  // `rows` before it, beside rows * kRowBytes; `rows` is a multiple of 4.
  static constexpr int Toggle(int rows) {
    return kPart == 64 ? (rows & 4) << 4 : (rows & 4) << 3;
  }

  // Of an operand at `address`, `part_bytes` from part to part. A step of 16
  // along a row adds 2 within a part; a step of 16 rows, kRowBytes.
  static __device__ __forceinline__ uint64_t Descriptor(uint32_t address,
                                                        int part_bytes) {
    constexpr uint64_t kMode = kPart == 64 ? 1 : 2;
    return (kMode << 62) | (uint64_t{kRowBytes * 8 >> 4} << 32) |
           (static_cast<uint64_t>(part_bytes >> 4) << 16) |
           ((address & 0x3ffff) >> 4);
  }
};

// Before the first product after its registers or shared memory were written.
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
// product still in flight owns them.
template <int kCount>
__device__ __forceinline__ void HoldRegisters(float (&registers)[kCount][4]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      asm volatile("" : "+f"(registers[j][i])::"memory");
  }
}

#define QUIRE_4(d, j) \
  "+f"((d)[j][0]), "+f"((d)[j][1]), "+f"((d)[j][2]), "+f"((d)[j][3])
#define QUIRE_16(d, j) \
  QUIRE_4(d, j), QUIRE_4(d, (j) + 1), QUIRE_4(d, (j) + 2), QUIRE_4(d, (j) + 3)
#define QUIRE_32(d, j) QUIRE_16(d, j), QUIRE_16(d, (j) + 4)
#define QUIRE_NAMES_32                                                     \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, " \
  "%30, %31"
#define QUIRE_NAMES_48                                                       \
  QUIRE_NAMES_32                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, " \
  "%46, %47"
#define QUIRE_NAMES_64                                                       \
  QUIRE_NAMES_48                                                             \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
  "%62, %63"

// d (+)= a . b transposed: 16 columns of 64 rows of `a` against as many columns
// of N rows of `b`, both descriptors. Adds to d unless `begins`.
__device__ __forceinline__ void MultiplyRows(float (&d)[8][4], uint64_t a,
                                             uint64_t b, bool begins) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" QUIRE_NAMES_32
      "}, %32, %33, p, 1, 1, 0, 0;\n}"
      : QUIRE_32(d, 0)
      : "l"(a), "l"(b), "r"(int{begins}));
}
__device__ __forceinline__ void MultiplyRows(float (&d)[16][4], uint64_t a,
                                             uint64_t b, bool begins) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" QUIRE_NAMES_64
      "}, %64, %65, p, 1, 1, 0, 0;\n}"
      : QUIRE_32(d, 0), QUIRE_32(d, 8)
      : "l"(a), "l"(b), "r"(int{begins}));
}

// d += a . b: 16 columns of 64 rows of `a`, in registers, by 16 rows of `b`,
// whose N columns may lie in several parts.
__device__ __forceinline__ void AddProduct(float (&d)[8][4],
                                           const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" QUIRE_NAMES_32
      "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
      : QUIRE_32(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void AddProduct(float (&d)[12][4],
                                           const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" QUIRE_NAMES_48
      "}, {%48, %49, %50, %51}, %52, 1, 1, 1, 1;"
      : QUIRE_32(d, 0), QUIRE_16(d, 8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void AddProduct(float (&d)[16][4],
                                           const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" QUIRE_NAMES_64
      "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : QUIRE_32(d, 0), QUIRE_32(d, 8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef QUIRE_4
#undef QUIRE_16
#undef QUIRE_32
#undef QUIRE_NAMES_32
#undef QUIRE_NAMES_48
#undef QUIRE_NAMES_64

// A warp group's registers, of those that the block has.
template <int kCount>
__device__ __forceinline__ void GiveUpRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Barriers 1 to 15 of a block: both sides count towards `threads`.
__device__ __forceinline__ void SyncNamed(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void ArriveNamed(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_WGMMA_CUH_
