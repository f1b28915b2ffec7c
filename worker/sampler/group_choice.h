// SPDX-License-Identifier: Apache-2.0
//
// The choice of tokens by the devices of a group among themselves, without
// their hosts: of plain rows ranks exchange their shards' best.
#ifndef WORKER_SAMPLER_GROUP_CHOICE_H_
#define WORKER_SAMPLER_GROUP_CHOICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/sample.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller.
class GroupChoice {
 public:
  // Allocates for so many rows. `backend` and `collective` must live longer.
  static absl::StatusOr<std::unique_ptr<GroupChoice>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_seqs);

  // Enqueues Backend::ChooseTokens of all ranks' shards: `params` is of this
  // rank's, but for first_id and choices. Every rank calls it; may be recorded.
  absl::Status Enqueue(ChooseTokensParams params);

 private:
  GroupChoice(Backend* backend, Collective* collective, VocabShard vocab)
      : backend_(backend), collective_(collective), vocab_(vocab) {}

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  std::unique_ptr<DeviceBuffer> own_;  // [max_num_seqs] ShardChoice
  std::unique_ptr<DeviceBuffer> all_;  // [world_size, rows]
};

}  // namespace quire

#endif  // WORKER_SAMPLER_GROUP_CHOICE_H_
