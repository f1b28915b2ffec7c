// SPDX-License-Identifier: Apache-2.0
//
// What it means to agree with a golden model; shared by the families' tests.
#ifndef TESTS_WORKER_MODEL_GOLDEN_CHECKS_H_
#define TESTS_WORKER_MODEL_GOLDEN_CHECKS_H_

#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden.h"

namespace quire {

// Every greedy token equal, every kept row of logits within `tolerance`. Else
// says of the first prompt that differs what does.
testing::AssertionResult AgreesWithGolden(const std::string& name,
                                          const GoldenRun& run,
                                          float tolerance);

// The same computed in bfloat16. Torch's bfloat16 logits are off by the
// roundings of the same tensors (2^-9 relative each, at the same places of
// every layer), so theirs and ours are largest values of the same number of
// draws from the same distribution: within a factor of 2 of each other. A
// greedy token must be equal where the golden gap is more than twice that, as
// rounding cannot explain another one.
testing::AssertionResult AgreesWithGoldenRounded(const std::string& name,
                                                 const GoldenRun& run);

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_GOLDEN_CHECKS_H_
