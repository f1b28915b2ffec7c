// SPDX-License-Identifier: Apache-2.0
//
// Conversations with the demo model, in real processes.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/wire/status_wire.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/inference.grpc.pb.h"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

struct Answer {
  std::string content;
  std::vector<v1::ToolCall> calls;
  v1::ChatFinishReason reason = v1::CHAT_FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  absl::Status status;
};

class ChatTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ProcessClusterOptions options;
    options.model = ModelFolder("tools/demo_model/model");
    options.tensor_parallel_size = 1;
    options.coordinator_flags = {"--num_gpu_blocks_override=160"};
    auto cluster = ProcessCluster::Start(options);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = cluster->release();
  }

  static void TearDownTestSuite() {
    if (cluster_ == nullptr) return;
    EXPECT_TRUE(cluster_->Stop().ok());
    delete cluster_;
  }

  void SetUp() override {
    ASSERT_NE(cluster_, nullptr);
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(
        cluster_->public_address(), grpc::InsecureChannelCredentials()));
  }

  void TearDown() override {
    const absl::Status whole = cluster_->CheckNoLeakedBlock();
    EXPECT_TRUE(whole.ok()) << whole;
  }

  static v1::ChatRequest Request(const std::string& text) {
    v1::ChatRequest request;
    v1::ChatMessage* message = request.add_messages();
    message->set_role("user");
    message->set_content(text);
    request.mutable_sampling()->set_max_tokens(48);
    request.mutable_sampling()->set_seed(3);
    return request;
  }

  Answer Chat(const v1::ChatRequest& request) {
    Answer answer;
    grpc::ClientContext context;
    const auto reader = stub_->Chat(&context, request);
    v1::ChatResponse response;
    while (reader->Read(&response)) {
      if (response.has_complete()) answer.usage = response.complete().usage();
      if (!response.has_chunk()) continue;
      answer.content += response.chunk().content();
      for (const auto& delta : response.chunk().tool_calls()) {
        if (delta.index() == answer.calls.size()) {
          answer.calls.push_back(delta.call());
        } else {
          answer.calls[delta.index()].mutable_arguments_json()->append(
              delta.call().arguments_json());
        }
      }
      if (response.chunk().finish_reason() != answer.reason &&
          response.chunk().finish_reason() != 0) {
        answer.reason = response.chunk().finish_reason();
      }
    }
    answer.status = FromGrpcStatus(reader->Finish());
    return answer;
  }

  static ProcessCluster* cluster_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

ProcessCluster* ChatTest::cluster_ = nullptr;

TEST_F(ChatTest, TheSameConversationHasTheSameAnswer) {
  v1::ChatRequest request = Request("What is a KV block?");
  const Answer first = Chat(request);
  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_FALSE(first.content.empty());
  EXPECT_GT(first.usage.output_tokens(), 0u);
  const Answer again = Chat(request);
  EXPECT_EQ(again.content, first.content);
  // The next turn brings the first one along.
  v1::ChatMessage* said = request.add_messages();
  said->set_role("assistant");
  said->set_content(first.content);
  *request.add_messages() = Request("And a block table?").messages(0);
  const Answer next = Chat(request);
  ASSERT_TRUE(next.status.ok()) << next.status;
  EXPECT_GT(next.usage.prompt_tokens(), first.usage.prompt_tokens());
}

TEST_F(ChatTest, AForcedCallIsOneOfTheTools) {
  v1::ChatRequest request = Request("Weather in Bern?");
  request.mutable_sampling()->set_max_tokens(200);
  for (const char* name : {"get_weather", "get_time"}) {
    v1::Function* function = request.add_tools()->mutable_function();
    function->set_name(name);
    function->set_parameters_json(
        R"({"type": "object", "properties": {"city": {"enum":
            ["Bern", "Basel"]}}, "required": ["city"],
            "additionalProperties": false})");
  }
  request.mutable_tool_choice()->set_name("get_time");
  const Answer named = Chat(request);
  ASSERT_TRUE(named.status.ok()) << named.status;
  EXPECT_EQ(named.reason, v1::CHAT_FINISH_REASON_TOOL_CALLS);
  EXPECT_EQ(named.content, "");
  ASSERT_EQ(named.calls.size(), 1u);
  EXPECT_EQ(named.calls[0].name(), "get_time");
  const auto arguments = nlohmann::json::parse(named.calls[0].arguments_json());
  EXPECT_TRUE(arguments["city"] == "Bern" || arguments["city"] == "Basel");
  request.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
  const Answer any = Chat(request);
  ASSERT_TRUE(any.status.ok()) << any.status;
  ASSERT_EQ(any.calls.size(), 1u);
  EXPECT_TRUE(any.calls[0].name() == "get_weather" ||
              any.calls[0].name() == "get_time");
}

TEST_F(ChatTest, WhoLeavesTakesTheAnswerAlong) {
  v1::ChatRequest request = Request("Tell me everything.");
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_max_tokens(1000);
  grpc::ClientContext context;
  const auto reader = stub_->Chat(&context, request);
  v1::ChatResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  EXPECT_EQ(FromGrpcStatus(reader->Finish()).code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace quire
