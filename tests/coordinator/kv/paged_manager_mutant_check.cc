// SPDX-License-Identifier: Apache-2.0
//
// Linked with a part of PagedManager that was broken on purpose (mutants.bzl):
// random use must find it out.
#include <sys/wait.h>

#include <cstdlib>
#include <iostream>

#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"
#include "tests/coordinator/kv/kv_property_cases.h"

namespace quire {
namespace {

// Ends the process: 0 if every case holds.
void TryAllCases() {
  for (const KvPropertyCase& property : kKvPropertyCases) {
    PagedManager manager(property.options);
    const absl::Status status = RunKvProperty(property, &manager,
                                              /*num_operations=*/20000,
                                              /*seed=*/1);
    if (!status.ok()) {
      std::cerr << status << std::endl;
      std::exit(1);
    }
  }
  std::exit(0);
}

bool Failed(int status) {
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

TEST(PagedManagerMutantDeathTest, RandomUseFindsItOut) {
  EXPECT_EXIT(TryAllCases(), Failed, "");
}

}  // namespace
}  // namespace quire
