// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/raw_message.h"

#include <grpcpp/support/slice.h>

#include <string>
#include <vector>

#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/inference.pb.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

// `unit` again and again.
std::string Repeat(const std::string& unit, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += unit;
  return text;
}

// What Chat's request is refused for; "" if it is read.
std::string FieldRefused(const std::string& text) {
  grpc::ByteBuffer bytes = Bytes(text);
  v1::ChatRequest request;
  const absl::Status status = ReadRequest(&bytes, &request);
  EXPECT_FALSE(bytes.Valid());
  if (status.ok()) return "";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = GetErrorDetails(status);
  if (details.field_violations.empty()) return std::string(status.message());
  EXPECT_EQ(request.ByteSizeLong(), 0u);  // nothing was parsed
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("more than 131072 messages, strings and lists"));
  return details.field_violations[0].field;
}

TEST(RawMessageTest, RequestsAreReadFromAnyNumberOfSlices) {
  v1::ChatRequest sent;
  for (int i = 0; i < 100; ++i) {
    v1::ChatMessage* message = sent.add_messages();
    message->set_role("user");
    message->set_content(std::string(i, 'x'));
    message->add_parts()->set_text("y");
  }
  (*sent.mutable_sampling()->mutable_logit_bias())[7] = -1;
  sent.mutable_sampling()->add_stop_token_ids(300);
  sent.mutable_sampling()->set_temperature(0.5);
  const std::string text = sent.SerializeAsString();
  std::vector<grpc::Slice> slices;
  for (const char c : text) slices.emplace_back(&c, 1);
  grpc::ByteBuffer bytes(slices.data(), slices.size());
  v1::ChatRequest read;
  ASSERT_TRUE(ReadRequest(&bytes, &read).ok());
  EXPECT_EQ(read.SerializeAsString(), text);
}

TEST(RawMessageTest, ManyTokensAndLongTextsAreNotManyParts) {
  v1::GenerateRequest sent;
  for (int i = 0; i < 1'000'000; ++i) sent.mutable_token_ids()->add_ids(i);
  grpc::ByteBuffer bytes = Bytes(sent.SerializeAsString());
  v1::GenerateRequest read;
  ASSERT_TRUE(ReadRequest(&bytes, &read).ok());
  EXPECT_EQ(read.token_ids().ids_size(), 1'000'000);
  // As a client may write them, too: each with its tag.
  const std::string unpacked = Repeat("\x08\x05", 200'000);
  v1::TokenIds ids;
  bytes = Bytes(unpacked);
  ASSERT_TRUE(ReadRequest(&bytes, &ids).ok());
  EXPECT_EQ(ids.ids_size(), 200'000);
  EXPECT_EQ(FieldRefused("\x1a\x84\x80\x40\x12\x80\x80\x40" +
                         std::string(1 << 20, 'x')),
            "");
}

TEST(RawMessageTest, AsManyPartsAsThereMayBeAreRead) {
  const std::string message("\x1a\x00", 2);
  EXPECT_EQ(FieldRefused(Repeat(message, kMaxRequestParts)), "");
  EXPECT_EQ(FieldRefused(Repeat(message, kMaxRequestParts + 1)), "messages");
}

TEST(RawMessageTest, TheFieldWithTooManyPartsIsNamed) {
  const int many = kMaxRequestParts;
  v1::ChatRequest stops;
  for (int i = 0; i < many; ++i) stops.mutable_sampling()->add_stop();
  EXPECT_EQ(FieldRefused(stops.SerializeAsString()), "sampling.stop");
  v1::ChatRequest parts;
  parts.add_messages();
  for (int i = 0; i < many; ++i) parts.mutable_messages(0)->add_parts();
  EXPECT_EQ(FieldRefused(parts.SerializeAsString()), "messages.parts");
  for (const std::string& field :
       {std::string("\xa2\x06\x00", 3), std::string("\xa0\x06\x01", 3),
        // A number where messages should be.
        std::string("\x18\x01", 2)}) {
    EXPECT_NE(FieldRefused(Repeat(field, many + 1)), "");
    EXPECT_EQ(FieldRefused(Repeat(field, many)), "");
  }
}

TEST(RawMessageTest, BytesThatAreNoRequestAreRefused) {
  for (const std::string& text :
       {std::string("\x1a"), std::string("\x1a\x05\x0a\x01"), std::string("x"),
        std::string("\x00\x00", 2), std::string("\x1b\x1c"),  // a group
        std::string("\x1a\x03\x0a\x01\xff")}) {               // not UTF-8
    EXPECT_THAT(FieldRefused(text), HasSubstr("are no ChatRequest"));
  }
}

TEST(RawMessageTest, ResponsesAreEncoded) {
  v1::TokenizeResponse response;
  response.add_token_ids(300);
  const grpc::ByteBuffer bytes = EncodeResponse(response);
  grpc::Slice whole;
  ASSERT_TRUE(bytes.DumpToSingleSlice(&whole).ok());
  EXPECT_EQ(std::string(whole.begin(), whole.end()),
            response.SerializeAsString());
}

}  // namespace
}  // namespace quire
