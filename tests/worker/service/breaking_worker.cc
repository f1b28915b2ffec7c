// SPDX-License-Identifier: Apache-2.0
//
// A worker whose device, which computes nothing, is lost in the forward pass
// that --breaks_at counts to, from when on its driver never returns from giving
// anything back; 0: while it loads.
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/flags/flag.h"
#include "common/model_config.h"
#include "common/status_macros.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "tests/worker/service/doomed_worker.h"
#include "worker/collective/solo.h"
#include "worker/executor/lost_device.h"

ABSL_FLAG(int, breaks_at, 0, "forward passes");

namespace quire {
namespace {

class BreakingModel final : public Model {
 public:
  BreakingModel(std::unique_ptr<FakeModel> model, FakeBackend* device)
      : model_(std::move(model)), device_(device) {}
  // A driver that has lost its device.
  ~BreakingModel() override {
    while (true) pause();
  }

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override {
    if (++num_passes_ == absl::GetFlag(FLAGS_breaks_at)) Break();
    return model_->Forward(batch, cache);
  }
  absl::StatusOr<const float*> Logits(const int32_t* rows,
                                      int32_t num_rows) override {
    return model_->Logits(rows, num_rows);
  }
  VocabShard vocab_shard() const override { return model_->vocab_shard(); }
  KvLayout kv_layout(int32_t block_size) const override {
    return model_->kv_layout(block_size);
  }
  int64_t weight_bytes() const override { return model_->weight_bytes(); }
  int64_t activation_bytes() const override {
    return model_->activation_bytes();
  }

  void Break() {
    device_->Break(absl::InternalError("norm: an illegal memory access"));
  }

 private:
  const std::unique_ptr<FakeModel> model_;
  FakeBackend* const device_;
  int num_passes_ = 0;
};

absl::StatusOr<std::unique_ptr<Executor>> Load(const LoadSpec& spec,
                                               const Clock* clock) {
  QUIRE_ASSIGN_OR_RETURN(const ModelConfig config,
                         ModelConfig::FromFolder(spec.model_path));
  auto device = std::make_unique<FakeBackend>();
  device->set_asynchronous();
  ExecutorParts parts;
  parts.collective = std::make_unique<SoloCollective>();
  auto* const model = new BreakingModel(
      std::make_unique<FakeModel>(parts.collective.get(), config.vocab_size,
                                  spec.limits),
      device.get());
  if (absl::GetFlag(FLAGS_breaks_at) == 0) {
    model->Break();
    return MarkIfLost(absl::InternalError("weights: not there"), device.get());
  }
  parts.model.reset(model);
  parts.backend = std::move(device);
  parts.limits = spec.limits;
  parts.block_size = spec.block_size;
  parts.vocab_size = config.vocab_size;
  return Executor::Create(std::move(parts), clock);
}

int Main() {
  WorkerProcessOptions options;
  options.link.device = "cpu";
  // For a machine on which much else runs: it is no wait.
  options.last_words_timeout = absl::Seconds(60);
  GroupEnd group_end;
  return RunDoomedWorker(
      options,
      [](const LoadSpec& spec, const LoadObserver&, KeyBoard*,
         const Clock* clock) { return Load(spec, clock); },
      &group_end);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginDoomedWorker(argc, argv);
  return quire::Main();
}
