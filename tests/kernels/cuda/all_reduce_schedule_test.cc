// SPDX-License-Identifier: Apache-2.0
//
// The protocol of kernels/cuda/all_reduce.h played through by 2, 4 and 8 ranks,
// word by word in random order: nobody overwrites what has not been read, reads
// what was not meant for it, or waits for ever. A product that sends for a call
// (GemmParams::peers) runs after the call before, as the call's own sends do.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/cuda/all_reduce_plan.h"

namespace quire {
namespace {

enum class Way { kOneShot, kTwoShot };

struct Call {
  Way way;
  int64_t num_vectors;
};

// A vector as it lies in an inbox: who sent it in which call as which.
struct Message {
  int64_t call;
  int32_t sender;
  int64_t vector;
  bool operator==(const Message& o) const {
    return call == o.call && sender == o.sender && vector == o.vector;
  }
};

// One access of a thread: to a place of a rank's inbox.
struct Step {
  bool is_take;
  int32_t rank;  // whose inbox
  int64_t place;
  Message message;  // sent or expected
};

class Play {
 public:
  // `num_halves` other than two is not what the kernels do.
  Play(int32_t num_ranks, int32_t num_threads, int32_t num_halves,
       std::vector<Call> calls, uint32_t seed)
      : num_ranks_(num_ranks),
        num_threads_(num_threads),
        num_halves_(num_halves),
        calls_(std::move(calls)),
        random_(seed),
        inboxes_(num_ranks),
        ranks_(num_ranks) {
    for (int32_t rank = 0; rank < num_ranks; ++rank) Begin(rank);
  }

  // What went wrong; empty: nothing.
  std::string Run() {
    // Some ranks are slow, for a while.
    std::vector<double> weights(num_ranks_, 1.0);
    for (int64_t turn = 0; error_.empty(); ++turn) {
      if (turn % 500 == 0) {
        for (double& weight : weights) weight = random_() % 3 ? 1.0 : 0.001;
      }
      std::discrete_distribution<int32_t> pick(weights.begin(), weights.end());
      // Whoever is picked may have nothing to do; then anybody who has.
      const int32_t first = pick(random_);
      int32_t tried = 0;
      while (tried < num_ranks_ && !Advance((first + tried) % num_ranks_)) {
        ++tried;
      }
      if (tried == num_ranks_) break;
    }
    if (!error_.empty()) return error_;
    for (int32_t rank = 0; rank < num_ranks_; ++rank) {
      if (ranks_[rank].call < static_cast<int64_t>(calls_.size())) {
        return absl::StrCat("rank ", rank, " waits for ever in call ",
                            ranks_[rank].call);
      }
      if (!inboxes_[rank].empty()) {
        return absl::StrCat("rank ", rank, " has left something unread");
      }
    }
    return "";
  }

 private:
  struct Thread {
    std::vector<Step> steps;
    size_t next = 0;
  };
  struct Rank {
    int64_t call = 0;
    std::vector<Thread> threads;
  };

  void Begin(int32_t rank) {
    Rank& r = ranks_[rank];
    r.threads.assign(num_threads_, {});
    if (r.call == static_cast<int64_t>(calls_.size())) return;
    for (int32_t i = 0; i < num_threads_; ++i) {
      calls_[r.call].way == Way::kOneShot
          ? PlanOneShot(rank, i, &r.threads[i].steps)
          : PlanTwoShot(rank, i, &r.threads[i].steps);
    }
  }

  int64_t PlaceOf(int64_t call, int64_t offset, int64_t vector) const {
    return call % num_halves_ * kInboxHalf + offset + vector * kVectorBytes;
  }

  // As OneShotKernel, and gathering.
  void PlanOneShot(int32_t rank, int32_t thread, std::vector<Step>* steps) {
    const int64_t call = ranks_[rank].call;
    const int64_t n = calls_[call].num_vectors;
    for (const bool is_take : {false, true}) {
      for (int64_t i = thread; i < n; i += num_threads_) {
        for (int32_t k = 1; k < num_ranks_; ++k) {
          const int32_t other = (rank + k) % num_ranks_;
          const int32_t sender = is_take ? other : rank;
          steps->push_back({is_take,
                            is_take ? rank : other,
                            PlaceOf(call, OneShotOffset(num_ranks_, sender), i),
                            {call, sender, i}});
        }
      }
    }
  }

