// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/figures.h"

namespace quire {

const std::vector<Figure>& Figures() {
  static const auto& figures = *new std::vector<Figure>{
      {"2", "what the KV pool is used for", &RunMemoryUse},
      {"12", "latency against rate", &RunLatencyAgainstRate},
      {"13", "batched requests", &RunBatchedRequests},
      {"14", "parallel sampling and beams", &RunSharingRates},
      {"15", "memory that sharing saves", &RunSharingMemory},
      {"16", "shared prefix", &RunSharedPrefix},
      {"17", "chatbot", &RunChatbot},
      {"18b", "block sizes", &RunBlockSizes},
      {"19", "swapping against recomputing", &RunPreemption},
      {"ratios", "on an H200", &RunRatios},
  };
  return figures;
}

}  // namespace quire
