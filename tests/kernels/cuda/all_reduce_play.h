// SPDX-License-Identifier: Apache-2.0
//
// The protocol of kernels/cuda/all_reduce.h, played through by ranks whose
// threads go one step at a time, in random order.
#ifndef TESTS_KERNELS_CUDA_ALL_REDUCE_PLAY_H_
#define TESTS_KERNELS_CUDA_ALL_REDUCE_PLAY_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/all_reduce_plan.h"

namespace quire {

// kSent: a product sends what the call adds up (GemmParams::peers). kNorm: a
// block a row, with the norm. kSentNorm: both.
enum class Way { kOneShot, kTwoShot, kSent, kNorm, kSentNorm };

constexpr bool IsSent(Way way) {
  return way == Way::kSent || way == Way::kSentNorm;
}
constexpr bool HasRows(Way way) {
  return way == Way::kNorm || way == Way::kSentNorm;
}

struct Call {
  Way way;
  int64_t num_vectors;  // of a row, if it has rows
  int64_t num_rows = 1;
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

enum class Act {
  kSend,
  kTake,
  kLook,   // what is there is taken later, if whose turn it was is confirmed
  kAwait,  // the block's other threads
};

// One access of a thread: to a place of a rank's inbox.
struct Step {
  Act act;
  int32_t rank = 0;  // whose inbox
  int64_t place = 0;
  Message message = {};  // sent or expected
};

// What may go wrong on the way.
struct Trouble {
  int32_t victim = -1;   // dies at that turn of the play
  int64_t death = 0;     // the same turns count for what follows
  int64_t word = -1;     // when hosts begin to say so; negative: never
  bool confirms = true;  // whose turn it is, before what was seen counts
};

class Play {
 public:
  // `num_halves` other than two is not what the kernels do. Blocks have
  // `num_threads` each; there is one but for calls of rows.
  Play(int32_t num_ranks, int32_t num_threads, int32_t num_halves,
       std::vector<Call> calls, uint32_t seed, const Trouble& trouble = {})
      : num_ranks_(num_ranks),
        num_threads_(num_threads),
        num_halves_(num_halves),
        calls_(std::move(calls)),
        trouble_(trouble),
        random_(seed),
        inboxes_(num_ranks),
        ranks_(num_ranks) {
    for (int32_t rank = 0; rank < num_ranks; ++rank) Begin(rank);
  }

  // What went wrong; empty: nothing.
  std::string Run() {
    // Some ranks are slow, for a while.
    std::vector<double> weights(num_ranks_, 1.0);
    for (turn_ = 0; error_.empty(); ++turn_) {
      if (turn_ % 500 == 0) {
        for (double& weight : weights) weight = random_() % 3 ? 1.0 : 0.001;
      }
      HearOfTheEnd();
      std::discrete_distribution<int32_t> pick(weights.begin(), weights.end());
      // Whoever is picked may have nothing to do; then anybody who has.
      const int32_t first = pick(random_);
      int32_t tried = 0;
      while (tried < num_ranks_ && !Advance((first + tried) % num_ranks_)) {
        ++tried;
      }
      if (tried == num_ranks_ && !IsSomethingToCome()) break;
    }
    return error_.empty() ? Remains() : error_;
  }

  // Calls that all ranks but the victim began.
  int64_t num_begun() const {
    int64_t least = static_cast<int64_t>(calls_.size());
    for (int32_t rank = 0; rank < num_ranks_; ++rank) {
      if (rank != trouble_.victim) least = std::min(least, ranks_[rank].call);
    }
    return least;
  }

 private:
  struct Thread {
    std::vector<Step> steps;
    size_t next = 0;
    std::unordered_map<int64_t, Message> seen;  // by kLook, by place
  };
  // Blocks of threads. A kernel begins when the one before it has ended.
  using Kernel = std::vector<std::vector<Thread>>;
  struct Rank {
    int64_t call = 0;
    std::vector<Kernel> kernels;  // that are left of the call, the last first
    bool is_over = false;         // the host has said so
  };

  std::string Remains() const {
    for (int32_t rank = 0; rank < num_ranks_; ++rank) {
      if (rank == trouble_.victim) continue;
      if (ranks_[rank].call < static_cast<int64_t>(calls_.size())) {
        return absl::StrCat("rank ", rank, " waits for ever in call ",
                            ranks_[rank].call);
      }
      if (trouble_.victim < 0 && !inboxes_[rank].empty()) {
        return absl::StrCat("rank ", rank, " has left something unread");
      }
    }
    return "";
  }