  // As TwoShotKernel.
  void PlanTwoShot(int32_t rank, int32_t thread, std::vector<Step>* steps) {
    const int64_t call = ranks_[rank].call;
    const int64_t n = calls_[call].num_vectors;
    const auto slice_of = [&](int32_t r) { return SliceOf(n, r, num_ranks_); };
    const auto each_other = [&](const std::function<void(int32_t)>& visit) {
      for (int32_t k = 1; k < num_ranks_; ++k) visit((rank + k) % num_ranks_);
    };
    each_other([&](int32_t to) {
      const VectorSlice slice = slice_of(to);
      for (int64_t i = thread; i < slice.size(); i += num_threads_) {
        steps->push_back({false,
                          to,
                          PlaceOf(call, PartOffset(num_ranks_, rank), i),
                          {call, rank, slice.begin + i}});
      }
    });
    const VectorSlice own = slice_of(rank);
    for (int64_t i = thread; i < own.size(); i += num_threads_) {
      each_other([&](int32_t from) {
        steps->push_back({true,
                          rank,
                          PlaceOf(call, PartOffset(num_ranks_, from), i),
                          {call, from, own.begin + i}});
      });
      each_other([&](int32_t to) {
        steps->push_back({false,
                          to,
                          PlaceOf(call, SumOffset(num_ranks_, rank), i),
                          {call, rank, own.begin + i}});
      });
    }
    each_other([&](int32_t from) {
      const VectorSlice slice = slice_of(from);
      for (int64_t i = thread; i < slice.size(); i += num_threads_) {
        steps->push_back({true,
                          rank,
                          PlaceOf(call, SumOffset(num_ranks_, from), i),
                          {call, from, slice.begin + i}});
      }
    });
  }

  // Lets one of a rank's threads go a step; false if none can. A call begins
  // when the one before it has ended in every thread.
  bool Advance(int32_t rank) {
    Rank& r = ranks_[rank];
    if (r.call == static_cast<int64_t>(calls_.size())) return false;
    const int32_t first = random_() % num_threads_;
    bool has_ended = true;
    for (int32_t i = 0; i < num_threads_; ++i) {
      Thread& thread = r.threads[(first + i) % num_threads_];
      if (thread.next == thread.steps.size()) continue;
      has_ended = false;
      if (!Do(rank, thread.steps[thread.next])) continue;
      ++thread.next;
      return true;
    }
    if (!has_ended) return false;
    ++r.call;
    Begin(rank);
    return true;
  }

  bool Do(int32_t rank, const Step& step) {
    auto& inbox = inboxes_[step.rank];
    const auto it = inbox.find(step.place);
    if (!step.is_take) {
      if (it != inbox.end()) {
        error_ = absl::StrCat("rank ", rank, " overwrites in call ",
                              step.message.call, " what was sent in call ",
                              it->second.call);
      }
      inbox[step.place] = step.message;
      return true;
    }
    if (it == inbox.end()) return false;
    if (!(it->second == step.message)) {
      error_ = absl::StrCat("rank ", rank, " reads in call ", step.message.call,
                            " what was sent in call ", it->second.call);
    }
    inbox.erase(it);
    return true;
  }

  const int32_t num_ranks_;
  const int32_t num_threads_;
  const int32_t num_halves_;
  const std::vector<Call> calls_;
  std::mt19937 random_;
  // What is not empty, by place.
  std::vector<std::unordered_map<int64_t, Message>> inboxes_;
  std::vector<Rank> ranks_;
  std::string error_;
};

std::vector<Call> RandomCalls(int32_t num_ranks, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Call> calls;
  for (int i = 0; i < 24; ++i) {
    const Way way = random() % 2 ? Way::kOneShot : Way::kTwoShot;
    const int64_t least =
        way == Way::kTwoShot ? MinTwoShotVectors(num_ranks) : 1;
    calls.push_back({way, least + static_cast<int64_t>(random() % 21)});
  }
  return calls;
}

TEST(AllReduceScheduleTest, AnyOrderOfRanksAndThreadsIsSafe) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    for (uint32_t seed = 0; seed < 40; ++seed) {
      Play play(num_ranks, 1 + seed % 5, /*num_halves=*/2,
                RandomCalls(num_ranks, seed), seed);
      ASSERT_EQ(play.Run(), "") << num_ranks << " ranks, seed " << seed;
    }
  }
}

TEST(AllReduceScheduleTest, OneHalfWouldNotDo) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    int num_wrong = 0;
    for (uint32_t seed = 0; seed < 20; ++seed) {
      Play play(num_ranks, 3, /*num_halves=*/1, RandomCalls(num_ranks, seed),
                seed);
      num_wrong += !play.Run().empty();
    }
    EXPECT_GT(num_wrong, 0) << num_ranks << " ranks";
  }
}

}  // namespace
}  // namespace quire
