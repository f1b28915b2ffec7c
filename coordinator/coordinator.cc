// SPDX-License-Identifier: Apache-2.0
#include "coordinator/coordinator.h"

#include <grpcpp/impl/codegen/service_type.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/metrics/metrics_server.h"
#include "common/metrics/request_metrics.h"
#include "common/metrics/step_metrics.h"
#include "common/status_macros.h"
#include "coordinator/cluster/cluster_context.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/cluster/known_pools.h"
#include "coordinator/cluster/rendezvous_board.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/gateway/call_queues.h"
#include "coordinator/gateway/engine_collector.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/inference_service.h"
#include "coordinator/group_lives.h"
#include "coordinator/grpc_server.h"
#include "coordinator/replica_group.h"
#include "coordinator/routing/group_router.h"
#include "coordinator/served_model.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr int kMaxQueuedTexts = 1024;

// A step's outputs are few microseconds of text work each; more threads than a
// few only take cores from others.
int NumGatewayThreads() {
  return std::thread::hardware_concurrency() >= 8 ? 2 : 1;
}

// Of each lane; in all as many as gRPC's callbacks have, so that requests which
// take long to read do not stand in each other's way more than there.
int NumArrivalThreads() {
  const int num_cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(num_cores, 2, 16) / NumGatewayThreads();
}

std::string Address(const std::string& host, int port) {
  const bool is_any = host == "0.0.0.0" || host == "[::]";
  return absl::StrCat(is_any ? "127.0.0.1" : host, ":", port);
}

}  // namespace

// Members are destroyed bottom up: who calls goes before who is called.
class Coordinator::Impl {
 public:
  Impl(const CoordinatorOptions& options, CoordinatorCallbacks callbacks,
       Clock* clock)
      : options_(options),
        callbacks_(std::move(callbacks)),
        clock_(clock),
        call_queues_(NumGatewayThreads(), NumArrivalThreads()),
        router_(call_queues_.gates()),
        lives_({.num_groups = options.data_parallel_size,
                .reform = options.reform_lost_groups},
               LivesCallbacks()) {}
  ~Impl();

  absl::Status Init();

  DrainOutcome Drain(absl::Time deadline);

  CoordinatorOptions options_;
  const CoordinatorCallbacks callbacks_;
  Clock* const clock_;
  ServedModel model_;

  // Shared with the metrics server, which holds weak shares only.
  std::shared_ptr<prometheus::Registry> metrics_registry_;
  std::unique_ptr<RequestMetrics> request_metrics_;
  std::vector<std::unique_ptr<StepMetrics>> step_metrics_;  // by group

  CallQueues call_queues_;
  OutputRouter router_;
  SessionTable sessions_;
  std::unique_ptr<WorkerRegistry> registry_;
  RendezvousBoard board_;
  KnownPools pools_;
  GroupLives lives_;
  std::unique_ptr<GroupRouter> group_router_;  // null for one group
  std::vector<std::unique_ptr<ReplicaGroup>> groups_;
  std::shared_ptr<EngineCollector> engine_collector_;  // see above
  std::unique_ptr<TextPool> text_pool_;
  GatewayContext gateway_;
  ClusterContext cluster_;
  std::unique_ptr<InferenceService> inference_service_;
  std::unique_ptr<grpc::Service> cluster_service_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<GrpcServer> public_server_;
  std::unique_ptr<GrpcServer> control_server_;

 private:
  GroupLives::Callbacks LivesCallbacks();
  absl::Status InitModel();
  absl::Status InitGroups();
  absl::Status AddGroup(const EngineOptions& engine, int32_t group_idx);
  void FillContexts();
  absl::Status Listen();
  // What requests are given to.
  EngineClient* engine();
};

GroupLives::Callbacks Coordinator::Impl::LivesCallbacks() {
  return {.is_current =
              [this](int32_t group_idx, Epoch group_epoch) {
                return registry_->CheckEpoch(group_idx, group_epoch).ok();
              },
          .set_serving =
              [this](bool is_serving) { public_server_->SetReady(is_serving); },
          .on_ready = callbacks_.on_ready,
          .on_lost = callbacks_.on_lost};
}

EngineClient* Coordinator::Impl::engine() {
  if (group_router_ != nullptr) return group_router_.get();
  return groups_.front()->engine();
}

absl::Status Coordinator::Impl::Init() {
  QUIRE_RETURN_IF_ERROR(InitModel());
  QUIRE_RETURN_IF_ERROR(InitGroups());
  FillContexts();
  QUIRE_RETURN_IF_ERROR(Listen());
  return absl::OkStatus();
}

absl::Status Coordinator::Impl::InitModel() {
  ServedModelOptions served;
  served.folder = options_.model;
  served.served_model_name = options_.served_model_name;
  served.skip_tokenizer_init = options_.skip_tokenizer_init;
  served.tensor_parallel_size = options_.tensor_parallel_size;
  served.max_model_len = options_.max_model_len;
  QUIRE_ASSIGN_OR_RETURN(model_, OpenServedModel(served));
  options_.max_model_len = model_.max_model_len;
  QUIRE_ASSIGN_OR_RETURN(gateway_.chat,
                         LoadChatFacts(options_.model, options_.chat));
  return absl::OkStatus();
}