  // Hosts hear of a death one after the other.
  void HearOfTheEnd() {
    if (!HasEnd() || turn_ < trouble_.word) return;
    const int64_t num_told = (turn_ - trouble_.word) / 50;
    for (int32_t rank = 0; rank < num_ranks_; ++rank) {
      if (rank <= num_told) ranks_[rank].is_over = true;
    }
  }
  bool HasEnd() const { return trouble_.victim >= 0 && trouble_.word >= 0; }
  bool IsSomethingToCome() const {
    return HasEnd() && !ranks_[num_ranks_ - 1].is_over;
  }

  void Begin(int32_t rank) {
    Rank& r = ranks_[rank];
    if (r.call == static_cast<int64_t>(calls_.size())) return;
    const Call& call = calls_[r.call];
    Kernel& sum = r.kernels.emplace_back();
    if (HasRows(call.way)) {
      sum.resize(1 + r.call % call.num_rows);
      PlanRows(rank, &sum);
    } else {
      sum.assign(1, std::vector<Thread>(num_threads_));
      for (int32_t i = 0; i < num_threads_; ++i) {
        std::vector<Step>* const steps = &sum[0][i].steps;
        call.way == Way::kTwoShot ? PlanTwoShot(rank, i, steps)
                                  : PlanOneShot(rank, i, steps);
      }
    }
    if (!IsSent(call.way)) return;
    // The product, whose threads have vectors as its tiles have them.
    Kernel& product = r.kernels.emplace_back();
    product.assign(1, std::vector<Thread>(num_threads_ + 1));
    for (int64_t i = 0; i < call.num_vectors * call.num_rows; ++i) {
      AddSends(rank, i, &product[0][random_() % product[0].size()].steps);
    }
  }

  int64_t PlaceOf(int64_t call, int64_t offset, int64_t vector) const {
    return call % num_halves_ * kInboxHalf + offset + vector * kVectorBytes;
  }

  void AddSends(int32_t rank, int64_t vector, std::vector<Step>* steps) const {
    const int64_t call = ranks_[rank].call;
    for (int32_t k = 1; k < num_ranks_; ++k) {
      steps->push_back({Act::kSend,
                        (rank + k) % num_ranks_,
                        PlaceOf(call, OneShotOffset(num_ranks_, rank), vector),
                        {call, rank, vector}});
    }
  }

  // Of one shot, from every peer. `turn`: the call whose places are meant.
  void AddTakes(int32_t rank, Act act, int64_t vector, int64_t turn,
                std::vector<Step>* steps) const {
    for (int32_t k = 1; k < num_ranks_; ++k) {
      const int32_t from = (rank + k) % num_ranks_;
      steps->push_back({act,
                        rank,
                        PlaceOf(turn, OneShotOffset(num_ranks_, from), vector),
                        {ranks_[rank].call, from, vector}});
    }
  }

  // As OneShotKernel, and gathering.
  void PlanOneShot(int32_t rank, int32_t thread, std::vector<Step>* steps) {
    const int64_t call = ranks_[rank].call;
    const int64_t n = calls_[call].num_vectors;
    for (int64_t i = thread; !IsSent(calls_[call].way) && i < n;
         i += num_threads_) {
      AddSends(rank, i, steps);
    }
    for (int64_t i = thread; i < n; i += num_threads_) {
      AddTakes(rank, Act::kTake, i, call, steps);
    }
  }

  // As OneShotNormKernel: all rows of a block are sent before its first is
  // taken, and a row ends in every thread before the next. What was sent ahead
  // is looked at by a guess of the turn, which may be the last call's.
  void PlanRows(int32_t rank, Kernel* blocks) {
    const int64_t call = ranks_[rank].call;
    const bool is_sent = IsSent(calls_[call].way);
    const int64_t n = calls_[call].num_vectors;
    const int64_t num_rows = calls_[call].num_rows;
    const auto num_blocks = static_cast<int64_t>(blocks->size());
    for (int64_t block = 0; block < num_blocks; ++block) {
      (*blocks)[block].resize(num_threads_);
      const int64_t guess = call - (call > 0 && random_() % 2 ? 1 : 0);
      for (int32_t thread = 0; thread < num_threads_; ++thread) {
        std::vector<Step>& steps = (*blocks)[block][thread].steps;
        for (int64_t row = block; !is_sent && row < num_rows;
             row += num_blocks) {
          for (int64_t i = thread; i < n; i += num_threads_) {
            AddSends(rank, row * n + i, &steps);
          }
        }
        for (int64_t i = thread; is_sent && i < n; i += num_threads_) {
          if (guess != call && trouble_.confirms) break;  // and begins anew
          AddTakes(rank, Act::kLook, block * n + i, guess, &steps);
        }
        for (int64_t row = block; row < num_rows; row += num_blocks) {
          for (int64_t i = thread; i < n; i += num_threads_) {
            AddTakes(rank, Act::kTake, row * n + i, call, &steps);
          }
          steps.push_back({.act = Act::kAwait});
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
        steps->push_back({Act::kSend,
                          to,
                          PlaceOf(call, PartOffset(num_ranks_, rank), i),
                          {call, rank, slice.begin + i}});
      }
    });
    const VectorSlice own = slice_of(rank);
    for (int64_t i = thread; i < own.size(); i += num_threads_) {
      each_other([&](int32_t from) {
        steps->push_back({Act::kTake,
                          rank,
                          PlaceOf(call, PartOffset(num_ranks_, from), i),
                          {call, from, own.begin + i}});
      });
      each_other([&](int32_t to) {
        steps->push_back({Act::kSend,
                          to,
                          PlaceOf(call, SumOffset(num_ranks_, rank), i),
                          {call, rank, own.begin + i}});
      });
    }
    each_other([&](int32_t from) {
      const VectorSlice slice = slice_of(from);
      for (int64_t i = thread; i < slice.size(); i += num_threads_) {
        steps->push_back({Act::kTake,
                          rank,
                          PlaceOf(call, SumOffset(num_ranks_, from), i),
                          {call, from, slice.begin + i}});
      }
    });
  }

