// SPDX-License-Identifier: Apache-2.0
//
// How a slot samples, and which tokens it may, as protobuf.
#ifndef COMMON_WIRE_SLOT_SAMPLING_WIRE_H_
#define COMMON_WIRE_SLOT_SAMPLING_WIRE_H_

#include "absl/status/status.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "proto/worker.pb.h"

namespace quire {

void EncodeSlotSampling(const SlotSampling& from, v1::SlotSampling* to);

// InvalidArgument names the field that is malformed or out of range. Reuses the
// memory of `to`; after a failure it is anything.
absl::Status DecodeSlotSampling(const v1::SlotSampling& from, SlotSampling* to);

// As bits, or as ids where those take less.
void EncodeSlotMask(const SlotMask& from, v1::SlotMask* to);

// InvalidArgument if a number is out of range or no token is allowed.
absl::Status DecodeSlotMask(const v1::SlotMask& from, SlotMask* to);

}  // namespace quire

#endif  // COMMON_WIRE_SLOT_SAMPLING_WIRE_H_
