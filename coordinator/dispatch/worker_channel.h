// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_DISPATCH_WORKER_CHANNEL_H_
#define COORDINATOR_DISPATCH_WORKER_CHANNEL_H_

#include <memory>
#include <string>

namespace grpc {
class Channel;
}  // namespace grpc

namespace quire {

// A channel to one worker's gRPC port, "host:port". Connects when first used.
// Messages up to 64 MiB; never retried, never shared with another epoch.
std::shared_ptr<grpc::Channel> MakeWorkerChannel(const std::string& address);

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_WORKER_CHANNEL_H_
