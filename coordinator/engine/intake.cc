// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/intake.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/kv/kv_manager_registry.h"
#include "glog/logging.h"

namespace quire {

absl::StatusOr<RequestKey> Intake::Accept(const EngineRequest& request) {
  if (draining_) {
    return absl::UnavailableError("draining: no new requests are taken");
  }
  if (!closed_.ok()) return closed_;
  const int64_t num_tokens = static_cast<int64_t>(request.prompt.size());
  if (num_tokens == 0) {
    return absl::InvalidArgumentError("the prompt has no tokens");
  }
  if (request.sampling.beam_width > 0) {
    QUIRE_ASSIGN_OR_RETURN(const bool can_fork, CanFork(options_.kv_manager));
    if (!can_fork) {
      return absl::InvalidArgumentError(absl::StrCat(
          "beams share memory, which --kv_manager=", options_.kv_manager,
          " does not; paged does"));
    }
  }
  QUIRE_RETURN_IF_ERROR(CheckFits(num_tokens, request.sampling.max_tokens,
                                  NumSequences(request.sampling)));
  if (num_queued_ >= options_.max_queued_requests) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the queue is full: ", num_queued_, " requests wait, the limit is ",
        options_.max_queued_requests));
  }
  if (num_queued_tokens_ + num_tokens > options_.max_queued_tokens) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: prompts of ", num_queued_tokens_,
                     " tokens wait and this one has ", num_tokens,
                     ", the limit is ", options_.max_queued_tokens));
  }
  const RequestKey key(num_keys_ * num_engines_ + engine_idx_ + 1);
  if (!keys_.emplace(request.request_id, key).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("request ", request.request_id, " is running"));
  }
  ++num_keys_;
  ++num_queued_;
  num_queued_tokens_ += num_tokens;
  return key;
}

void Intake::Adopt(const std::string& request_id, RequestKey key,
                   bool is_queued, int64_t num_prompt_tokens) {
  CHECK(keys_.emplace(request_id, key).second) << request_id;
  if (!is_queued) return;
  ++num_queued_;
  num_queued_tokens_ += num_prompt_tokens;
}

absl::StatusOr<RequestKey> Intake::Find(const std::string& request_id) const {
  const auto it = keys_.find(request_id);
  if (it != keys_.end()) return it->second;
  return absl::NotFoundError(
      absl::StrCat("no running request has the id ", request_id));
}

void Intake::Left(int32_t num_requests, int64_t num_tokens) {
  num_queued_ -= num_requests;
  num_queued_tokens_ -= num_tokens;
  CHECK_GE(num_queued_, 0);
  CHECK_GE(num_queued_tokens_, 0);
}

void Intake::Open(int32_t num_blocks, int32_t block_size) {
  closed_ = absl::OkStatus();
  num_blocks_ = num_blocks;
  block_size_ = block_size;
}

}  // namespace quire
