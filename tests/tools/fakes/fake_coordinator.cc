// SPDX-License-Identifier: Apache-2.0
//
// A program that behaves to its launcher like a coordinator. --fake says how:
//   serve   becomes ready after two Status calls, ends at SIGINT or SIGTERM
//   warn    like serve, and warns
//   waits   like serve, but is never ready
//   half    like waits, but the first of its two groups is ready
//   loads   like half, while the other loads
//   refuse  says in one line why it cannot begin, after others, exits with 1
//   unload  like refuse, but while its workers load
//   fail    complains and exits with 1
//   usage   complains and exits with 2
//   deaf    like serve, but ends by SIGKILL only
//   drains  like serve, but ends at the second signal
//   lost    becomes ready, then exits with 1
// Whoever registers is dismissed at once.
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/inference.grpc.pb.h"

namespace {

constexpr int kCallsUntilReady = 2;

class Cluster final : public quire::v1::Cluster::Service {
 public:
  // `other`: the state of a second group, beside one that is ready.
  explicit Cluster(std::optional<quire::v1::GroupState> other)
      : other_(other) {}

  grpc::Status Status(grpc::ServerContext*, const quire::v1::StatusRequest*,
                      quire::v1::StatusResponse* response) override {
    quire::v1::Group* group = response->add_groups();
    if (other_.has_value()) {
      group->set_state(quire::v1::GROUP_STATE_READY);
      group->set_num_blocks(1024);
      group = response->add_groups();
      group->set_group(1);
      group->set_state(*other_);
      return grpc::Status::OK;
    }
    group->set_state(quire::v1::GROUP_STATE_LOADING);
    quire::v1::Rank* rank = group->add_ranks();
    rank->set_load_phase("weights");
    rank->set_load_bytes_done(1 << 20);
    rank->set_load_bytes_total(2 << 20);
    absl::MutexLock lock(&mutex_);
    ++num_calls_;
    return grpc::Status::OK;
  }

  grpc::Status Register(grpc::ServerContext*,
                        const quire::v1::RegisterRequest* request,
                        quire::v1::RegisterResponse*) override {
    std::printf("QUIRE_DISMISSED group=%u rank=%u pid=%ju\n", request->group(),
                request->rank(), uintmax_t{request->pid()});
    std::fflush(stdout);
    return grpc::Status::OK;
  }

  void AwaitCalls() {
    const auto is_enough = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return num_calls_ >= kCallsUntilReady;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_enough));
  }

 private:
  const std::optional<quire::v1::GroupState> other_;
  absl::Mutex mutex_;
  int num_calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

class Inference final : public quire::v1::Inference::Service {
 public:
  grpc::Status GetServerInfo(
      grpc::ServerContext*, const quire::v1::GetServerInfoRequest*,
      quire::v1::GetServerInfoResponse* response) override {
    response->set_model("fake");
    response->set_max_model_len(8192);
    response->set_tensor_parallel_size(2);
    return grpc::Status::OK;
  }
};

int Refuse(const char* why) {
  std::fprintf(stderr, "E1122 a log's line\nquire_coordinator: %s\n", why);
  return 1;
}

int Serve(const std::string& behaviour) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);

  std::optional<quire::v1::GroupState> other;
  if (behaviour == "half") other = quire::v1::GROUP_STATE_JOINING;
  if (behaviour == "loads") other = quire::v1::GROUP_STATE_LOADING;
  Cluster cluster(other);
  Inference inference;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&cluster);
  builder.RegisterService(&inference);
  const auto server = builder.BuildAndStart();
  std::printf(
      "QUIRE_LISTENING public=127.0.0.1:%d control=127.0.0.1:%d "
      "metrics=127.0.0.1:%d\n",
      port, port, port);
  if (behaviour == "warn") std::printf("QUIRE_WARNING no chats: line 3\n");
  std::fflush(stdout);
  std::thread([&] {
    cluster.AwaitCalls();
    if (behaviour == "waits") return;
    if (behaviour == "unload")
      _exit(Refuse("rank 1 (127.0.0.1:7): no weights"));
    std::printf("QUIRE_KV blocks=1024 block_size=16\nQUIRE_READY\n");
    std::fflush(stdout);
    if (behaviour != "lost") return;
    std::fprintf(stderr, "the group is lost\n");
    _exit(1);
  }).detach();
  int signal = 0;
  if (behaviour == "drains") {
    sigwait(&set, &signal);
    std::fprintf(stderr, "draining\n");
  }
  do {
    sigwait(&set, &signal);
  } while (behaviour == "deaf");
  std::fprintf(stderr, "ending after signal %d\n", signal);
  std::fflush(stderr);
  _exit(0);  // the thread may still wait
}

}  // namespace

int main(int argc, char** argv) {
  std::string behaviour = "serve";
  for (int idx = 1; idx < argc; ++idx) {
    if (std::strncmp(argv[idx], "--fake=", 7) == 0) behaviour = argv[idx] + 7;
  }
  if (behaviour == "refuse") return Refuse("no config.json; copy it");
  if (behaviour == "fail" || behaviour == "usage") {
    std::fprintf(stderr, "first line\nthe model folder lacks config.json\n");
    return behaviour == "usage" ? 2 : 1;
  }
  return Serve(behaviour);
}
