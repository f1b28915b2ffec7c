// SPDX-License-Identifier: Apache-2.0
//
// What a gateway's requests share, over an engine whose tokens a test writes.
#ifndef TESTS_COORDINATOR_GATEWAY_GATEWAY_PARTS_H_
#define TESTS_COORDINATOR_GATEWAY_GATEWAY_PARTS_H_

#include <prometheus/registry.h>

#include <memory>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/metrics/request_metrics.h"
#include "common/text/tokenizer.h"
#include "coordinator/gateway/call_queues.h"
#include "coordinator/gateway/gateway_context.h"
#include "tests/coordinator/gateway/fake_engine.h"

namespace quire {

struct GatewayParts {
  explicit GatewayParts(std::unique_ptr<Tokenizer> vocabulary)
      : tokenizer(std::move(vocabulary)) {
    context.clock = &clock;
    context.engine = &engine;
    context.tokenizer = tokenizer.get();
    context.router = &router;
    context.sessions = &sessions;
    context.text_pool = &text_pool;
    context.metrics = &metrics;
    context.seed = 5;
    context.limits.model_name = "model";
    context.limits.vocab_size = tokenizer->vocab_size();
    context.limits.max_model_len = 500;
    context.limits.max_text_bytes = 100'000;
  }

  // Sessions leave the table when their carrier is done with them.
  void AwaitNoSessions() const {
    while (sessions.size() > 0) std::this_thread::yield();
  }

  RealClock clock;
  prometheus::Registry registry;
  const std::unique_ptr<Tokenizer> tokenizer;
  RequestMetrics metrics{"model", &registry};
  CallQueues queues{/*num_lanes=*/2,
                    /*num_arrival_threads=*/2};  // for who serves by gRPC
  OutputRouter router{queues.gates()};
  FakeEngine engine{&router};
  SessionTable sessions;
  TextPool text_pool{/*num_threads=*/1, /*max_queued=*/8};
  GatewayContext context;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_GATEWAY_GATEWAY_PARTS_H_
