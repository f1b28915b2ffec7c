// SPDX-License-Identifier: Apache-2.0
//
// Requests that an engine must serve, each exactly as if it were alone.
#ifndef TESTS_COORDINATOR_ENGINE_SERVED_LOAD_H_
#define TESTS_COORDINATOR_ENGINE_SERVED_LOAD_H_

#include <cstdint>
#include <random>
#include <vector>

#include "coordinator/engine/engine_client.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {

class ServedLoad {
 public:
  // `engine` must outlive this.
  explicit ServedLoad(EngineHarness* engine) : engine_(engine) {}

  // Must be accepted.
  void Submit(EngineRequest request);

  // Submits `count` requests of up to 120 prompt and 60 output tokens with a
  // few steps between them, cancels about an eighth at random moments, and runs
  // until the engine is idle. Those too long for the pool must be refused as
  // invalid.
  void SubmitAtRandom(int count, std::mt19937& random);

  // Everybody but the cancelled heard all of its stream, and everything came
  // back.
  void ExpectServed() const;

 private:
  EngineHarness* engine_;
  std::vector<EngineRequest> requests_;
  std::vector<RequestKey> keys_;  // of `requests_`
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_ENGINE_SERVED_LOAD_H_
