// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/start_box.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/inference.pb.h"
#include "tools/cli/progress.h"
#include "tools/cli/text_table.h"

namespace quire {
namespace {

// The context that users compare engines at.
constexpr uint64_t kUsualContext = 4096;

std::string KvLine(const v1::GetServerInfoResponse& info) {
  const uint64_t num_tokens = uint64_t{info.num_blocks()} * info.block_size();
  uint64_t context = kUsualContext;
  if (info.max_model_len() > 0) {
    context = std::min<uint64_t>(context, info.max_model_len());
  }
  return absl::StrCat(info.num_blocks(), " blocks, ", num_tokens, " tokens; ",
                      num_tokens / context, " requests of ", context,
                      " tokens at once");
}

}  // namespace

std::string StartBox(const v1::GetServerInfoResponse& info,
                     const Listening& listening, absl::Duration took) {
  const std::string& target = listening.public_address;
  std::vector<std::string> lines = {
      absl::StrCat("model      ", info.model(), " (", info.architecture(), ", ",
                   info.dtype(), ", window ", info.max_model_len(), ")"),
      absl::StrCat("runs on    ", info.device(), ", ",
                   info.data_parallel_size() > 1
                       ? absl::StrCat(info.data_parallel_size(), " groups of ")
                       : "",
                   info.tensor_parallel_size(), " tensor-parallel rank",
                   info.tensor_parallel_size() == 1 ? "" : "s"),
      absl::StrCat("KV cache   ", KvLine(info)),
      absl::StrCat("gRPC       ", target),
      absl::StrCat("control    ", listening.control_address),
  };
  if (!listening.metrics_address.empty()) {
    lines.push_back(absl::StrCat("metrics    http://",
                                 listening.metrics_address, "/metrics"));
  }
  lines.insert(
      lines.end(),
      {
          "",
          absl::StrCat("quire generate \"Once upon a time\" --target=", target),
          absl::StrCat("quire status --target=", listening.control_address),
          absl::StrCat("loadgen --target=", target, " --num_prompts=100"),
          absl::StrCat("grpcurl -plaintext -d '{\"text\": \"Hello\"}' ", target,
                       " quire.v1.Inference/Generate"),
          "",
          "Ctrl-C ends the server.",
      });
  return FormatBox(absl::StrCat("Quire ", info.version(), " is ready after ",
                                ShortDuration(took)),
                   lines);
}

}  // namespace quire
