// SPDX-License-Identifier: Apache-2.0
//
// A conversation to the text that a chat model was trained on.
#ifndef COMMON_TEXT_CHAT_TEMPLATE_H_
#define COMMON_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/text/special_token_names.h"

struct QtTemplate;  // common/text/ffi/quire_text.h

namespace quire {

struct ChatMessage {
  std::string role;
  std::string content;
  // Further fields of the message ("name", "tool_calls"), a JSON object or
  // empty.
  std::string extra_json;
  // In place of `content`, unless empty: null, or a list of parts.
  std::string content_json = "";
};

struct ChatRenderOptions {
  // Ends the text where the assistant's answer begins.
  bool add_generation_prompt = true;
  // Ends the text where the last message's own text ends.
  bool continue_final_message = false;
  // Further variables ("tools", "documents", "enable_thinking"), a JSON object
  // or empty. The names that Quire itself sets are refused.
  std::string variables_json;
  // What the template's strftime_now tells.
  absl::Time now = absl::UnixEpoch();
  size_t max_output_bytes = 4u << 20;
};

// A Jinja chat template as transformers runs it. A client's is compiled only if
// the operator trusts clients: steps (10^6), recursion (64) and output are
// bounded, the memory of intermediate values is not.
//
// Thread-safe: every method is const.
class ChatTemplate final {
 public:
  // Steps of one rendering; about a tenth of a second.
  static constexpr uint64_t kFuel = 1'000'000;

  // Compiles "chat_template" of a tokenizer_config.json (a string, or a list of
  // {name, template}, of which `name` is taken), or the file
  // chat_template.jinja beside it, which goes first as in transformers and is
  // "default". NotFound if the model has none of this name, InvalidArgument
  // (with the line) if it does not compile.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> FromTokenizerConfig(
      const std::string& config_path, std::string_view name = "default");

  // The same for a file of the template alone, in place of the model's own.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> FromFile(
      const std::string& path, SpecialTokenNames special_tokens);

  // Compiles `source`. `special_tokens` are variables of the template:
  // "bos_token", "eos_token" ...
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> FromString(
      std::string_view source, SpecialTokenNames special_tokens = {});

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // InvalidArgument if a text is not UTF-8, a JSON is none, the template
  // refuses the messages (its raise_exception), fails (with the line), passes
  // a bound, or does not show the last message that is to be continued. The
  // error is one line of text.
  absl::StatusOr<std::string> Render(
      absl::Span<const ChatMessage> messages,
      const ChatRenderOptions& options = {}) const;

  // Whether it reads a message's content as a list of {"type", "text"} parts,
  // and does not just print it. Found by rendering one.
  bool reads_parts() const { return reads_parts_; }

  const std::string& source() const { return source_; }

 private:
  ChatTemplate(QtTemplate* handle, std::string_view source,
               SpecialTokenNames special_tokens);

  absl::StatusOr<std::string> RenderContext(
      const std::string& context, const ChatRenderOptions& options) const;
  bool ProbeParts() const;

  QtTemplate* const handle_;  // owned
  const std::string source_;
  const SpecialTokenNames special_tokens_;
  const bool reads_parts_;
};

}  // namespace quire

#endif  // COMMON_TEXT_CHAT_TEMPLATE_H_
