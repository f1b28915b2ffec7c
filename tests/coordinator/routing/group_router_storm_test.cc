// SPDX-License-Identifier: Apache-2.0
//
// Groups that are lost, alone or together, and come back, while clients submit
// and leave: every request that stays gets its stream, once.
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/routing/group_router_fixture.h"

namespace quire {
namespace {

class GroupRouterStormTest : public GroupRouterTest {
 protected:
  static constexpr int32_t kNumGroups = 3;

  // Without waiting: several may be lost before anyone has heard of one.
  void LoseNow(int32_t g) {
    engines_[g]->OnGroupLost(Epoch(epochs_[g]),
                             absl::UnavailableError("rank 0 is lost"));
    next_[g] = workers_[g]->Begin(++epochs_[g]);
    lost_.insert(g);
  }
  void BeginNow(int32_t g) {
    engines_[g]->OnGroupReady(next_[g]);
    lost_.erase(g);
  }
  void BeginAll() {
    for (const int32_t g : std::set<int32_t>(lost_)) BeginNow(g);
    Settle();
  }

  void Submit(uint64_t number) {
    EngineRequest request =
        MakeRequest(absl::StrCat("r", number), 1 + random_() % 40,
                    1 + random_() % 40, number);
    if (number % 7 == 0) request.sampling.n = request.sampling.best_of = 2;
    const auto key = router_->Submit(request);
    if (!key.ok()) return;  // all are lost
    requests_.push_back(request);
    keys_.push_back(*key);
  }

  void Round(uint64_t number) {
    for (uint64_t i = random_() % 4; i > 0; --i) Submit(16 * number + i);
    // While somebody leaves.
    const RequestKey leaving =
        keys_.empty() ? RequestKey(0) : keys_[random_() % keys_.size()];
    const bool leaves = !keys_.empty() && random_() % 3 == 0;
    if (leaves) cancelled_.insert(leaving);
    std::thread client([&] {
      if (leaves) router_->Finish(leaving, FinishReason::kCancelled);
    });
    switch (random_() % 8) {
      case 0:
      case 1:
        for (int32_t g = 0; g < kNumGroups; ++g) {
          if (!lost_.contains(g) && random_() % 2 == 0) LoseNow(g);
        }
        break;
      case 2:
      case 3:
        if (!lost_.empty()) BeginNow(*lost_.begin());
        break;
      default:
        break;
    }
    client.join();
    for (uint64_t i = random_() % 6; i > 0; --i) Step();
  }

  bool HasEnded(size_t idx) {
    for (int32_t index = 0; index < requests_[idx].sampling.n; ++index) {
      const HeardStream heard = ear_.Heard(keys_[idx], index);
      if (!heard.status.ok()) return true;
      if (heard.num_last_words == 0) return false;
    }
    return true;
  }

  std::mt19937_64 random_;
  std::set<int32_t> lost_;
  std::vector<EngineRequest> requests_;
  std::vector<RequestKey> keys_;
  std::set<RequestKey> cancelled_;
};

TEST_F(GroupRouterStormTest, EveryStreamThatIsWantedEndsOnce) {
  Start(kNumGroups);
  int64_t num_whole = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    random_.seed(seed);
    requests_.clear();
    keys_.clear();
    for (uint64_t round = 0; round < 40; ++round) {
      Round(seed * 1000 + round);
    }
    BeginAll();
    for (size_t idx = 0; idx < keys_.size(); ++idx) {
      if (cancelled_.contains(keys_[idx])) continue;
      WaitFor([&] { return HasEnded(idx); });
      for (int32_t index = 0; index < requests_[idx].sampling.n; ++index) {
        const HeardStream heard = ear_.Heard(keys_[idx], index);
        if (!heard.status.ok()) {
          // It has seen three groups go.
          EXPECT_EQ(heard.status.code(), absl::StatusCode::kInternal);
          break;
        }
        EXPECT_EQ(heard.tokens, ExpectedStream(requests_[idx], index)) << seed;
        ++num_whole;
      }
    }
    WaitUntilTidy();
    if (HasFailure()) return;
  }
  EXPECT_GT(num_whole, 300);
}

}  // namespace
}  // namespace quire
