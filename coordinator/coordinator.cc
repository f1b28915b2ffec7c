// SPDX-License-Identifier: Apache-2.0
#include "coordinator/coordinator.h"

#include <grpcpp/impl/codegen/service_type.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/metrics/metrics_server.h"
#include "common/metrics/request_metrics.h"
#include "common/metrics/step_metrics.h"
#include "common/status_macros.h"
#include "coordinator/cluster/cluster_context.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/cluster/group_controller.h"
#include "coordinator/cluster/rendezvous_board.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/gateway/engine_collector.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/inference_service.h"
#include "coordinator/grpc_server.h"
#include "coordinator/recording/recorder.h"
#include "coordinator/served_model.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr int kMaxQueuedTexts = 1024;
// The engine's thread has only to wake up.
constexpr absl::Duration kEngineReadyTimeout = absl::Seconds(5);

// A step's outputs are few microseconds of text work each; more threads than a
// few only take cores from others.
int NumGatewayThreads() {
  return std::thread::hardware_concurrency() >= 8 ? 2 : 1;
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
        router_(NumGatewayThreads()) {}
  ~Impl();

  absl::Status Init();

  void Drain(absl::Time deadline);

  CoordinatorOptions options_;
  const CoordinatorCallbacks callbacks_;
  Clock* const clock_;
  ServedModel model_;

  // Shared with the metrics server, which holds weak shares only.
  std::shared_ptr<prometheus::Registry> metrics_registry_;
  std::unique_ptr<RequestMetrics> request_metrics_;
  std::unique_ptr<StepMetrics> step_metrics_;

  OutputRouter router_;
  SessionTable sessions_;
  std::unique_ptr<Recorder> recorder_;  // outlives the engine
  std::unique_ptr<EngineLoop> engine_;
  std::shared_ptr<EngineCollector> engine_collector_;  // see above
  std::unique_ptr<WorkerRegistry> registry_;
  RendezvousBoard board_;
  std::unique_ptr<GroupLauncher> launcher_;
  std::unique_ptr<GroupController> controller_;
  std::unique_ptr<TextPool> text_pool_;
  GatewayContext gateway_;
  ClusterContext cluster_;
  std::unique_ptr<grpc::Service> inference_service_;
  std::unique_ptr<grpc::Service> cluster_service_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<GrpcServer> public_server_;
  std::unique_ptr<GrpcServer> control_server_;

 private:
  absl::Status InitModel();
  absl::Status InitEngine();
  void InitController();
  void FillContexts();
  absl::Status Listen();
  void OnReady(const LaunchedGroup& group);
};

