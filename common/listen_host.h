// SPDX-License-Identifier: Apache-2.0
//
// The address of this machine that a server of ours listens on.
#ifndef COMMON_LISTEN_HOST_H_
#define COMMON_LISTEN_HOST_H_

#include <string>

#include "absl/status/status.h"

namespace quire {

// Whether --host=`host`, a name, an IPv4 address or an IPv6 one in brackets, is
// this machine's, whatever its ports. InvalidArgument, in one line, says what
// is wrong with it and what to give instead. Looks names up, which may take
// seconds.
absl::Status CheckListenHost(const std::string& host);

}  // namespace quire

#endif  // COMMON_LISTEN_HOST_H_