absl::Status Coordinator::Impl::InitGroups() {
  metrics_registry_ = std::make_shared<prometheus::Registry>();
  request_metrics_ =
      std::make_unique<RequestMetrics>(model_.name, metrics_registry_.get());
  WorkerRegistry::Options registry;
  registry.num_groups = options_.data_parallel_size;
  registry.world_size = options_.tensor_parallel_size;
  registry.reform = options_.reform_lost_groups;
  registry.heartbeat_timeout = options_.heartbeat_timeout;
  // Ever growing, across restarts too: a worker that has seen a later
  // coordinator refuses an earlier one.
  const Epoch epoch(static_cast<uint64_t>(absl::ToUnixMicros(clock_->Now())));
  registry_ = std::make_unique<WorkerRegistry>(registry, epoch, clock_);

  EngineOptions engine = options_.engine;
  FitEngineToModel(model_, &engine);
  engine.on_group_lost = options_.reform_lost_groups
                             ? OnGroupLostAction::kRequeue
                             : OnGroupLostAction::kFail;
  std::random_device entropy;
  engine.cache_salt_key = uint64_t{entropy()} << 32 | entropy();
  QUIRE_RETURN_IF_ERROR(ValidateEngineOptions(engine));
  engine.tenants.DivideBlocks(options_.data_parallel_size);
  if (options_.data_parallel_size > 1) {
    group_router_ = std::make_unique<GroupRouter>(
        engine, options_.data_parallel_size, options_.routing);
  }
  std::vector<EngineLoop*> engines;
  std::vector<EngineCollector::Source> sources;
  for (int32_t i = 0; i < options_.data_parallel_size; ++i) {
    QUIRE_RETURN_IF_ERROR(AddGroup(engine, i));
    EngineLoop* loop = groups_.back()->engine();
    engines.push_back(loop);
    sources.push_back({loop, [loop] { return loop->TakeMetrics(); }});
  }
  if (group_router_ != nullptr) group_router_->SetEngines(std::move(engines));
  engine_collector_ =
      std::make_shared<EngineCollector>(model_.name, std::move(sources));
  return absl::OkStatus();
}

absl::Status Coordinator::Impl::AddGroup(const EngineOptions& engine,
                                         int32_t group_idx) {
  ReplicaGroup::Options options;
  options.engine = engine;
  if (group_router_ != nullptr) options.seat = group_router_->seat(group_idx);
  options.launch = options_.launch;
  options.launch.max_model_len = options_.max_model_len;
  options.controller.group = group_idx;
  options.controller.num_groups = options_.data_parallel_size;
  options.controller.pools = &pools_;
  options.controller.reform = options_.reform_lost_groups;
  options.controller.watchdog = options_.watchdog;
  options.record = options_.record;
  if (!options.record.empty() && group_router_ != nullptr) {
    absl::StrAppend(&options.record, ".", group_idx);
  }
  step_metrics_.push_back(std::make_unique<StepMetrics>(
      model_.name, group_idx, metrics_registry_.get()));
  GroupController::Callbacks callbacks;
  callbacks.on_ready = [this, group_idx](const LaunchedGroup& group) {
    lives_.OnReady(group_idx, group.ready.group_epoch, group.ready.num_blocks);
  };
  callbacks.on_lost = [this, group_idx](const absl::Status& cause,
                                        bool was_launched) {
    lives_.OnLost(group_idx, cause, was_launched);
  };
  callbacks.on_dismissed = callbacks_.on_dismissed;
  QUIRE_ASSIGN_OR_RETURN(
      std::unique_ptr<ReplicaGroup> group,
      ReplicaGroup::Create(options,
                           {.listener = &router_,
                            .registry = registry_.get(),
                            .board = &board_,
                            .metrics = step_metrics_.back().get(),
                            .clock = clock_},
                           std::move(callbacks)));
  groups_.push_back(std::move(group));
  return absl::OkStatus();
}

