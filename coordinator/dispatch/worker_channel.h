// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_DISPATCH_WORKER_CHANNEL_H_
#define COORDINATOR_DISPATCH_WORKER_CHANNEL_H_

#include <memory>
#include <string>

#include "absl/time/time.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace quire {

// A channel to one worker's gRPC port, "host:port". Connects when first used.
// Messages up to 64 MiB; never retried, never shared with another epoch.
// Breaks when the worker's process has answered no ping for `silence`, or four
// seconds if that is less: who is to be lost sooner misses heartbeats.
std::shared_ptr<grpc::Channel> MakeWorkerChannel(
    const std::string& address, absl::Duration silence = absl::ZeroDuration());

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_WORKER_CHANNEL_H_
