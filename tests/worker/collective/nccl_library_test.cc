// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/nccl_library.h"

#include <cstdlib>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// Loaded once a process: whether the machine has it decides what is seen.
TEST(NcclLibraryTest, ItIsThereOrTheErrorSaysWhereItWasLookedFor) {
  const auto nccl = NcclLibrary::Load();
  if (nccl.ok()) {
    EXPECT_GE((*nccl)->version, NCCL_VERSION(2, 18, 1));
    EXPECT_STREQ((*nccl)->GetErrorString(ncclSuccess), "no error");
    return;
  }
  EXPECT_TRUE(absl::IsNotFound(nccl.status())) << nccl.status();
  for (const char* part : {"libnccl.so.2", "/usr/local/cuda", "QUIRE_NCCL"}) {
    EXPECT_NE(nccl.status().message().find(part), std::string::npos)
        << nccl.status();
  }
}

}  // namespace
}  // namespace quire