  // Lets one of a rank's threads go a step; false if none can. A call begins
  // when the one before it has ended in every thread.
  bool Advance(int32_t rank) {
    if (rank == trouble_.victim && turn_ >= trouble_.death) return false;
    Rank& r = ranks_[rank];
    if (r.call == static_cast<int64_t>(calls_.size())) return false;
    Kernel& kernel = r.kernels.back();
    const uint32_t first = random_();
    bool has_ended = true;
    for (size_t b = 0; b < kernel.size(); ++b) {
      std::vector<Thread>& block = kernel[(first + b) % kernel.size()];
      for (size_t i = 0; i < block.size(); ++i) {
        Thread& thread = block[(first + i) % block.size()];
        if (thread.next == thread.steps.size()) continue;
        has_ended = false;
        if (!Do(rank, block, &thread)) continue;
        ++thread.next;
        return true;
      }
    }
    if (!has_ended) return false;
    r.kernels.pop_back();
    if (r.kernels.empty()) {
      ++r.call;
      Begin(rank);
    }
    return true;
  }

  // How many times a thread has waited for its block, and whether it does.
  static int64_t NumAwaited(const Thread& thread) {
    const auto end =
        thread.steps.begin() + std::min(thread.next + 1, thread.steps.size());
    return std::count_if(thread.steps.begin(), end, [](const Step& step) {
      return step.act == Act::kAwait;
    });
  }

  bool Do(int32_t rank, const std::vector<Thread>& block, Thread* thread) {
    const Step& step = thread->steps[thread->next];
    switch (step.act) {
      case Act::kAwait:
        return std::all_of(block.begin(), block.end(), [&](const Thread& t) {
          return NumAwaited(t) >= NumAwaited(*thread);
        });
      case Act::kSend:
        Send(rank, step);
        return true;
      case Act::kLook:
        if (const auto it = inboxes_[rank].find(step.place);
            it != inboxes_[rank].end()) {
          // Where it is to be taken from, whichever half it was looked for in.
          thread->seen[PlaceOf(step.message.call, step.place % kInboxHalf, 0)] =
              it->second;
        }
        return true;
      case Act::kTake:
        return Take(rank, step, thread);
    }
    return false;
  }

  void Send(int32_t rank, const Step& step) {
    auto& inbox = inboxes_[step.rank];
    const auto it = inbox.find(step.place);
    // Once the group is over nothing means anything.
    if (it != inbox.end() && !ranks_[rank].is_over) {
      error_ =
          absl::StrCat("rank ", rank, " overwrites in call ", step.message.call,
                       " what was sent in call ", it->second.call);
    }
    inbox[step.place] = step.message;
  }

  bool Take(int32_t rank, const Step& step, Thread* thread) {
    auto& inbox = inboxes_[rank];
    const auto seen = thread->seen.find(step.place);
    const auto it = inbox.find(step.place);
    const bool is_over = ranks_[rank].is_over;
    if (seen == thread->seen.end() && it == inbox.end()) return is_over;
    const Message& found =
        seen != thread->seen.end() ? seen->second : it->second;
    if (!(found == step.message) && !is_over) {
      error_ = absl::StrCat("rank ", rank, " reads in call ", step.message.call,
                            " what was sent in call ", found.call);
    }
    inbox.erase(step.place);
    return true;
  }

  const int32_t num_ranks_;
  const int32_t num_threads_;
  const int32_t num_halves_;
  const std::vector<Call> calls_;
  const Trouble trouble_;
  std::mt19937 random_;
  // What is not empty, by place.
  std::vector<std::unordered_map<int64_t, Message>> inboxes_;
  std::vector<Rank> ranks_;
  int64_t turn_ = 0;  // of the play
  std::string error_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_ALL_REDUCE_PLAY_H_
