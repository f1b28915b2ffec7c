// SPDX-License-Identifier: Apache-2.0
#include "common/wire/error_details.h"

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "common/wire/rpc_status.pb.h"

namespace quire {
namespace {

constexpr absl::string_view kErrorInfoUrl =
    "type.googleapis.com/google.rpc.ErrorInfo";
constexpr absl::string_view kBadRequestUrl =
    "type.googleapis.com/google.rpc.BadRequest";
constexpr absl::string_view kRetryInfoUrl =
    "type.googleapis.com/google.rpc.RetryInfo";

template <typename Message>
void Attach(absl::string_view url, const Message& message,
            absl::Status* status) {
  status->SetPayload(url, absl::Cord(message.SerializeAsString()));
}

template <typename Message>
bool Detach(absl::string_view url, const absl::Status& status,
            Message* message) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  return payload.has_value() && message->ParseFromString(std::string(*payload));
}

}  // namespace

void SetErrorDetails(const ErrorDetails& details, absl::Status* status) {
  for (absl::string_view url : {kErrorInfoUrl, kBadRequestUrl, kRetryInfoUrl}) {
    status->ErasePayload(url);
  }
  if (!details.reason.empty()) {
    google::rpc::ErrorInfo info;
    info.set_reason(details.reason);
    info.set_domain(kErrorDomain);
    for (const auto& [key, value] : details.metadata) {
      (*info.mutable_metadata())[key] = value;
    }
    Attach(kErrorInfoUrl, info, status);
  }
  if (!details.field_violations.empty()) {
    google::rpc::BadRequest bad_request;
    for (const FieldViolation& violation : details.field_violations) {
      auto* added = bad_request.add_field_violations();
      added->set_field(violation.field);
      added->set_description(violation.description);
    }
    Attach(kBadRequestUrl, bad_request, status);
  }
  if (details.retry_delay.has_value()) {
    google::rpc::RetryInfo retry;
    absl::Duration rest;
    retry.mutable_retry_delay()->set_seconds(
        absl::IDivDuration(*details.retry_delay, absl::Seconds(1), &rest));
    retry.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
    Attach(kRetryInfoUrl, retry, status);
  }
}

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  google::rpc::ErrorInfo info;
  if (Detach(kErrorInfoUrl, status, &info)) {
    details.reason = info.reason();
    details.metadata.insert(info.metadata().begin(), info.metadata().end());
  }
  google::rpc::BadRequest bad_request;
  if (Detach(kBadRequestUrl, status, &bad_request)) {
    for (const auto& violation : bad_request.field_violations()) {
      details.field_violations.push_back(
          {violation.field(), violation.description()});
    }
  }
  google::rpc::RetryInfo retry;
  if (Detach(kRetryInfoUrl, status, &retry)) {
    details.retry_delay = absl::Seconds(retry.retry_delay().seconds()) +
                          absl::Nanoseconds(retry.retry_delay().nanos());
  }
  return details;
}

}  // namespace quire
