// SPDX-License-Identifier: Apache-2.0
//
// Multiply() of wgmma.cuh by the multiples of sixteen columns, from 128 to 256,
// that are none of 32.
#ifndef KERNELS_CUDA_WGMMA_WIDE_CUH_
#define KERNELS_CUDA_WGMMA_WIDE_CUH_

#include <cstdint>

#include "kernels/cuda/wgmma.cuh"

namespace quire::hopper {

#define QUIRE_NAMES_1 "%0,%1,%2,%3,%4,%5,%6,%7"
#define QUIRE_NAMES_2 QUIRE_NAMES_1 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define QUIRE_NAMES_3 QUIRE_NAMES_2 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define QUIRE_NAMES_4 QUIRE_NAMES_3 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define QUIRE_NAMES_5 QUIRE_NAMES_4 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define QUIRE_NAMES_6 QUIRE_NAMES_5 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define QUIRE_NAMES_7 QUIRE_NAMES_6 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define QUIRE_NAMES_8 QUIRE_NAMES_7 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define QUIRE_NAMES_9 QUIRE_NAMES_8 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define QUIRE_NAMES_10 QUIRE_NAMES_9 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define QUIRE_NAMES_11 QUIRE_NAMES_10 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define QUIRE_NAMES_12 QUIRE_NAMES_11 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define QUIRE_NAMES_13 QUIRE_NAMES_12 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define QUIRE_NAMES_14 QUIRE_NAMES_13 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define QUIRE_NAMES_15 QUIRE_NAMES_14 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define QUIRE_NAMES_16 QUIRE_NAMES_15 ",%120,%121,%122,%123,%124,%125,%126,%127"

#define QUIRE_D8(i)                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), \
      "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define QUIRE_D32(i) \
  QUIRE_D8(i), QUIRE_D8(i + 8), QUIRE_D8(i + 16), QUIRE_D8(i + 24)
#define QUIRE_D64 QUIRE_D32(0), QUIRE_D32(32)
#define QUIRE_D96 QUIRE_D64, QUIRE_D32(64)

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

QUIRE_DEFINE_MULTIPLY(144, QUIRE_NAMES_9, "%72", "%73", QUIRE_D64, QUIRE_D8(64))
QUIRE_DEFINE_MULTIPLY(176, QUIRE_NAMES_11, "%88", "%89", QUIRE_D64,
                      QUIRE_D8(64), QUIRE_D8(72), QUIRE_D8(80))
QUIRE_DEFINE_MULTIPLY(208, QUIRE_NAMES_13, "%104", "%105", QUIRE_D96,
                      QUIRE_D8(96))
QUIRE_DEFINE_MULTIPLY(240, QUIRE_NAMES_15, "%120", "%121", QUIRE_D96,
                      QUIRE_D8(96), QUIRE_D8(104), QUIRE_D8(112))

#undef QUIRE_DEFINE_MULTIPLY
#undef QUIRE_D96
#undef QUIRE_D64
#undef QUIRE_D32
#undef QUIRE_D8
#undef QUIRE_NAMES_1
#undef QUIRE_NAMES_2
#undef QUIRE_NAMES_3
#undef QUIRE_NAMES_4
#undef QUIRE_NAMES_5
#undef QUIRE_NAMES_6
#undef QUIRE_NAMES_7
#undef QUIRE_NAMES_8
#undef QUIRE_NAMES_9
#undef QUIRE_NAMES_10
#undef QUIRE_NAMES_11
#undef QUIRE_NAMES_12
#undef QUIRE_NAMES_13
#undef QUIRE_NAMES_14
#undef QUIRE_NAMES_15
#undef QUIRE_NAMES_16

}  // namespace quire::hopper

#endif  // KERNELS_CUDA_WGMMA_WIDE_CUH_
