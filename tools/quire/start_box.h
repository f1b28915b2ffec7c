// SPDX-License-Identifier: Apache-2.0
//
// What a freshly started server tells the person who started it.
#ifndef TOOLS_QUIRE_START_BOX_H_
#define TOOLS_QUIRE_START_BOX_H_

#include <string>

#include "absl/time/time.h"
#include "tools/quire/listening_line.h"

namespace quire {

namespace v1 {
class GetServerInfoResponse;
}  // namespace v1

// A framed text: model, number format, ranks, KV cache, addresses and commands
// to paste.
std::string StartBox(const v1::GetServerInfoResponse& info,
                     const Listening& listening, absl::Duration took);

}  // namespace quire

#endif  // TOOLS_QUIRE_START_BOX_H_
