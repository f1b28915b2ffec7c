// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/logprob_flights.h"

#include "common/status_macros.h"

namespace quire {
namespace {

int64_t BytesOf(size_t num_rows) {
  return static_cast<int64_t>(num_rows * sizeof(TokenLogprobs));
}

}  // namespace

absl::Status LogprobFlights::Reserve(int32_t num_rows) {
  for (Flight& flight : flights_) {
    flight.rows.reserve(num_rows);
    QUIRE_RETURN_IF_ERROR(GrowHost(backend_, BytesOf(num_rows), &flight.host));
  }
  return GrowDevice(backend_, BytesOf(num_rows), &device_);
}

absl::Status LogprobFlights::Begin(int32_t flight,
                                   const std::vector<LogprobRow>& rows) {
  Flight& own = flights_[flight];
  own.rows.assign(rows.begin(), rows.end());
  if (rows.empty()) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(GrowHost(backend_, BytesOf(rows.size()), &own.host));
  return GrowDevice(backend_, BytesOf(rows.size()), &device_);
}

absl::Status LogprobFlights::Fetch(int32_t flight) {
  const Flight& own = flights_[flight];
  if (own.rows.empty()) return absl::OkStatus();
  return backend_->CopyToHost(device_->data(), own.host->data(),
                              BytesOf(own.rows.size()));
}

void LogprobFlights::Read(int32_t flight,
                          std::vector<SampledLogprobs>* out) const {
  const Flight& own = flights_[flight];
  for (size_t i = 0; i < own.rows.size(); ++i) {
    const TokenLogprobs& one = own.host->as<TokenLogprobs>()[i];
    SampledLogprobs& sampled = out->emplace_back();
    sampled.sample_idx = own.rows[i].row;
    sampled.logprob = one.logprob;
    sampled.rank = one.rank;
    for (int32_t j = 0; j < own.rows[i].num_top; ++j) {
      if (one.top_ids[j] < 0) break;
      sampled.top.push_back({one.top_ids[j], one.top_logprobs[j]});
    }
  }
}

}  // namespace quire
