// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/cache_scope.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(CacheScopeTest, EqualSaltsShareAndOthersDoNot) {
  EXPECT_EQ(SharedScope(1, "acme"), SharedScope(1, "acme"));
  std::set<CacheScope> scopes;
  std::string salt;
  // Lengths around the hash's words of 8 bytes; the last letter differs.
  for (int length = 0; length < 40; ++length) {
    scopes.insert(SharedScope(1, salt + "x"));
    scopes.insert(SharedScope(1, salt + "y"));
    salt.push_back('a');
  }
  scopes.insert(SharedScope(1, ""));
  EXPECT_EQ(scopes.size(), 81);
  EXPECT_EQ(scopes.count(0), 0);
}

TEST(CacheScopeTest, AnotherKeyGivesOtherScopes) {
  EXPECT_NE(SharedScope(1, "acme"), SharedScope(2, "acme"));
}

TEST(CacheScopeTest, AGroupAloneIsInNobodysScope) {
  EXPECT_NE(PrivateScope(RequestKey(1)), PrivateScope(RequestKey(2)));
  constexpr CacheScope kPrivate = CacheScope{1} << 63;
  EXPECT_NE(PrivateScope(RequestKey(1)) & kPrivate, 0);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SharedScope(7, std::to_string(i)) & kPrivate, 0);
  }
}

}  // namespace
}  // namespace quire
