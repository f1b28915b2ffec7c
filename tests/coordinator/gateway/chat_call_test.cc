// SPDX-License-Identifier: Apache-2.0
//
// Chat over real gRPC on a free port, with an engine whose tokens the test
// writes.
#include "coordinator/gateway/chat_call.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/text/chat_prompt.h"
#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "coordinator/gateway/inference_service.h"
#include "coordinator/grpc_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/inference.grpc.pb.h"
#include "tests/common/text/text_testing.h"
#include "tests/coordinator/gateway/gateway_parts.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

constexpr char kTemplate[] =
    "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"
    "{% if tools %}<tool_call>{% endif %}<|answer|>";

struct Received {
  std::string role;
  std::string content;
  std::vector<v1::ToolCall> calls;
  std::vector<v1::ChatFinishReason> reasons;
  std::optional<v1::ChatComplete> complete;
  std::string request_id;
  size_t num_tokens = 0;
  absl::Status status;
};

class ChatCallTest : public testing::Test {
 protected:
  // Without a template if it is null.
  explicit ChatCallTest(const char* chat_template = kTemplate)
      : parts_(LoadTestTokenizer("byte_level")) {
    if (chat_template != nullptr) {
      parts_.context.chat.chat_template =
          *ChatTemplate::FromString(chat_template);
    }
    parts_.context.limits.eos_token_ids = {
        *parts_.tokenizer->TokenToId("<|end|>")};
    service_ = MakeInferenceService(&parts_.context, &parts_.queues);
    auto server = GrpcServer::Start(
        GrpcServer::Audience::kPublic, "127.0.0.1",
        /*port=*/0, "port", {{"quire.v1.Inference", service_->service()}},
        &parts_.queues);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    service_->TakeCalls();
    stub_ = v1::Inference::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                            grpc::InsecureChannelCredentials()));
  }

  static v1::ChatRequest Request(const std::string& text) {
    v1::ChatRequest request;
    v1::ChatMessage* message = request.add_messages();
    message->set_role("user");
    message->set_content(text);
    return request;
  }

  SequenceOutput Output(int64_t offset, const std::string& text,
                        FinishReason reason = FinishReason::kNone) {
    EncodeOptions parse;
    parse.special_tokens = SpecialTokens::kParse;
    SequenceOutput output;
    output.request = RequestKey(1);
    output.token_offset = offset;
    const std::vector<TokenId> ids = *parts_.tokenizer->Encode(text, parse);
    output.tokens.assign(ids.begin(), ids.end());
    output.finish_reason = reason;
    return output;
  }

  static void Take(const v1::ChatResponse& response, Received* received) {
    received->request_id = response.request_id();
    if (response.has_complete()) received->complete = response.complete();
    if (!response.has_chunk()) return;
    const v1::ChatChunk& chunk = response.chunk();
    EXPECT_EQ(chunk.token_offset(), received->num_tokens);
    received->num_tokens += chunk.token_ids_size();
    received->role += chunk.role();
    received->content += chunk.content();
    for (const auto& delta : chunk.tool_calls()) {
      if (delta.index() == received->calls.size()) {
        received->calls.push_back(delta.call());
        continue;
      }
      EXPECT_EQ(delta.index() + 1, received->calls.size());
      EXPECT_EQ(delta.call().name() + delta.call().id(), "");
      received->calls.back().mutable_arguments_json()->append(
          delta.call().arguments_json());
    }
    if (chunk.finish_reason() != v1::CHAT_FINISH_REASON_UNSPECIFIED) {
      received->reasons.push_back(chunk.finish_reason());
    }
  }

  // After what `received` has got.
  Received ReadAll(grpc::ClientReader<v1::ChatResponse>* reader,
                   Received received = {}) {
    v1::ChatResponse response;
    while (reader->Read(&response)) Take(response, &received);
    received.status = FromGrpcStatus(reader->Finish());
    return received;
  }

  Received Refused(const v1::ChatRequest& request) {
    grpc::ClientContext rpc;
    return ReadAll(stub_->Chat(&rpc, request).get());
  }

  GatewayParts parts_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(ChatCallTest, AConversationBecomesAPromptAndAnAnswer) {
  grpc::ClientContext rpc;
  v1::ChatRequest asked = Request("Hello <|end|> world");
  asked.set_request_id("talk");
  auto reader = stub_->Chat(&rpc, asked);
  const EngineRequest request = parts_.engine.AwaitRequest(1);
  EXPECT_EQ(request.request_id, "talk");
  EXPECT_EQ(request.prompt,
            *EncodeChat(*parts_.tokenizer, *parts_.context.chat.chat_template,
                        {{"user", "Hello <|end|> world", ""}}));
  // Three control tokens, all of them the template's.
  int num_controls = 0;
  for (const TokenId id : request.prompt) {
    num_controls += parts_.tokenizer->IsSpecial(id);
  }
  EXPECT_EQ(num_controls, 3);
  // What the window leaves.
  EXPECT_EQ(request.sampling.max_tokens,
            500 - static_cast<int>(request.prompt.size()));
  const SequenceOutput first = Output(0, "naïve answer");
  parts_.engine.Emit(first);
  SequenceOutput last =
      Output(first.tokens.size(), " indeed<|end|>", FinishReason::kStop);
  last.stop_token_id = last.tokens.back();
  parts_.engine.Emit(last);
  const Received received = ReadAll(reader.get());
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.request_id, "talk");
  EXPECT_EQ(received.role, "assistant");
  EXPECT_EQ(received.content, "naïve answer indeed");
  EXPECT_EQ(received.num_tokens, first.tokens.size() + last.tokens.size());
  EXPECT_EQ(received.reasons,
            std::vector<v1::ChatFinishReason>{v1::CHAT_FINISH_REASON_STOP});
  ASSERT_TRUE(received.complete.has_value());
  EXPECT_EQ(received.complete->usage().prompt_tokens(), request.prompt.size());
  EXPECT_EQ(received.complete->usage().output_tokens(), received.num_tokens);
}

