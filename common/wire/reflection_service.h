// SPDX-License-Identifier: Apache-2.0
//
// Tells tools such as grpcurl what a server's services are. In place of gRPC's
// own, which parses and sends back whatever comes: two clients with requests of
// 16 MB took 4.4 GB.
#ifndef COMMON_WIRE_REFLECTION_SERVICE_H_
#define COMMON_WIRE_REFLECTION_SERVICE_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "proto/reflection.pb.h"

namespace quire {

// Files of this program's, by name or by what is in them, with what they
// import. Types are known, but no extensions, which our protos have none of.
grpc::reflection::v1alpha::ServerReflectionResponse Reflect(
    const grpc::reflection::v1alpha::ServerReflectionRequest& request,
    const std::vector<std::string>& service_names);

// grpc.reflection.v1alpha.ServerReflection of a server that has these services
// beside it, by their full names. Thread-safe.
std::unique_ptr<grpc::Service> MakeReflectionService(
    std::vector<std::string> service_names);

}  // namespace quire

#endif  // COMMON_WIRE_REFLECTION_SERVICE_H_
