// SPDX-License-Identifier: Apache-2.0
//
// PagedManager under random use: a million operations and more.
#include <string>

#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"
#include "tests/coordinator/kv/kv_property_cases.h"

namespace quire {
namespace {

class PagedManagerPropertyTest : public testing::TestWithParam<KvPropertyCase> {
};

TEST_P(PagedManagerPropertyTest, AgreesWithPlainModelsOverRandomOperations) {
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    PagedManager manager(GetParam().options);
    ASSERT_EQ(
        RunKvProperty(GetParam(), &manager, /*num_operations=*/65000, seed),
        absl::OkStatus())
        << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PagedManagerPropertyTest,
                         testing::ValuesIn(kKvPropertyCases),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace quire
