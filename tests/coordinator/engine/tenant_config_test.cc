// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/tenant_config.h"

#include <limits>

#include "gtest/gtest.h"

namespace quire {
namespace {

std::string ErrorOf(const std::string& json) {
  return std::string(ParseTenantConfig(json, "t.json").status().message());
}

TEST(TenantConfigTest, ReadsEveryField) {
  const auto config = ParseTenantConfig(R"({
      "tenants": [
        {"name": "a", "weight": 2.5, "guaranteed_kv": 0.25, "priority": -1},
        {"name": "b", "guaranteed_blocks": 7, "max_blocks": 9}],
      "default": {"max_kv": 0.5},
      "max_tracked": 3, "idle_expiry_s": 1.5, "prompt_token_cost": 4,
      "output_token_cost": 8, "burst_tokens": 11})",
                                        "t.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->Of("a").weight, 2.5);
  EXPECT_EQ(config->Of("a").GuaranteedBlocks(100), 25);
  EXPECT_EQ(config->Of("a").MaxBlocks(100),
            std::numeric_limits<int32_t>::max());
  EXPECT_EQ(config->Of("a").priority, -1);
  EXPECT_EQ(config->Of("b").GuaranteedBlocks(100), 7);
  EXPECT_EQ(config->Of("b").GuaranteedBlocks(5), 5);
  EXPECT_EQ(config->Of("b").MaxBlocks(100), 9);
  EXPECT_EQ(config->Of("whoever").MaxBlocks(101), 51);
  EXPECT_FALSE(TenantLimits().has_quota());
  EXPECT_TRUE(config->Of("whoever").has_quota());
  EXPECT_EQ(config->max_tracked, 3);
  EXPECT_EQ(config->idle_expiry, absl::Milliseconds(1500));
  EXPECT_EQ(config->prompt_token_cost, 4);
  EXPECT_EQ(config->output_token_cost, 8);
  EXPECT_EQ(config->burst_tokens, 11);
}

TEST(TenantConfigTest, ErrorsNameFileFieldAndExpectation) {
  EXPECT_EQ(ErrorOf("[]"), "t.json: [], expected one JSON object");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"name": "a", "weight": 0}]})"),
            "t.json: tenants[0]: \"weight\" is 0, expected a number in "
            "[0.001, 1000]");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"weight": 1}]})"),
            "t.json: tenants[0]: \"name\" is missing, expected a string of at "
            "most 128 bytes");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"name": "a"}, {"name": "a"}]})"),
            "t.json: tenants[1]: \"name\" is \"a\", expected a name that no "
            "other entry has");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"name": "a", "wieght": 1}]})"),
            "t.json: tenants[0]: \"wieght\" is no known field; known: name, "
            "weight, guaranteed_kv, guaranteed_blocks, max_kv, max_blocks, "
            "priority");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"name": "a", "guaranteed_kv": 0.6},
                                    {"name": "b", "guaranteed_kv": 0.6}]})"),
            "t.json: \"guaranteed_kv\" of all tenants adds up to 1.2, more "
            "than the pool");
  EXPECT_EQ(ErrorOf(R"({"default": {"guaranteed_kv": 0.1}})"),
            "t.json: default: only a listed tenant can be guaranteed memory");
  EXPECT_EQ(ErrorOf(R"({"tenants": [{"name": "a", "guaranteed_kv": 0.5,
                                     "max_kv": 0.4}]})"),
            "t.json: tenants[0]: \"guaranteed_kv\" is 0.5, expected at most "
            "\"max_kv\"");
}

TEST(TenantConfigTest, BlocksAreDividedAmongGroupsAndSharesAreNot) {
  TenantConfig config;
  config.tenants["a"].guaranteed_blocks = 10;
  config.tenants["a"].max_blocks = 10;
  config.tenants["b"].guaranteed_kv = 0.25;
  config.tenants["b"].max_kv = 0.5;
  config.unlisted.max_blocks = 1;
  config.DivideBlocks(4);
  EXPECT_EQ(config.tenants["a"].guaranteed_blocks, 2);
  EXPECT_EQ(config.tenants["a"].max_blocks, 3);
  EXPECT_EQ(config.tenants["b"].guaranteed_blocks, -1);
  EXPECT_EQ(config.tenants["b"].max_blocks, -1);
  EXPECT_EQ(config.tenants["b"].guaranteed_kv, 0.25);
  EXPECT_EQ(config.tenants["b"].max_kv, 0.5);
  EXPECT_EQ(config.unlisted.max_blocks, 1);
}

TEST(TenantConfigTest, AFileThatIsNotThereIsNamed) {
  const auto config = ReadTenantConfig("/no/such/file");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(config.status().message(), "cannot read /no/such/file");
}

}  // namespace
}  // namespace quire
