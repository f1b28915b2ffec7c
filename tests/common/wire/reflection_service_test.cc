// SPDX-License-Identifier: Apache-2.0
#include "common/wire/reflection_service.h"

#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/inference.pb.h"
#include "proto/reflection.grpc.pb.h"

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Reflection = grpc::reflection::v1alpha::ServerReflection;
using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
using Response = grpc::reflection::v1alpha::ServerReflectionResponse;

std::vector<std::string> FilesIn(const Response& response) {
  std::vector<std::string> names;
  for (const std::string& bytes :
       response.file_descriptor_response().file_descriptor_proto()) {
    google::protobuf::FileDescriptorProto file;
    EXPECT_TRUE(file.ParseFromString(bytes));
    names.push_back(file.name());
  }
  return names;
}

TEST(ReflectTest, AFileComesWithWhatItImports) {
  v1::GenerateRequest linked;  // so that its file is
  Request request;
  request.set_file_containing_symbol("quire.v1.Inference");
  const std::vector<std::string> files = FilesIn(Reflect(request, {}));
  EXPECT_EQ(files.front(), "proto/inference.proto");
  EXPECT_THAT(files, Contains("proto/types.proto").Times(1));
  request.set_file_by_filename("proto/types.proto");
  EXPECT_THAT(FilesIn(Reflect(request, {})), ElementsAre("proto/types.proto"));
}

TEST(ReflectTest, WhatIsNotThereIsAnError) {
  Request request;
  request.set_host("here");
  request.set_file_by_filename("no.proto");
  const Response response = Reflect(request, {});
  EXPECT_EQ(response.valid_host(), "here");
  EXPECT_EQ(response.original_request().file_by_filename(), "no.proto");
  EXPECT_EQ(response.error_response().error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(response.error_response().error_message(), HasSubstr("no.proto"));
  EXPECT_EQ(Reflect(Request(), {}).error_response().error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(ReflectTest, TypesHaveNoExtensions) {
  Request request;
  request.set_all_extension_numbers_of_type("quire.v1.GenerateRequest");
  const Response none = Reflect(request, {});
  EXPECT_EQ(none.all_extension_numbers_response().base_type_name(),
            "quire.v1.GenerateRequest");
  EXPECT_EQ(none.all_extension_numbers_response().extension_number_size(), 0);
  request.set_all_extension_numbers_of_type("no.Type");
  EXPECT_EQ(Reflect(request, {}).error_response().error_code(),
            grpc::StatusCode::NOT_FOUND);
  request.mutable_file_containing_extension()->set_extension_number(7);
  EXPECT_EQ(Reflect(request, {}).error_response().error_code(),
            grpc::StatusCode::NOT_FOUND);
}

class ReflectionServiceTest : public testing::Test {
 protected:
  ReflectionServiceTest() : service_(MakeReflectionService({"a.Service"})) {
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = Reflection::NewStub(
        server_->InProcessChannel(grpc::ChannelArguments()));
    stream_ = stub_->ServerReflectionInfo(&rpc_);
  }

  grpc::ClientContext rpc_;
  const std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Reflection::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream_;
};

TEST_F(ReflectionServiceTest, ListsItsServicesAndAnswersAgain) {
  Request request;
  request.set_list_services("*");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream_->Write(request));
    Response response;
    ASSERT_TRUE(stream_->Read(&response));
    std::vector<std::string> names;
    for (const auto& service : response.list_services_response().service()) {
      names.push_back(service.name());
    }
    EXPECT_THAT(names, ElementsAre("a.Service", "grpc.health.v1.Health",
                                   "grpc.reflection.v1alpha.ServerReflection"));
  }
  stream_->WritesDone();
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(ReflectionServiceTest, ALongRequestEndsTheStream) {
  Request request;
  auto* unknown = request.GetReflection()->MutableUnknownFields(&request);
  for (int i = 0; i < 5000; ++i) unknown->AddVarint(9, 1);
  stream_->Write(request);
  Response response;
  EXPECT_FALSE(stream_->Read(&response));
  const grpc::Status status = stream_->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              HasSubstr("has 10000 bytes; it may have at most 4096"));
}

TEST_F(ReflectionServiceTest, AServerEndsWithStreamsOpen) {
  Request request;
  request.set_list_services("*");
  Response response;
  ASSERT_TRUE(stream_->Write(request));
  ASSERT_TRUE(stream_->Read(&response));
  server_->Shutdown(std::chrono::system_clock::now());
  EXPECT_FALSE(stream_->Finish().ok());
}

}  // namespace
}  // namespace quire
