// SPDX-License-Identifier: Apache-2.0
//
// What builds without --config=cuda have.
#include "worker/collective/peer.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Collective>> ConnectPeer(
    const PeerOptions&, KeyBoard*, std::unique_ptr<PeerWatch>,
    std::unique_ptr<Collective>) {
  return absl::UnimplementedError(
      "this build has no GPUs; build with --config=cuda");
}

}  // namespace quire