TEST_F(ChatCallTest, ToolCallsComeTyped) {
  grpc::ClientContext rpc;
  v1::ChatRequest asked = Request("Weather?");
  asked.add_tools()->mutable_function()->set_name("weather");
  auto reader = stub_->Chat(&rpc, asked);
  parts_.engine.AwaitRequest(1);
  const std::string answer =
      "Let me see. <tool_call>\n{\"name\": \"weather\", \"arguments\": "
      "{\"city\": \"Zürich\"}}\n</tool_call>";
  // One token at a time, as a model writes them.
  const SequenceOutput whole = Output(0, answer);
  const size_t most = whole.tokens.size() - 3;  // but for the closing tag's end
  const auto emit = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      SequenceOutput one = Output(i, "");
      one.tokens.assign(1, whole.tokens[i]);
      if (i + 1 == whole.tokens.size()) one.finish_reason = FinishReason::kStop;
      parts_.engine.Emit(one);
    }
  };
  emit(0, most);
  Received begun;
  v1::ChatResponse response;
  while (begun.calls.empty() && reader->Read(&response)) Take(response, &begun);
  EXPECT_EQ(begun.calls.size(), 1u);  // before the answer is over
  emit(most, whole.tokens.size());
  const Received received = ReadAll(reader.get(), begun);
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(received.content, "Let me see.");
  ASSERT_EQ(received.calls.size(), 1u);
  EXPECT_EQ(received.calls[0].name(), "weather");
  EXPECT_EQ(received.calls[0].arguments_json(), "{\"city\": \"Zürich\"}");
  EXPECT_EQ(received.reasons, std::vector<v1::ChatFinishReason>{
                                  v1::CHAT_FINISH_REASON_TOOL_CALLS});
}

