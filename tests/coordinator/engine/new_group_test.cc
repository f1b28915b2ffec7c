// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/new_group.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

EngineRequest Request() {
  EngineRequest request;
  request.request_id = "r";
  request.prompt = {5, 6, 7};
  request.priority = 4;
  request.tenant = "acme";
  request.sampling.max_tokens = 10;
  request.sampling.stop_token_ids = {9, 2};
  request.sampling.slot.min_tokens = 3;
  return request;
}

TEST(NewGroupTest, EverySequenceHoldsThePromptAndKnowsItsBounds) {
  EngineRequest request = Request();
  request.sampling.n = request.sampling.best_of = 3;
  const auto group = NewGroup({}, RequestKey(8), request);
  EXPECT_EQ(group->key, RequestKey(8));
  EXPECT_EQ(group->request_id, "r");
  EXPECT_EQ(group->priority, 4);
  ASSERT_EQ(group->sequences.size(), 3);
  for (int32_t index = 0; index < 3; ++index) {
    const Sequence& seq = group->sequences[index];
    EXPECT_EQ(seq.tokens, (std::vector<TokenId>{5, 6, 7}));
    EXPECT_EQ(seq.index, index);
    EXPECT_EQ(seq.num_prompt_tokens, 3);
    EXPECT_EQ(seq.max_num_tokens, 13);
    EXPECT_EQ(seq.min_tokens, 3);
    EXPECT_EQ(seq.group, group.get());
    EXPECT_EQ(seq.request, RequestKey(8));
    // Looked up by bisection.
    EXPECT_EQ(seq.stop_token_ids[0], 2);
  }
}

TEST(NewGroupTest, TenantsShareByThemselvesUnlessASaltSaysOtherwise) {
  const EngineOptions options;
  const auto scope = [&](EngineRequest request, uint64_t key = 1) {
    return NewGroup(options, RequestKey(key), std::move(request))->cache_scope;
  };
  EngineRequest salted = Request();
  salted.cache_salt = "acme";
  EngineRequest other = Request();
  other.tenant = "other";
  EXPECT_NE(scope(Request()), 0);
  EXPECT_EQ(scope(Request()), scope(Request(), 2));
  EXPECT_EQ(scope(Request()), scope(salted));  // a tenant is a salt
  EXPECT_NE(scope(Request()), scope(other));
  other.cache_salt = "acme";
  EXPECT_EQ(scope(Request()), scope(other));
}

TEST(NewGroupTest, WithoutTheCacheOnlySiblingsFindEachOther) {
  EngineOptions options;
  options.enable_prefix_caching = false;
  EXPECT_EQ(NewGroup(options, RequestKey(1), Request())->cache_scope, 0);
  EXPECT_FALSE(
      NewGroup(options, RequestKey(1), Request())->sequences[0].publishes);
  EngineRequest siblings = Request();
  siblings.sampling.n = siblings.sampling.best_of = 2;
  const auto one = NewGroup(options, RequestKey(1), siblings);
  const auto two = NewGroup(options, RequestKey(2), siblings);
  EXPECT_NE(one->cache_scope, 0);
  EXPECT_NE(one->cache_scope, two->cache_scope);
  EXPECT_TRUE(one->sequences[0].publishes);
  // So it is for one that asked to be left out.
  siblings.use_prefix_cache = false;
  EXPECT_EQ(NewGroup({}, RequestKey(1), siblings)->cache_scope,
            one->cache_scope);
}

TEST(NewGroupTest, BeamsHaveASearchAndWiderSamplesAreWithheld) {
  EngineRequest beams = Request();
  beams.sampling.beam_width = 4;
  const auto search = NewGroup({}, RequestKey(1), beams);
  ASSERT_NE(search->beams, nullptr);
  EXPECT_EQ(search->sequences.size(), 4);
  EXPECT_FALSE(search->sequences[0].withheld);
  EngineRequest best = Request();
  best.sampling.best_of = 3;
  const auto group = NewGroup({}, RequestKey(1), best);
  EXPECT_EQ(group->beams, nullptr);
  EXPECT_TRUE(group->sequences[0].withheld);
}

}  // namespace
}  // namespace quire
