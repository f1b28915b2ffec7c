// SPDX-License-Identifier: Apache-2.0
//
// What each architecture's config.json says, in one ModelConfig.
#ifndef COMMON_MODEL_FAMILIES_H_
#define COMMON_MODEL_FAMILIES_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/json_fields.h"
#include "common/model_config.h"

namespace quire {

struct ModelArchitecture {
  const char* name;  // as "architectures" has it
  // Fills in all but what every architecture spells alike: its name, dtype,
  // vocabulary and token ids. InvalidArgument and Unimplemented name the field.
  absl::Status (*parse)(const JsonFields& fields, ModelConfig* config);
};

absl::Span<const ModelArchitecture> ModelArchitectures();

}  // namespace quire

#endif  // COMMON_MODEL_FAMILIES_H_
