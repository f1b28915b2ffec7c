// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/raw_message.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/gateway/violations.h"
#include "glog/logging.h"

namespace quire {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormat;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Walks over a message's bytes. It takes less than the parser does, which
// knows groups and stops at a zero.
class PartCounter {
 public:
  explicit PartCounter(CodedInputStream* input) : input_(input) {}

  // Counts up to the end of the input, or to its limit. False: these bytes are
  // no `type`, or have too many parts.
  bool Count(const Descriptor& type) {
    while (const uint32_t tag = input_->ReadTag()) {
      const FieldDescriptor* field =
          type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      const WireFormatLite::WireType wire_type =
          WireFormatLite::GetTagWireType(tag);
      const bool is_number =
          field != nullptr &&
          wire_type != WireFormatLite::WIRETYPE_LENGTH_DELIMITED &&
          wire_type == WireFormat::WireTypeForFieldType(field->type());
      if (!is_number && ++num_parts_ > kMaxRequestParts) {
        excess_ = field != nullptr ? field->name() : "unknown fields";
        return false;
      }
      if (!Pass(wire_type, field)) {
        if (!excess_.empty()) {  // within `field`
          excess_ = absl::StrCat(field->name(), ".", excess_);
        }
        return false;
      }
    }
    return input_->ConsumedEntireMessage();
  }

  // Path of the field with which the parts are too many, "" if they are not.
  const std::string& excess() const { return excess_; }

 private:
  bool Pass(WireFormatLite::WireType wire_type, const FieldDescriptor* field) {
    uint64_t number = 0;
    uint32_t length = 0;
    switch (wire_type) {
      case WireFormatLite::WIRETYPE_VARINT:
        return input_->ReadVarint64(&number);
      case WireFormatLite::WIRETYPE_FIXED64:
        return input_->Skip(sizeof(uint64_t));
      case WireFormatLite::WIRETYPE_FIXED32:
        return input_->Skip(sizeof(uint32_t));
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED:
        if (!input_->ReadVarint32(&length) || length > INT32_MAX) return false;
        if (field == nullptr || field->message_type() == nullptr) {
          return input_->Skip(static_cast<int>(length));
        }
        return CountWithin(static_cast<int>(length), *field->message_type());
      default:
        return false;
    }
  }

  bool CountWithin(int length, const Descriptor& type) {
    const CodedInputStream::Limit limit = input_->PushLimit(length);
    const bool is_whole = Count(type) && input_->BytesUntilLimit() == 0;
    input_->PopLimit(limit);
    return is_whole;
  }

  CodedInputStream* const input_;
  int num_parts_ = 0;
  std::string excess_;
};

absl::Status NoSuchMessage(const Descriptor& type) {
  return absl::InvalidArgumentError(
      absl::StrCat("the request's bytes are no ", type.name(),
                   "; strings must be UTF-8, groups are not known"));
}

absl::Status CheckParts(grpc::ByteBuffer* bytes, const Descriptor& type) {
  grpc::ProtoBufferReader reader(bytes);
  CodedInputStream input(&reader);
  PartCounter counter(&input);
  if (counter.Count(type)) return absl::OkStatus();
  if (counter.excess().empty()) return NoSuchMessage(type);
  return InvalidFields(
      "INVALID_PARAMETER",
      {{counter.excess(),
        absl::StrCat("the request has more than ", kMaxRequestParts,
                     " messages, strings and lists, passed in ",
                     counter.excess(), "; send fewer")}});
}

}  // namespace

absl::Status ReadRequest(grpc::ByteBuffer* bytes,
                         google::protobuf::Message* request) {
  absl::Status status = CheckParts(bytes, *request->GetDescriptor());
  if (status.ok()) {
    grpc::ProtoBufferReader reader(bytes);
    if (!request->ParseFromZeroCopyStream(&reader)) {
      status = NoSuchMessage(*request->GetDescriptor());
    }
  }
  bytes->Clear();
  return status;
}

grpc::ByteBuffer EncodeResponse(const google::protobuf::Message& response) {
  grpc::ByteBuffer bytes;
  bool owns_bytes = false;
  const grpc::Status status =
      grpc::SerializationTraits<google::protobuf::Message>::Serialize(
          response, &bytes, &owns_bytes);
  CHECK(status.ok()) << status.error_message();
  return bytes;
}

}  // namespace quire
