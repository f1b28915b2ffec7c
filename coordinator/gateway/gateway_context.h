// SPDX-License-Identifier: Apache-2.0
//
// What the gateway's requests share.
#ifndef COORDINATOR_GATEWAY_GATEWAY_CONTEXT_H_
#define COORDINATOR_GATEWAY_GATEWAY_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "common/clock.h"
#include "common/metrics/request_metrics.h"
#include "common/text/tokenizer.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/gateway/chat_plan.h"
#include "coordinator/gateway/grammar_source.h"
#include "coordinator/gateway/output_router.h"
#include "coordinator/gateway/session_table.h"
#include "coordinator/gateway/text_pool.h"
#include "coordinator/gateway/validation.h"

namespace quire {

// What GetServerInfo says besides what the engine knows.
struct ServerFacts {
  std::string version;
  std::string architecture;
  std::string dtype;
  int32_t tensor_parallel_size = 1;
  int32_t data_parallel_size = 1;
  std::function<std::string()> device;  // known once a worker has joined
  std::map<std::string, std::string> flags;
};

// All borrowed; outlives every request.
struct GatewayContext {
  Clock* clock = nullptr;
  EngineClient* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  GrammarSource* grammars = nullptr;  // null without a tokenizer
  OutputRouter* router = nullptr;
  SessionTable* sessions = nullptr;
  TextPool* text_pool = nullptr;
  RequestMetrics* metrics = nullptr;
  ModelLimits limits;
  ChatFacts chat;
  ServerFacts facts;
  // Where seeds and names come from that clients leave to the server: request
  // number k gets the kth.
  uint64_t seed = 0;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_GATEWAY_CONTEXT_H_