TEST_F(ChatCallTest, SiblingsAreAnswersOfTheirOwn) {
  grpc::ClientContext rpc;
  v1::ChatRequest asked = Request("Hi");
  asked.mutable_sampling()->set_n(2);
  auto reader = stub_->Chat(&rpc, asked);
  parts_.engine.AwaitRequest(1);
  for (int32_t index = 0; index < 2; ++index) {
    SequenceOutput output =
        Output(0, index == 0 ? "one" : "two", FinishReason::kLength);
    output.index = index;
    parts_.engine.Emit(output);
  }
  std::string contents[2];
  std::string roles;
  v1::ChatResponse response;
  while (reader->Read(&response)) {
    if (!response.has_chunk()) continue;
    ASSERT_LT(response.chunk().index(), 2u);
    contents[response.chunk().index()] += response.chunk().content();
    roles += response.chunk().role() + ".";
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(contents[0], "one");
  EXPECT_EQ(contents[1], "two");
  EXPECT_EQ(roles, "assistant.assistant.");
}

TEST_F(ChatCallTest, TemplatesThatRefuseNameTheirLine) {
  parts_.context.chat.chat_template = *ChatTemplate::FromString(
      "{{ messages[0].content }}\n{{ raise_exception('no system role') }}");
  const Received received = Refused(Request("Hi"));
  EXPECT_EQ(received.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(received.status.message()),
              HasSubstr("no system role (line 2)"));
  EXPECT_EQ(parts_.engine.num_requests(), 0u);
  parts_.AwaitNoSessions();
}

TEST_F(ChatCallTest, AConversationLongerThanTheWindowIsRefused) {
  // On the text pool, as it is long.
  const Received received = Refused(Request(std::string(9000, 'x')));
  EXPECT_EQ(received.status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = GetErrorDetails(received.status);
  EXPECT_EQ(details.reason, "CONTEXT_LENGTH_EXCEEDED");
  ASSERT_EQ(details.field_violations.size(), 1u);
  EXPECT_EQ(details.field_violations[0].field, "messages");
}

TEST_F(ChatCallTest, BadRequestsAreRefusedBeforeTheEngine) {
  EXPECT_EQ(Refused(v1::ChatRequest()).status.code(),
            absl::StatusCode::kInvalidArgument);
  v1::ChatRequest hot = Request("Hi");
  hot.mutable_sampling()->set_temperature(3);
  EXPECT_THAT(std::string(Refused(hot).status.message()),
              HasSubstr("temperature=3"));
  EXPECT_EQ(parts_.engine.num_requests(), 0u);
}

class ChatCallWithoutTemplateTest : public ChatCallTest {
 protected:
  ChatCallWithoutTemplateTest() : ChatCallTest(nullptr) {}
};

TEST_F(ChatCallWithoutTemplateTest, ConversationsAreRefused) {
  EXPECT_EQ(Refused(Request("Hi")).status.code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(parts_.engine.num_requests(), 0u);
}

TEST_F(ChatCallTest, CancelEndsTheAnswer) {
  grpc::ClientContext rpc;
  v1::ChatRequest asked = Request("Hi");
  asked.set_request_id("talk");
  auto reader = stub_->Chat(&rpc, asked);
  parts_.engine.AwaitRequest(1);
  parts_.engine.Emit(Output(0, "half"));
  v1::ChatResponse response;
  ASSERT_TRUE(reader->Read(&response));
  grpc::ClientContext cancel_rpc;
  v1::CancelRequest cancel;
  cancel.set_request_id("talk");
  v1::CancelResponse cancelled;
  ASSERT_TRUE(stub_->Cancel(&cancel_rpc, cancel, &cancelled).ok());
  EXPECT_EQ(parts_.engine.AwaitFinish(1), FinishReason::kCancelled);
  EXPECT_EQ(ReadAll(reader.get()).status.code(), absl::StatusCode::kCancelled);
  parts_.AwaitNoSessions();
}

}  // namespace
}  // namespace quire
