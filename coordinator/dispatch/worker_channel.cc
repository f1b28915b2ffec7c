// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/worker_channel.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>

namespace quire {

namespace {

constexpr absl::Duration kLeastSilence = absl::Seconds(4);

}  // namespace

std::shared_ptr<grpc::Channel> MakeWorkerChannel(const std::string& address,
                                                 absl::Duration silence) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(64 << 20);
  args.SetMaxSendMessageSize(64 << 20);
  // A half-open link is found by pings (and the TCP user timeout that gRPC
  // derives from them), a process that is gone by the reset of its stream.
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
              static_cast<int>(absl::ToInt64Milliseconds(
                  std::max(kLeastSilence, silence))));
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Equal arguments would share one connection: an old epoch's could linger.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   args);
}

}  // namespace quire
