// SPDX-License-Identifier: Apache-2.0
//
// The processes that stream_bench measures and needs beside it.
#ifndef TESTS_COORDINATOR_STREAM_BENCH_SERVERS_H_
#define TESTS_COORDINATOR_STREAM_BENCH_SERVERS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace quire {

inline constexpr int32_t kBenchMaxModelLen = 2048;  // tokens
inline constexpr uint32_t kBenchFirstToken = 300;   // of [300, 4096), all text
inline constexpr int32_t kBenchMaxNumSeqs = 1024;

// Each is a process's whole life. Servers print "host:port host:port", the
// second address for workers, when they listen.

// The coordinator, for one rank, with the tokenizer of the folder `model`;
// prints "ready" when it has joined.
[[noreturn]] void BeCoordinator(const std::string& model);

// A server of gRPC's alone, which writes a message like a token's to every
// stream once a `step`, all from the thread that hears of their ends.
[[noreturn]] void BeBareServer(absl::Duration step);

// A rank that takes `step` for a step but computes nothing: tokens are drawn.
[[noreturn]] void BeWorker(const std::string& control_address,
                           absl::Duration step);

}  // namespace quire

#endif  // TESTS_COORDINATOR_STREAM_BENCH_SERVERS_H_
