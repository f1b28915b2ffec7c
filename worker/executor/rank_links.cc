// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/rank_links.h"

#include <algorithm>

#include "absl/time/time.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr int64_t kSizes[] = {8 << 10, 64 << 10, 512 << 10, 4 << 20};
constexpr int kCalls = 8;  // one behind the other
constexpr int kRounds = 2;

}  // namespace

absl::StatusOr<RankLinks> MeasureLinks(Backend* backend, Collective* collective,
                                       bool is_recorded, const Clock& clock) {
  RankLinks links;
  if (collective->world_size() == 1) return links;
  links.collective = collective->name();
  links.links = collective->links();
  const int64_t most = *std::max_element(std::begin(kSizes), std::end(kSizes));
  QUIRE_ASSIGN_OR_RETURN(const auto data, backend->Allocate(most));
  for (const int64_t bytes : kSizes) {
    const auto sum = [&]() -> absl::Status {
      for (int call = 0; call < kCalls; ++call) {
        QUIRE_RETURN_IF_ERROR(collective->AllReduceSum(
            data->data(), bytes / SizeOf(backend->dtype()), backend->dtype()));
      }
      return absl::OkStatus();
    };
    QUIRE_RETURN_IF_ERROR(sum());
    QUIRE_RETURN_IF_ERROR(backend->Synchronize());
    std::unique_ptr<Recording> recording;
    if (is_recorded) {
      QUIRE_ASSIGN_OR_RETURN(recording, backend->Record(sum));
    }
    absl::Duration least = absl::InfiniteDuration();
    for (int round = 0; round < kRounds; ++round) {
      QUIRE_RETURN_IF_ERROR(collective->Barrier());
      const absl::Time start = clock.Now();
      QUIRE_RETURN_IF_ERROR(is_recorded ? backend->Replay(recording.get())
                                        : sum());
      QUIRE_RETURN_IF_ERROR(backend->Synchronize());
      least = std::min(least, clock.Now() - start);
    }
    links.all_reduce.push_back(
        {bytes, absl::ToDoubleMicroseconds(least) / kCalls});
  }
  return links;
}

}  // namespace quire
