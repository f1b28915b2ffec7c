// SPDX-License-Identifier: Apache-2.0
#include "common/wire/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/reflection.grpc.pb.h"

namespace quire {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using Reflection = grpc::reflection::v1alpha::ServerReflection;
using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
using Response = grpc::reflection::v1alpha::ServerReflectionResponse;

// A name; longer ones are nobody's.
constexpr size_t kMaxRequestBytes = 4096;

void AddFile(const FileDescriptor* file, std::set<std::string>* added,
             Response* response) {
  if (!added->insert(file->name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->mutable_file_descriptor_response()->add_file_descriptor_proto(
      proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) {
    AddFile(file->dependency(i), added, response);
  }
}

void Fail(grpc::StatusCode code, const std::string& message,
          Response* response) {
  response->mutable_error_response()->set_error_code(code);
  response->mutable_error_response()->set_error_message(message);
}

void FailToFind(const std::string& name, Response* response) {
  Fail(grpc::StatusCode::NOT_FOUND, absl::StrCat(name, " is not known here"),
       response);
}

void AnswerFile(const FileDescriptor* file, const std::string& name,
                Response* response) {
  if (file == nullptr) return FailToFind(name, response);
  std::set<std::string> added;
  AddFile(file, &added, response);
}

// One client's stream. Owns itself.
class Stream final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Stream(const std::vector<std::string>* service_names)
      : service_names_(service_names) {
    StartRead(&message_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);  // the client is done
      return;
    }
    const grpc::Status status = Answer();
    if (status.ok()) {
      StartWrite(&message_);
    } else {
      Finish(status);
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&message_);
    } else {
      Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

  // Puts the answer in the request's place.
  grpc::Status Answer() {
    if (message_.Length() > kMaxRequestBytes) {
      return grpc::Status(
          grpc::StatusCode::INVALID_ARGUMENT,
          absl::StrCat("a request for reflection has ", message_.Length(),
                       " bytes; it may have at most ", kMaxRequestBytes));
    }
    Request request;
    grpc::Status status =
        grpc::SerializationTraits<Request>::Deserialize(&message_, &request);
    if (!status.ok()) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                          "no request for reflection");
    }
    bool owns_bytes = false;
    return grpc::SerializationTraits<Response>::Serialize(
        Reflect(request, *service_names_), &message_, &owns_bytes);
  }

  const std::vector<std::string>* const service_names_;
  grpc::ByteBuffer message_;  // read or written
};

class Service final
    : public Reflection::WithRawCallbackMethod_ServerReflectionInfo<
          Reflection::Service> {
 public:
  explicit Service(std::vector<std::string> service_names)
      : service_names_(std::move(service_names)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
  ServerReflectionInfo(grpc::CallbackServerContext*) override {
    return new Stream(&service_names_);
  }

 private:
  const std::vector<std::string> service_names_;
};

}  // namespace

Response Reflect(const Request& request,
                 const std::vector<std::string>& service_names) {
  Response response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case Request::kListServices:
      for (const std::string& name : service_names) {
        response.mutable_list_services_response()->add_service()->set_name(
            name);
      }
      break;
    case Request::kFileByFilename: {
      const std::string& name = request.file_by_filename();
      AnswerFile(pool.FindFileByName(name), name, &response);
      break;
    }
    case Request::kFileContainingSymbol: {
      const std::string& symbol = request.file_containing_symbol();
      AnswerFile(pool.FindFileContainingSymbol(symbol), symbol, &response);
      break;
    }
    case Request::kAllExtensionNumbersOfType: {
      const std::string& type = request.all_extension_numbers_of_type();
      if (pool.FindMessageTypeByName(type) == nullptr) {
        FailToFind(type, &response);
      } else {
        response.mutable_all_extension_numbers_response()->set_base_type_name(
            type);
      }
      break;
    }
    case Request::kFileContainingExtension:
      FailToFind("the extension", &response);
      break;
    case Request::MESSAGE_REQUEST_NOT_SET:
      Fail(grpc::StatusCode::INVALID_ARGUMENT, "nothing is asked for",
           &response);
  }
  return response;
}

std::unique_ptr<grpc::Service> MakeReflectionService(
    std::vector<std::string> service_names) {
  service_names.push_back("grpc.health.v1.Health");
  service_names.push_back(Reflection::service_full_name());
  return std::make_unique<Service>(std::move(service_names));
}

}  // namespace quire
