// SPDX-License-Identifier: Apache-2.0
//
// Who may enter. Answers a Submit at once, without the engine thread, from a
// few numbers that the engine publishes.
#ifndef COORDINATOR_ENGINE_INTAKE_H_
#define COORDINATOR_ENGINE_INTAKE_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_options.h"

namespace quire {

// Thread-compatible: the engine loop guards it with its inbox.
class Intake {
 public:
  // Of engine `engine_idx` of `num_engines`, whose keys are apart: engine i of
  // N gives i + 1, i + 1 + N, i + 1 + 2 N ...
  explicit Intake(const EngineOptions& options, int32_t engine_idx = 0,
                  int32_t num_engines = 1)
      : options_(options), engine_idx_(engine_idx), num_engines_(num_engines) {}

  // Accepts the request and gives it its key, or says why not (the codes of
  // EngineClient::Submit). An accepted one counts as queued until Left().
  absl::StatusOr<RequestKey> Accept(const EngineRequest& request);

  // InvalidArgument, with numbers, if the pool cannot hold such a request even
  // alone; of a closed intake, the last pool.
  absl::Status CheckFits(int64_t num_prompt_tokens, int64_t max_tokens,
                         int32_t num_seqs) const {
    return CheckFitsAlone(options_, num_blocks_, num_prompt_tokens, max_tokens,
                          block_size_, num_seqs);
  }

  // A request that another engine accepted is this one's from now on; it counts
  // as queued if it was never scheduled.
  void Adopt(const std::string& request_id, RequestKey key, bool is_queued,
             int64_t num_prompt_tokens);

  // NotFound if no such request is accepted and not ended.
  absl::StatusOr<RequestKey> Find(const std::string& request_id) const;

  // The engine took requests out of the queue, to run them or to end them.
  void Left(int32_t num_requests, int64_t num_tokens);
  void Ended(const std::string& request_id) { keys_.erase(request_id); }

  // Workers are there, with so many blocks, of so many tokens if that is not
  // --block_size; or not, because of `why`.
  void Open(int32_t num_blocks, int32_t block_size = 0);
  void Close(absl::Status why) { closed_ = std::move(why); }
  void BeginDrain() { draining_ = true; }

  int32_t num_queued() const { return num_queued_; }
  int64_t num_queued_tokens() const { return num_queued_tokens_; }
  int32_t num_accepted() const { return static_cast<int32_t>(keys_.size()); }
  bool is_open() const { return closed_.ok() && !draining_; }
  int32_t num_blocks() const { return num_blocks_; }

 private:
  const EngineOptions options_;
  const int32_t engine_idx_;
  const int32_t num_engines_;
  absl::Status closed_ =
      absl::UnavailableError("no worker group is ready yet; retry in a moment");
  bool draining_ = false;
  int32_t num_blocks_ = 0;
  int32_t block_size_ = 0;
  int32_t num_queued_ = 0;
  int64_t num_queued_tokens_ = 0;
  uint64_t num_keys_ = 0;
  absl::flat_hash_map<std::string, RequestKey> keys_;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_INTAKE_H_
