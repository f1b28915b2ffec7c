// SPDX-License-Identifier: Apache-2.0
//
// One answer of a chat: chunks of text become a role, content and tool calls.
#ifndef COORDINATOR_GATEWAY_CHAT_STREAM_H_
#define COORDINATOR_GATEWAY_CHAT_STREAM_H_

#include <cstdint>

#include "common/text/tool_call_parser.h"
#include "proto/chat.pb.h"
#include "proto/inference.pb.h"

namespace quire {

// Thread-compatible.
class ChatStream final {
 public:
  ChatStream(ToolCallFormat format, uint64_t id_seed)
      : parser_(format, id_seed) {}

  // The answer's next chunk.
  v1::ChatChunk Convert(const v1::Chunk& chunk);

 private:
  ToolCallParser parser_;
  bool has_role_ = false;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CHAT_STREAM_H_