void Coordinator::Impl::FillContexts() {
  text_pool_ = std::make_unique<TextPool>(NumGatewayThreads(), kMaxQueuedTexts);
  gateway_.clock = clock_;
  gateway_.engine = engine();
  gateway_.tokenizer = model_.tokenizer.get();
  gateway_.grammars = model_.grammars.get();
  gateway_.router = &router_;
  gateway_.sessions = &sessions_;
  gateway_.text_pool = text_pool_.get();
  gateway_.metrics = request_metrics_.get();
  gateway_.limits = model_.limits;
  ServerFacts& facts = gateway_.facts;
  facts.version = kVersion;
  facts.architecture = model_.config.architecture;
  facts.dtype = options_.launch.dtype == "auto" ? model_.config.dtype
                                                : options_.launch.dtype;
  facts.device = [this] { return registry_->device(); };
  facts.tensor_parallel_size = options_.tensor_parallel_size;
  facts.data_parallel_size = options_.data_parallel_size;
  facts.flags = options_.flags;
  std::random_device entropy;
  gateway_.seed = options_.seed != 0 ? options_.seed
                                     : uint64_t{entropy()} << 32 | entropy();

  cluster_.clock = clock_;
  cluster_.registry = registry_.get();
  cluster_.board = &board_;
  for (const auto& group : groups_) {
    cluster_.engines.push_back(group->engine());
  }
  cluster_.version = kVersion;
  cluster_.model = model_.name;
  cluster_.started = clock_->Now();
  cluster_.on_formed = [this](const FormedGroup& formed) {
    groups_[formed.group]->Launch(formed);
  };
  cluster_.is_draining = [this] { return sessions_.is_draining(); };
  cluster_.drain = [this](absl::Time deadline) { return Drain(deadline); };
}

absl::Status Coordinator::Impl::Listen() {
  inference_service_ = MakeInferenceService(&gateway_, &call_queues_);
  QUIRE_ASSIGN_OR_RETURN(
      public_server_,
      GrpcServer::Start(GrpcServer::Audience::kPublic, options_.host,
                        options_.port, "port",
                        {{"quire.v1.Inference", inference_service_->service()}},
                        &call_queues_));
  inference_service_->TakeCalls();
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(options_.host, options_.metrics_port);
  if (!metrics.ok()) {
    return absl::UnavailableError(absl::StrCat(
        metrics.status().message(),
        absl::StartsWith(options_.host, "[")
            ? ": the library that serves metrics knows IPv4 alone; give --host "
              "an IPv4 address or a name"
            : ": the port is taken, or not for this user; choose another with "
              "--metrics_port, or 0 for any"));
  }
  metrics_server_ = *std::move(metrics);
  metrics_server_->Add(metrics_registry_);
  metrics_server_->Add(engine_collector_);
  cluster_.public_address = Address(options_.host, public_server_->port());
  // Before workers can join: they are answered by these.
  for (const auto& group : groups_) group->Start();
  cluster_service_ = MakeClusterService(&cluster_);
  QUIRE_ASSIGN_OR_RETURN(
      control_server_,
      GrpcServer::Start(GrpcServer::Audience::kWorkers, options_.host,
                        options_.control_port, "control_port",
                        {{"quire.v1.Cluster", cluster_service_.get()}}));
  control_server_->SetReady(true);
  return absl::OkStatus();
}

DrainOutcome Coordinator::Impl::Drain(absl::Time deadline) {
  lives_.StopServing();
  const SessionTable::DrainCounts counts = sessions_.Drain(deadline, clock_);
  LOG(INFO) << "drained: " << counts.num_finished << " requests finished, "
            << counts.num_aborted << " ended early";
  return {counts.num_finished, counts.num_aborted};
}

Coordinator::Impl::~Impl() {
  // First, so that workers that leave now are no loss.
  for (const auto& group : groups_) group->StopController();
  if (public_server_ != nullptr) {
    public_server_->Shutdown(absl::ZeroDuration());
  }
  if (control_server_ != nullptr) {
    control_server_->Shutdown(absl::ZeroDuration());
  }
  text_pool_ = nullptr;
  // The last of the engine's callers are gone.
  for (const auto& group : groups_) group->StopEngine();
}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(
    const CoordinatorOptions& options, CoordinatorCallbacks callbacks,
    Clock* clock) {
  CoordinatorOptions whole = options;
  whole.launch.model_path = options.model;
  whole.launch.max_num_seqs = options.engine.max_num_seqs;
  whole.launch.max_num_batched_tokens = options.engine.max_num_batched_tokens;
  whole.launch.block_size = options.engine.block_size;
  whole.launch.sparse_pages = options.engine.sparse_pages;
  whole.launch.seed = options.seed;
  whole.launch.heartbeat_timeout = options.heartbeat_timeout;
  auto impl = std::make_unique<Impl>(whole, std::move(callbacks), clock);
  QUIRE_RETURN_IF_ERROR(impl->Init());
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Coordinator::~Coordinator() = default;

std::string Coordinator::public_address() const {
  return Address(impl_->options_.host, impl_->public_server_->port());
}

std::string Coordinator::warning() const {
  return impl_->gateway_.chat.warning;
}

std::string Coordinator::control_address() const {
  return Address(impl_->options_.host, impl_->control_server_->port());
}

std::string Coordinator::metrics_address() const {
  return Address(impl_->options_.host, impl_->metrics_server_->port());
}

void Coordinator::Drain(absl::Time deadline) { impl_->Drain(deadline); }

void Coordinator::HurryDrain() { impl_->sessions_.HurryDrain(); }

}  // namespace quire
