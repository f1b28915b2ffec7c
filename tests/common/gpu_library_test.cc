// SPDX-License-Identifier: Apache-2.0
#include "common/gpu_library.h"

#include <cmath>
#include <cstdlib>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(GpuLibraryTest, FindsWhereTheLoaderLooks) {
  const auto library = GpuLibrary::Open(
      {"Mathematics", "libm.so.6", "QUIRE_TEST_LIBRARY", "install it"});
  ASSERT_TRUE(library.ok()) << library.status();
  const auto function = library->Find("cos");
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_EQ(reinterpret_cast<double (*)(double)>(*function)(0.0), 1.0);
  const auto missing = library->Find("no_such_function");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.status().message(),
            "Mathematics has no function no_such_function");
}

TEST(GpuLibraryTest, TheVariableNamesAnotherFile) {
  setenv("QUIRE_TEST_LIBRARY", "libm.so.6", 1);
  EXPECT_TRUE(GpuLibrary::Open({"Mathematics", "libno-such-thing.so.1",
                                "QUIRE_TEST_LIBRARY", "install it"})
                  .ok());
  unsetenv("QUIRE_TEST_LIBRARY");
}

TEST(GpuLibraryTest, SaysWhereItLookedAndWhatHelps) {
  setenv("CUDA_HOME", "/no/such/toolkit", 1);
  const auto library = GpuLibrary::Open(
      {"Nothing", "libno-such-thing.so.1", "QUIRE_TEST_LIBRARY", "install it"});
  EXPECT_EQ(library.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(library.status().message(),
            "Nothing is not on this machine (looked for "
            "libno-such-thing.so.1, "
            "/no/such/toolkit/lib64/libno-such-thing.so.1, "
            "/usr/local/cuda/lib64/libno-such-thing.so.1); install it, or let "
            "QUIRE_TEST_LIBRARY name the file");
}

}  // namespace
}  // namespace quire
