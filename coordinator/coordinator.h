// SPDX-License-Identifier: Apache-2.0
//
// The coordinator process, put together: gateway, engine, cluster and
// dispatcher, each on its port or thread.
#ifndef COORDINATOR_COORDINATOR_H_
#define COORDINATOR_COORDINATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/dispatch/group_launcher.h"
#include "coordinator/dispatch/step_watchdog.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/gateway/load_chat_facts.h"
#include "coordinator/lost_group.h"
#include "coordinator/routing/group_choice.h"

namespace quire {

struct CoordinatorOptions {
  std::string model;              // a Hugging Face folder
  std::string served_model_name;  // "": the folder's name
  bool skip_tokenizer_init = false;
  ChatOptions chat;
  int32_t tensor_parallel_size = 1;
  int32_t data_parallel_size = 1;  // groups of so many ranks
  RoutingPolicy routing = RoutingPolicy::kEarliestStart;
  int32_t max_model_len = 0;  // 0: what the model was trained for
  uint64_t seed = 0;          // of seeds that clients leave to the server
  // File to record the engine's inputs in, or with several groups, files: with
  // ".0", ".1" ... appended. "": none.
  std::string record;

  std::string host = "127.0.0.1";
  int port = 8001;  // 0 takes a free one; likewise below
  int control_port = 9000;
  int metrics_port = 8002;

  bool reform_lost_groups = false;
  // Of a worker's silence, after which it is lost. [1 s, 10 min]
  absl::Duration heartbeat_timeout = absl::Seconds(3);
  StepWatchdog::Options watchdog;
  EngineOptions engine;  // max_model_len is taken from the above
  LaunchOptions launch;  // and so is what it shares with `engine`
  std::map<std::string, std::string> flags;  // for GetServerInfo
};

// Called one at a time, but for on_dismissed.
struct CoordinatorCallbacks {
  // Requests can be served as well as they will be for now: a group became
  // ready, or the first time was lost, and all are ready but those that have
  // been lost. Blocks are those of all that are ready; `missing` says in one
  // line why a group is not, "" if all are.
  std::function<void(int32_t num_blocks, const std::string& missing)> on_ready;
  std::function<void(const LostGroup&)> on_lost;
  // Not when the coordinator ends. By groups at once.
  std::function<void(const DismissedWorker&)> on_dismissed;
};

// Thread-safe.
class Coordinator {
 public:
  // Reads the model's configuration and tokenizer and listens on all ports.
  // NotFound, InvalidArgument and Unimplemented concern the model folder or an
  // option, OutOfRange an option that the model does not allow, Unavailable a
  // port; messages are one line for the user.
  // `clock` must outlive it.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(
      const CoordinatorOptions& options, CoordinatorCallbacks callbacks,
      Clock* clock);
  // Stops without grace.
  ~Coordinator();

  // "host:port" of each port, for people and clients.
  std::string public_address() const;
  std::string control_address() const;
  std::string metrics_address() const;

  // What whoever started it should know, in one line; "" if nothing.
  std::string warning() const;

  // Takes no new requests, lets running ones end until `deadline`, ends the
  // rest with Unavailable.
  void Drain(absl::Time deadline);
  // Makes a Drain in progress end at once.
  void HurryDrain();

 private:
  class Impl;

  explicit Coordinator(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace quire

#endif  // COORDINATOR_COORDINATOR_H_
