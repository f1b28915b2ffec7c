// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/loadgen/arrivals.h"
#include "tools/loadgen/random.h"

namespace quire {
namespace {

constexpr uint64_t kSeedStream = 3;
constexpr uint64_t kCancelStream = 4;
constexpr uint64_t kServiceStream = 5;

int64_t Draw(const std::vector<int64_t>& values, Random* random) {
  return values[random->UniformInt(0, values.size() - 1)];
}

// Of one request; its own, whatever the others are.
Random RandomOf(const LoadgenOptions& options, int64_t idx, uint64_t stream) {
  return Random(static_cast<uint64_t>(options.seed) + idx, stream);
}

// How many sequences the request has, how they come about, and its priority:
// by its own part of the seed, so that a repetition asks for the same.
void SetService(const LoadgenOptions& options, int64_t idx,
                v1::GenerateRequest* request) {
  Random random = RandomOf(options, idx, kServiceStream);
  v1::SamplingParams* sampling = request->mutable_sampling();
  const int64_t n = Draw(options.n, &random);
  const int64_t width = Draw(options.beam_width, &random);
  request->set_priority(static_cast<int32_t>(Draw(options.priority, &random)));
  if (width >= 2) {
    sampling->set_beam_width(static_cast<uint32_t>(width));
    sampling->set_n(static_cast<uint32_t>(std::min(n, width)));
    return;
  }
  sampling->set_n(static_cast<uint32_t>(n));
  if (options.temperature) sampling->set_temperature(*options.temperature);
  if (options.top_p) sampling->set_top_p(*options.top_p);
  if (options.top_k) {
    sampling->set_top_k(static_cast<int32_t>(*options.top_k));
  }
  if (options.min_p) sampling->set_min_p(*options.min_p);
}

LoadCall MakeCall(const LoadgenOptions& options, const LoadPrompt& prompt,
                  int64_t idx, const std::string& id_prefix) {
  LoadCall call;
  call.idx = idx;
  if (options.request_timeout_s > 0) {
    call.timeout = absl::Seconds(options.request_timeout_s);
  }
  call.request.set_request_id(absl::StrCat(id_prefix, idx));
  call.request.set_model(options.model);
  if (prompt.token_ids.empty()) {
    call.request.set_text(prompt.text);
  } else {
    call.request.mutable_token_ids()->mutable_ids()->Add(
        prompt.token_ids.begin(), prompt.token_ids.end());
  }
  v1::SamplingParams* sampling = call.request.mutable_sampling();
  sampling->set_max_tokens(static_cast<uint32_t>(prompt.output_len));
  if (options.ignore_eos) sampling->set_ignore_eos(true);
  SetService(options, idx, &call.request);
  sampling->set_seed(
      RandomOf(options, idx, kSeedStream).UniformInt(0, INT64_MAX - 1));
  return call;
}

}  // namespace

std::vector<PlannedCall> PlanRun(const LoadgenOptions& options,
                                 const std::vector<LoadPrompt>& prompts,
                                 const std::string& id_prefix) {
  const std::vector<absl::Duration> arrivals =
      ArrivalTimes(options.arrival, prompts.size(), options.seed);
  Random random(options.seed, kCancelStream);
  std::vector<PlannedCall> calls;
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    PlannedCall planned;
    planned.arrival = arrivals[idx];
    planned.call = MakeCall(options, prompts[idx], idx, id_prefix);
    if (random.Uniform() < options.cancel_fraction) {
      planned.call.cancel = CancelPlan{
          .after_tokens = random.UniformInt(0, prompts[idx].output_len),
          .by_call = random.Uniform() < 0.5};
    }
    calls.push_back(std::move(planned));
  }
  return calls;
}

std::vector<PlannedCall> PlanRepetition(const LoadgenOptions& options,
                                        const std::vector<LoadPrompt>& prompts,
                                        const std::vector<RequestRecord>& run,
                                        const std::string& id_prefix) {
  std::vector<PlannedCall> calls;
  for (const RequestRecord& record : run) {
    if (record.outcome != RequestOutcome::kCompleted) continue;
    calls.push_back({.arrival = absl::ZeroDuration(),
                     .call = MakeCall(options, prompts[record.idx], record.idx,
                                      id_prefix)});
  }
  return calls;
}

}  // namespace quire
