// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's plans for virtual memory against a worker that prepares
// steps while others run: random sequences that come, grow and go.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "coordinator/kv/virtual_manager.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/batch/slot_state.h"
#include "worker/kv/row_shape.h"
#include "worker/kv/virtual_kv_cache.h"

namespace quire {
namespace {

constexpr int32_t kSlots = 6;
constexpr int32_t kMaxModelLen = 64;
constexpr int64_t kPageBytes = 4096;

// 512 bytes a token, 8 of them to a page; 8 page groups to a row.
RowShape Shape() {
  return MakeRowShape({/*num_layers=*/2, /*num_kv_heads=*/1, /*head_dim=*/32,
                       /*block_size=*/16, DType::kF32},
                      kPageBytes, kMaxModelLen);
}

// Page groups that a step writes or reads, by row.
using UsedGroups = std::map<int32_t, int32_t>;

struct Step {
  StepPlan plan;
  UsedGroups used;
};

// Plays the scheduler, which may release a slot while a step of it runs.
class Scheduler {
 public:
  Scheduler(uint32_t seed, int32_t num_groups)
      : random_(seed), kv_(Options(num_groups)) {}

  Step Next() {
    Step step;
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      if (seats_[slot].is_taken && OneIn(12)) Release(slot, &step.plan);
    }
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      if (seats_[slot].is_taken && !OneIn(5)) Continue(slot, &step);
    }
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      if (!seats_[slot].is_taken && OneIn(3)) Start(slot, &step);
    }
    if (!step.used.empty()) MapAhead(&step.plan);
    const absl::Status sane = kv_.CheckInvariants();
    EXPECT_TRUE(sane.ok()) << sane;
    return step;
  }

 private:
  struct Seat {
    bool is_taken = false;
    int32_t num_computed = 0;
    int32_t num_known = 0;  // or sampled by a step that may still run
  };

  static KvOptions Options(int32_t num_groups) {
    KvOptions options;
    options.num_blocks = num_groups;
    options.block_size = Shape().group_tokens;
    options.max_num_seqs = kSlots;
    options.max_model_len = kMaxModelLen;
    return options;
  }

  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % n); }
  bool OneIn(int32_t n) { return Below(n) == 0; }

  void Release(int32_t slot, StepPlan* plan) {
    kv_.Release(SlotId(slot));
    plan->released.push_back(SlotId(slot));
    seats_[slot].is_taken = false;
  }

  void Continue(int32_t slot, Step* step) {
    const Seat& seat = seats_[slot];
    const int32_t num_tokens =
        std::min(seat.num_known - seat.num_computed, 1 + Below(20));
    if (seat.num_computed + num_tokens > kMaxModelLen) return;
    if (kv_.Grow(SlotId(slot), seat.num_computed, num_tokens, &step->plan)
            .ok()) {
      AddSlice(slot, num_tokens, step);
    } else {
      Release(slot, &step->plan);
    }
  }

  void Start(int32_t slot, Step* step) {
    const std::vector<TokenId> tokens(1 + Below(40), 1);
    const auto num_known = static_cast<int32_t>(tokens.size());
    KvAdmission admission;
    admission.tokens = tokens;
    admission.num_new_tokens = 1 + Below(num_known);
    AdmittedSlot admitted;
    admitted.slot = SlotId(slot);
    admitted.tokens = tokens;
    admitted.num_prompt_tokens = num_known;
    if (!kv_.Admit(SlotId(slot), admission, &admitted, &step->plan).ok()) {
      return;
    }
    step->plan.admitted.push_back(admitted);
    seats_[slot] = {true, 0, num_known};
    AddSlice(slot, admission.num_new_tokens, step);
  }

  void AddSlice(int32_t slot, int32_t num_tokens, Step* step) {
    Seat& seat = seats_[slot];
    const bool is_first = seat.num_computed == 0;
    const int32_t num_left = seat.num_known - seat.num_computed;
    const bool samples = num_tokens == num_left;
    if (num_left == 1 && !is_first) {
      step->plan.decodes.push_back(SlotId(slot));
    } else {
      step->plan.chunks.push_back({SlotId(slot), num_tokens, samples});
    }
    seat.num_computed += num_tokens;
    if (samples) ++seat.num_known;
    const auto row = std::get<CacheRowId>(kv_.Placement(SlotId(slot)));
    step->used[row.value()] =
        (seat.num_computed - 1) / Shape().group_tokens + 1;
  }

  void MapAhead(StepPlan* plan) {
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      const Seat& seat = seats_[slot];
      if (!seat.is_taken) continue;
      const int32_t num_next = std::min(seat.num_known, seat.num_computed + 16);
      kv_.MapAhead(SlotId(slot), std::min(num_next, kMaxModelLen), plan);
    }
  }

  std::mt19937 random_;
  VirtualManager kv_;
  Seat seats_[kSlots];
};

