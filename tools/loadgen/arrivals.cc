// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/arrivals.h"

#include <algorithm>
#include <cmath>

#include "tools/loadgen/random.h"

namespace quire {
namespace {

constexpr uint64_t kArrivalStream = 1;

// Requests per second when request `idx` of `num_requests` is due.
double RateAt(const ArrivalOptions& options, int64_t idx,
              int64_t num_requests) {
  const double progress = double(idx) / std::max<int64_t>(num_requests - 1, 1);
  const double start = options.ramp_up_start_rps;
  const double end = options.ramp_up_end_rps;
  switch (options.ramp_up) {
    case RampUp::kNone:
      break;
    case RampUp::kLinear:
      return start + (end - start) * progress;
    case RampUp::kExponential:
      return start * std::pow(end / start, progress);
  }
  return options.request_rate;
}

}  // namespace

std::vector<absl::Duration> ArrivalTimes(const ArrivalOptions& options,
                                         int64_t num_requests, int64_t seed) {
  Random random(seed, kArrivalStream);
  std::vector<double> times_s;
  double now_s = 0;
  for (int64_t idx = 0; idx < num_requests; ++idx) {
    const double rate = RateAt(options, idx, num_requests);
    if (std::isfinite(rate)) {
      now_s += random.Gamma(options.burstiness,
                            /*scale=*/1 / (rate * options.burstiness));
    }
    times_s.push_back(now_s);
  }
  double scale = 1;
  if (options.ramp_up == RampUp::kNone && now_s > 0) {
    scale = num_requests / options.request_rate / now_s;
  }
  std::vector<absl::Duration> times;
  for (const double time_s : times_s) {
    times.push_back(absl::Seconds(time_s * scale));
  }
  return times;
}

}  // namespace quire
