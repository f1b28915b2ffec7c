// SPDX-License-Identifier: Apache-2.0
//
// Comparing arrays that are too long to fetch.
#ifndef TESTS_KERNELS_CUDA_COUNT_DIFFERENT_H_
#define TESTS_KERNELS_CUDA_COUNT_DIFFERENT_H_

#include <cstdint>

namespace quire {

// Words of two arrays of device memory that are not the same. The legacy stream
// runs it, and it waits.
int64_t CountDifferentWords(const void* a, const void* b, int64_t num_words);

// Fills an array of bfloat16 with numbers in (-1, 1) that follow from the seed.
void FillWithRandomBf16(void* array, int64_t count, uint32_t seed);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_COUNT_DIFFERENT_H_