struct Counts {
  int64_t num_ahead = 0;        // steps prepared while others ran
  int64_t num_taking = 0;       // of these, that took memory from rows
  int64_t num_waited = 0;       // steps that had to wait for those
  int64_t num_reused_rows = 0;  // rows admitted to while a step used them
};

// Plays the executor, with as many steps that run besides the one that is
// prepared as there may be.
class Rank {
 public:
  explicit Rank(int32_t num_groups) : slots_(Limits()) {
    CpuBackendOptions options;
    options.num_threads = 1;
    backend_ = *CpuBackend::Create(options);
    cache_ = *VirtualKvCache::Create(backend_.get(), Shape(), kSlots,
                                     num_groups, &clock_);
  }

  void Begin(const Step& step, Counts* counts) {
    if (running_.size() > KvStore::kMaxRunning) running_.pop_front();
    const bool takes = Takes(step.plan);
    if (!running_.empty()) {
      const bool is_ahead = cache_->MayPrepareAhead(step.plan);
      ++(is_ahead ? counts->num_ahead : counts->num_waited);
      counts->num_taking += is_ahead && takes ? 1 : 0;
      if (!is_ahead) running_.clear();
    }
    counts->num_reused_rows += NumReusedRows(step.plan);
    ExpectNothingTaken(step.plan);
    const absl::Status applied = slots_.Apply(step.plan);
    ASSERT_TRUE(applied.ok()) << applied;
    const absl::Status prepared = cache_->Prepare(step.plan, slots_);
    ASSERT_TRUE(prepared.ok()) << prepared;
    running_.push_back(step.used);
    // While memory may still come, for later steps.
    for (const UsedGroups& used : running_) Write(used);
    std::vector<UnknownToken> unknown;
    slots_.Advance(step.plan, &unknown);
    slots_.Fill(unknown, std::vector<TokenId>(unknown.size(), 1));
  }

 private:
  static SlotLimits Limits() {
    SlotLimits limits;
    limits.max_num_seqs = kSlots;
    limits.max_model_len = kMaxModelLen;
    limits.block_size = Shape().layout.block_size;
    limits.num_blocks = kSlots;
    limits.vocab_size = 100;
    return limits;
  }

  // Whether a row gets less memory than it had.
  bool Takes(const StepPlan& plan) {
    bool takes = false;
    for (const RowMapping& mapping : plan.mappings) {
      int32_t& num_groups = mapped_[mapping.row.value()];
      takes = takes || mapping.num_page_groups < num_groups;
      num_groups = mapping.num_page_groups;
    }
    return takes;
  }

  int64_t NumReusedRows(const StepPlan& plan) const {
    int64_t num_reused = 0;
    for (const AdmittedSlot& admitted : plan.admitted) {
      const int32_t row = std::get<CacheRowId>(admitted.cache).value();
      for (const UsedGroups& used : running_) num_reused += used.count(row);
    }
    return num_reused;
  }

  void ExpectNothingTaken(const StepPlan& plan) const {
    for (const RowMapping& mapping : plan.mappings) {
      for (const UsedGroups& used : running_) {
        const auto it = used.find(mapping.row.value());
        if (it == used.end()) continue;
        EXPECT_GE(mapping.num_page_groups, it->second)
            << "of row " << mapping.row.value() << ", which a step uses";
      }
    }
  }

  // A byte of each page.
  void Write(const UsedGroups& used) const {
    const RowShape shape = Shape();
    for (const auto& [row, num_groups] : used) {
      char* const begin = static_cast<char*>(cache_->view().base) +
                          row * shape.RowPages() * kPageBytes;
      for (int64_t page = 0; page < num_groups * shape.group_pages; ++page) {
        begin[page * kPageBytes] = 1;
      }
    }
  }

  RealClock clock_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<VirtualKvCache> cache_;
  SlotStates slots_;
  std::map<int32_t, int32_t> mapped_;  // groups, by row
  std::deque<UsedGroups> running_;     // the step begun first is the first
};

TEST(VirtualMemoryTest, NoPlanTakesMemoryFromAStepThatRuns) {
  Counts counts;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const auto num_groups = static_cast<int32_t>(10 + seed % 25);
    Scheduler scheduler(seed, num_groups);
    Rank rank(num_groups);
    for (int32_t step = 0; step < 300 && !HasFailure(); ++step) {
      rank.Begin(scheduler.Next(), &counts);
    }
    if (HasFailure()) return;
  }
  // Else there was little that could have gone wrong.
  EXPECT_GT(counts.num_ahead, 1000);
  EXPECT_GT(counts.num_taking, 1000);
  EXPECT_GT(counts.num_waited, 1000);
  EXPECT_GT(counts.num_reused_rows, 100);
}

}  // namespace
}  // namespace quire