absl::Status Coordinator::Impl::Init() {
  QUIRE_RETURN_IF_ERROR(InitModel());
  QUIRE_RETURN_IF_ERROR(InitEngine());
  InitController();
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

absl::Status Coordinator::Impl::InitEngine() {
  metrics_registry_ = std::make_shared<prometheus::Registry>();
  request_metrics_ =
      std::make_unique<RequestMetrics>(model_.name, metrics_registry_.get());
  step_metrics_ =
      std::make_unique<StepMetrics>(model_.name, metrics_registry_.get());
  EngineOptions engine = options_.engine;
  FitEngineToModel(model_, &engine);
  engine.on_group_lost = options_.reform_lost_groups
                             ? OnGroupLostAction::kRequeue
                             : OnGroupLostAction::kFail;
  std::random_device entropy;
  engine.cache_salt_key = uint64_t{entropy()} << 32 | entropy();
  QUIRE_RETURN_IF_ERROR(ValidateEngineOptions(engine));
  QUIRE_ASSIGN_OR_RETURN(engine_, EngineLoop::Create(engine, &router_, clock_));
  if (!options_.record.empty()) {
    QUIRE_ASSIGN_OR_RETURN(recorder_, Recorder::Open(options_.record, engine));
    engine_->Observe(recorder_.get());
  }
  engine_collector_ = std::make_shared<EngineCollector>(
      model_.name, engine_.get(), [this] { return engine_->TakeMetrics(); });
  return absl::OkStatus();
}

void Coordinator::Impl::InitController() {
  LaunchOptions launch = options_.launch;
  launch.max_model_len = options_.max_model_len;
  launcher_ = std::make_unique<GroupLauncher>(launch);
  WorkerRegistry::Options registry;
  registry.world_size = options_.tensor_parallel_size;
  // Ever growing, across restarts too: a worker that has seen a later
  // coordinator refuses an earlier one.
  const Epoch epoch(static_cast<uint64_t>(absl::ToUnixMicros(clock_->Now())));
  registry_ = std::make_unique<WorkerRegistry>(registry, epoch, clock_);
  GroupController::Options controller;
  controller.reform = options_.reform_lost_groups;
  controller.watchdog = options_.watchdog;
  GroupController::Callbacks callbacks;
  callbacks.on_ready = [this](const LaunchedGroup& group) { OnReady(group); };
  callbacks.on_lost = [this](const absl::Status& cause, bool was_ready) {
    public_server_->SetReady(false);
    if (callbacks_.on_lost != nullptr) callbacks_.on_lost(cause, was_ready);
  };
  controller_ = std::make_unique<GroupController>(
      controller, std::move(callbacks), registry_.get(), &board_,
      launcher_.get(), clock_, step_metrics_.get());
}

void Coordinator::Impl::FillContexts() {
  text_pool_ = std::make_unique<TextPool>(NumGatewayThreads(), kMaxQueuedTexts);
  gateway_.clock = clock_;
  gateway_.engine = engine_.get();
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
  facts.flags = options_.flags;
  std::random_device entropy;
  gateway_.seed = options_.seed != 0 ? options_.seed
                                     : uint64_t{entropy()} << 32 | entropy();

  cluster_.clock = clock_;
  cluster_.registry = registry_.get();
  cluster_.board = &board_;
  cluster_.engine = engine_.get();
  cluster_.version = kVersion;
  cluster_.model = model_.name;
  cluster_.started = clock_->Now();
  cluster_.on_formed = [this](const FormedGroup& group) {
    controller_->Launch(group);
  };
  cluster_.is_draining = [this] { return sessions_.is_draining(); };
  cluster_.drain = [this](absl::Time deadline) {
    public_server_->SetReady(false);
    const SessionTable::DrainCounts counts = sessions_.Drain(deadline, clock_);
    return DrainOutcome{counts.num_finished, counts.num_aborted};
  };
}

absl::Status Coordinator::Impl::Listen() {
  inference_service_ = MakeInferenceService(&gateway_);
  QUIRE_ASSIGN_OR_RETURN(
      public_server_,
      GrpcServer::Start(GrpcServer::Audience::kPublic, options_.host,
                        options_.port, "port",
                        {{"quire.v1.Inference", inference_service_.get()}}));
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(options_.host, options_.metrics_port);
  if (!metrics.ok()) {
    return absl::UnavailableError(
        absl::StrCat(metrics.status().message(),
                     ": the port is taken or the address is not this "
                     "machine's; choose another with --metrics_port, or 0 for "
                     "any"));
  }
  metrics_server_ = *std::move(metrics);
  metrics_server_->Add(metrics_registry_);
  metrics_server_->Add(engine_collector_);
  cluster_.public_address = Address(options_.host, public_server_->port());
  // Before workers can join: they are answered by these.
  engine_->Start(controller_->dispatcher());
  controller_->Start(engine_.get(), clock_);
  cluster_service_ = MakeClusterService(&cluster_);
  QUIRE_ASSIGN_OR_RETURN(
      control_server_,
      GrpcServer::Start(GrpcServer::Audience::kWorkers, options_.host,
                        options_.control_port, "control_port",
                        {{"quire.v1.Cluster", cluster_service_.get()}}));
  control_server_->SetReady(true);
  return absl::OkStatus();
}

void Coordinator::Impl::OnReady(const LaunchedGroup& group) {
  const int64_t num_tokens =
      int64_t{group.ready.num_blocks} * (group.ready.block_size > 0
                                             ? group.ready.block_size
                                             : options_.engine.block_size);
  const int64_t request_tokens = std::min(4096, options_.max_model_len);
  LOG(INFO) << group.ready.num_blocks << " blocks, " << num_tokens
            << " tokens; " << num_tokens / request_tokens << " requests of "
            << request_tokens << " tokens at once";
  // The engine hears of the group on its own thread; until then it would
  // refuse the first request of whoever is told now.
  if (!engine_->AwaitReady(clock_->Now() + kEngineReadyTimeout)) return;
  if (!sessions_.is_draining()) public_server_->SetReady(true);
  if (callbacks_.on_ready != nullptr) callbacks_.on_ready(group);
}

void Coordinator::Impl::Drain(absl::Time deadline) {
  public_server_->SetReady(false);
  const SessionTable::DrainCounts counts = sessions_.Drain(deadline, clock_);
  LOG(INFO) << "drained: " << counts.num_finished << " requests finished, "
            << counts.num_aborted << " ended early";
}

Coordinator::Impl::~Impl() {
  // First, so that workers that leave now are no loss.
  if (controller_ != nullptr) controller_->Stop();
  if (public_server_ != nullptr) {
    public_server_->Shutdown(absl::ZeroDuration());
  }
  if (control_server_ != nullptr) {
    control_server_->Shutdown(absl::ZeroDuration());
  }
  text_pool_ = nullptr;
  // The last of the engine's callers are gone.
  if (engine_ != nullptr) engine_->Stop();
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
  auto impl = std::make_unique<Impl>(whole, std::move(callbacks), clock);
  QUIRE_RETURN_IF_ERROR(impl->Init());
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Coordinator::~Coordinator() = default;

std::string Coordinator::public_address() const {
  return Address(impl_->options_.host, impl_->public_server_->port());
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
