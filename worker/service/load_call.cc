// SPDX-License-Identifier: Apache-2.0
#include "worker/service/load_call.h"

#include <limits>

#include "common/wire/status_wire.h"

namespace quire {
namespace {

// Sizes beyond what an int32_t holds become -1, which the loader refuses.
int32_t SizeOf(uint32_t value) {
  return value > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())
             ? -1
             : static_cast<int32_t>(value);
}

LoadSpec SpecOf(const v1::LoadRequest& request) {
  LoadSpec spec;
  spec.model_path = request.model_path();
  if (!request.dtype().empty()) spec.dtype = request.dtype();
  if (!request.load_format().empty()) {
    spec.load_format = request.load_format();
  }
  spec.seed = request.seed();
  spec.rank = SizeOf(request.rank());
  spec.world_size = SizeOf(request.world_size());
  spec.block_size = SizeOf(request.block_size());
  spec.virtual_page_bytes = SizeOf(request.virtual_page_bytes());
  spec.limits.max_num_seqs = SizeOf(request.max_num_seqs());
  spec.limits.max_num_batched_tokens = SizeOf(request.max_num_batched_tokens());
  spec.limits.max_model_len = SizeOf(request.max_model_len());
  spec.limits.sparse_pages = SizeOf(request.sparse_pages());
  return spec;
}

}  // namespace

LoadCall* LoadCall::Start(WorkerCore* core, const v1::LoadRequest& request) {
  const auto call = std::make_shared<LoadCall>();
  call->self_ = call;
  core->Load(
      Epoch(request.epoch().coordinator_epoch()),
      Epoch(request.epoch().group_epoch()), SpecOf(request),
      [call](const char* phase, int64_t bytes_done, int64_t bytes_total) {
        call->Show(phase, bytes_done, bytes_total);
      },
      [call](const absl::Status& status) { call->End(status); });
  return call.get();
}

void LoadCall::Show(const std::string& phase, int64_t bytes_done,
                    int64_t bytes_total) {
  absl::MutexLock lock(&mutex_);
  if (!is_heard_) return;
  if (to_write_.empty() || to_write_.back().phase() != phase) {
    to_write_.emplace_back();
  }
  bytes_total_ = bytes_total;
  to_write_.back().set_phase(phase);
  to_write_.back().set_bytes_done(bytes_done);
  to_write_.back().set_bytes_total(bytes_total);
  Proceed();
}

void LoadCall::End(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (status.ok() && is_heard_) {
    v1::LoadProgress& done = to_write_.emplace_back();
    done.set_phase("done");
    done.set_bytes_done(bytes_total_);
    done.set_bytes_total(bytes_total_);
  }
  end_ = status;
  Proceed();
}

void LoadCall::Proceed() {
  if (is_writing_ || has_finished_) return;
  if (!to_write_.empty()) {
    is_writing_ = true;
    writing_.Swap(&to_write_.front());
    to_write_.pop_front();
    StartWrite(&writing_);
    return;
  }
  if (!end_.has_value()) return;
  has_finished_ = true;
  Finish(ToGrpcStatus(*end_));
}

void LoadCall::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  is_writing_ = false;
  if (!ok) {
    is_heard_ = false;
    to_write_.clear();
  }
  Proceed();
}

}  // namespace quire
