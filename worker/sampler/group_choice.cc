// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/group_choice.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"

namespace quire {

absl::StatusOr<std::unique_ptr<GroupChoice>> GroupChoice::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs) {
  auto choice = absl::WrapUnique(new GroupChoice(backend, collective, vocab));
  const int64_t bytes = max_num_seqs * int64_t{sizeof(ShardChoice)};
  QUIRE_ASSIGN_OR_RETURN(choice->own_, backend->Allocate(bytes));
  QUIRE_ASSIGN_OR_RETURN(choice->all_,
                         backend->Allocate(collective->world_size() * bytes));
  return choice;
}

absl::Status GroupChoice::Enqueue(ChooseTokensParams params) {
  params.first_id = vocab_.first_id;
  params.choices = own_->as<ShardChoice>();
  QUIRE_RETURN_IF_ERROR(backend_->ChooseTokens(params));
  QUIRE_RETURN_IF_ERROR(collective_->EnqueueAllGather(
      own_->data(), all_->data(),
      params.num_rows * int64_t{sizeof(ShardChoice)}));
  return backend_->MergeChoices({.choices = all_->as<ShardChoice>(),
                                 .rows = params.rows,
                                 .tokens = params.tokens,
                                 .by_slot = params.by_slot,
                                 .num_shards = collective_->world_size(),
                                 .num_rows = params.num_rows});
}

}  // namespace quire
