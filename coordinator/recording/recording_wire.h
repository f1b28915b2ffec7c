// SPDX-License-Identifier: Apache-2.0
//
// Engine inputs to and from the messages of a recording.
#ifndef COORDINATOR_RECORDING_RECORDING_WIRE_H_
#define COORDINATOR_RECORDING_RECORDING_WIRE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_options.h"

namespace quire {

namespace v1 {
class RecordedGroup;
class RecordedLoss;
class RecordedOptions;
class RecordedRequest;
}  // namespace v1

void EncodeOptions(const EngineOptions& options, v1::RecordedOptions* message);
EngineOptions DecodeOptions(const v1::RecordedOptions& message);

void EncodeRequest(const EngineRequest& request, v1::RecordedRequest* message);
EngineRequest DecodeRequest(const v1::RecordedRequest& message);

void EncodeGroup(const GroupReady& group, v1::RecordedGroup* message);
GroupReady DecodeGroup(const v1::RecordedGroup& message);

void EncodeLoss(const absl::Status& cause, v1::RecordedLoss* message);
absl::Status DecodeLoss(const v1::RecordedLoss& message);

}  // namespace quire

#endif  // COORDINATOR_RECORDING_RECORDING_WIRE_H_
