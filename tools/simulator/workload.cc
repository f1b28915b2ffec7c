// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/workload.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/json_fields.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "tools/loadgen/random.h"

namespace quire {
namespace {

// Streams of one seed.
constexpr uint64_t kArrivals = 0;
constexpr uint64_t kOrder = 1;
constexpr uint64_t kLengths = 2;
constexpr uint64_t kChats = 3;

// Below it are ids that mean something to models.
constexpr TokenId kFirstToken = 100;

void Shuffle(Random* random, std::vector<RequestLengths>* lengths) {
  for (size_t idx = lengths->size(); idx > 1; --idx) {
    std::swap((*lengths)[idx - 1],
              (*lengths)[random->UniformInt(0, static_cast<int64_t>(idx) - 1)]);
  }
}

}  // namespace

absl::StatusOr<std::vector<RequestLengths>> ReadLengths(
    const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::vector<RequestLengths> lengths;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    const std::string where = absl::StrCat(path, ", line ", number);
    QUIRE_ASSIGN_OR_RETURN(const nlohmann::json object,
                           ParseJsonObject(line, where));
    const JsonFields fields(object, where);
    RequestLengths request;
    QUIRE_ASSIGN_OR_RETURN(request.prompt_len,
                           fields.Int("prompt_len", 1, 1 << 24));
    QUIRE_ASSIGN_OR_RETURN(request.output_len,
                           fields.Int("output_len", 1, 1 << 24));
    lengths.push_back(request);
  }
  if (lengths.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no requests"));
  }
  return lengths;
}

std::vector<RequestLengths> MakeChats(const std::vector<RequestLengths>& turns,
                                      double continue_probability,
                                      int32_t max_prompt_len,
                                      int32_t max_output_len, uint64_t seed) {
  Random random(seed, kChats);
  std::vector<RequestLengths> chats;
  int64_t history_len = 0;
  for (const RequestLengths& turn : turns) {
    if (random.Uniform() > continue_probability) history_len = 0;
    const int64_t prompt_len = history_len + turn.prompt_len;
    chats.push_back(
        {static_cast<int32_t>(std::min<int64_t>(prompt_len, max_prompt_len)),
         std::min(turn.output_len, max_output_len)});
    history_len = prompt_len + turn.output_len;
  }
  return chats;
}

std::vector<RequestLengths> MakeLognormalLengths(double mean_prompt_len,
                                                 double mean_output_len,
                                                 double sigma, int32_t max_len,
                                                 int64_t num_requests,
                                                 uint64_t seed) {
  Random random(seed, kLengths);
  const auto draw = [&](double mean) {
    // The mean of a lognormal is exp(mu + sigma^2 / 2).
    const double mu = std::log(mean) - sigma * sigma / 2;
    const double length = std::exp(mu + sigma * random.Normal());
    return static_cast<int32_t>(
        std::clamp(std::round(length), 1.0, static_cast<double>(max_len)));
  };
  std::vector<RequestLengths> lengths(num_requests);
  for (RequestLengths& request : lengths) {
    request.prompt_len = draw(mean_prompt_len);
    request.output_len = draw(mean_output_len);
  }
  return lengths;
}

std::vector<SimulatedRequest> MakeWorkload(
    const std::vector<RequestLengths>& lengths,
    const WorkloadOptions& options) {
  CHECK(!lengths.empty());
  CHECK_GT(options.rate, 0);
  std::vector<RequestLengths> order = lengths;
  Random shuffle(options.seed, kOrder);
  Shuffle(&shuffle, &order);
  Random random(options.seed, kArrivals);
  std::vector<SimulatedRequest> requests(options.num_requests);
  double time_s = 0;
  for (int64_t idx = 0; idx < options.num_requests; ++idx) {
    const RequestLengths& request = order[idx % order.size()];
    time_s -= std::log(random.Uniform()) / options.rate;
    requests[idx] = {.arrival_ns = static_cast<int64_t>(time_s * 1e9),
                     .prompt_len = request.prompt_len + options.prefix_len,
                     .output_len = request.output_len,
                     .prefix_len = options.prefix_len,
                     .num_sequences = options.num_sequences,
                     .beam_width = options.beam_width,
                     .tenant = options.tenant};
  }
  return requests;
}

std::vector<SimulatedRequest> MergeWorkloads(
    const std::vector<std::vector<SimulatedRequest>>& workloads,
    int64_t end_ns) {
  std::vector<SimulatedRequest> merged;
  for (const std::vector<SimulatedRequest>& workload : workloads) {
    for (const SimulatedRequest& request : workload) {
      if (request.arrival_ns <= end_ns) merged.push_back(request);
    }
  }
  std::stable_sort(merged.begin(), merged.end(),
                   [](const SimulatedRequest& a, const SimulatedRequest& b) {
                     return a.arrival_ns < b.arrival_ns;
                   });
  return merged;
}

std::vector<TokenId> MakePrompt(const SimulatedRequest& request, int64_t idx,
                                int64_t vocab_size) {
  CHECK_GT(vocab_size, kFirstToken);
  std::vector<TokenId> prompt(request.prompt_len);
  for (int32_t position = 0; position < request.prompt_len; ++position) {
    const uint64_t owner = position < request.prefix_len ? 0 : idx + 1;
    prompt[position] = static_cast<TokenId>(
        kFirstToken + MixBits(owner << 24 ^ static_cast<uint64_t>(position)) %
                          (vocab_size - kFirstToken));
  }
  return prompt;
}

}  // namespace quire
