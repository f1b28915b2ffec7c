// SPDX-License-Identifier: Apache-2.0
//
// Log probabilities of steps on their way from the device to the host.
#ifndef WORKER_SAMPLER_LOGPROB_FLIGHTS_H_
#define WORKER_SAMPLER_LOGPROB_FLIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "kernels/shaped_choice.h"
#include "worker/sampler/step_input.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Buffers grow to
// the largest step; Read() allocates what it appends.
class LogprobFlights {
 public:
  // Steps whose log probabilities may be on their way at once.
  static constexpr int32_t kMaxFlights = StepInput::kMaxFlights;

  // `backend` must live longer.
  explicit LogprobFlights(Backend* backend) : backend_(backend) {}

  // Room for steps of so many rows.
  absl::Status Reserve(int32_t num_rows);

  // Begins a step of these rows, perhaps none.
  // REQUIRES: the flight's last step has run.
  absl::Status Begin(int32_t flight, const std::vector<LogprobRow>& rows);

  // Where the device writes those of the step that was begun last, row by row;
  // null before there were any.
  TokenLogprobs* on_device() const {
    return device_ == nullptr ? nullptr : device_->as<TokenLogprobs>();
  }

  // Enqueues their way back, if there are any.
  absl::Status Fetch(int32_t flight);

  // Appends those of a flight whose step has run.
  void Read(int32_t flight, std::vector<SampledLogprobs>* out) const;

 private:
  struct Flight {
    std::unique_ptr<DeviceBuffer> host;  // pinned
    std::vector<LogprobRow> rows;
  };

  Backend* const backend_;
  std::unique_ptr<DeviceBuffer> device_;
  Flight flights_[kMaxFlights];
};

}  // namespace quire

#endif  // WORKER_SAMPLER_LOGPROB_FLIGHTS_H_
