// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/gloo.h"

#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gloo/rendezvous/context.h"
#include "gloo/rendezvous/store.h"
#include "gloo/transport/tcp/device.h"
#include "gloo/transport/unbound_buffer.h"
#include "worker/collective/rank_sum.h"

namespace quire {
namespace {

using Buffers = std::vector<std::unique_ptr<gloo::transport::UnboundBuffer>>;

// Up to here every rank sends all it has to every other: one round instead of
// two. On loopback a round costs about 100 us and 4 MB about 3 ms, so two
// rounds pay off once a message costs more than the second one.
constexpr int64_t kDirectBytes = 64 << 10;

std::chrono::milliseconds ToMilliseconds(absl::Duration duration) {
  return std::chrono::milliseconds(absl::ToInt64Milliseconds(duration));
}

// Gloo's view of a KeyBoard. Gloo reports errors by exceptions, so this throws;
// they are caught in ConnectGloo.
class BoardStore final : public gloo::rendezvous::Store {
 public:
  BoardStore(KeyBoard* board, absl::Duration timeout)
      : board_(board), timeout_(timeout) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    const absl::Status status =
        board_->Put(key, std::string(data.begin(), data.end()));
    if (!status.ok()) throw std::runtime_error(status.ToString());
  }

  std::vector<char> get(const std::string& key) override {
    const std::string value = Get({key}, timeout_).front();
    return std::vector<char>(value.begin(), value.end());
  }

  void wait(const std::vector<std::string>& keys) override {
    Get(keys, timeout_);
  }

  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    Get(keys, absl::FromChrono(timeout));
  }

 private:
  std::vector<std::string> Get(const std::vector<std::string>& keys,
                               absl::Duration timeout) {
    auto values = board_->Get(keys, timeout);
    if (!values.ok()) throw std::runtime_error(values.status().ToString());
    return *std::move(values);
  }

  KeyBoard* const board_;
  const absl::Duration timeout_;
};

// Allocates a small descriptor per message; message bytes are copied by the
// kernel alone.
class GlooCollective final : public Collective {
 public:
  GlooCollective(std::shared_ptr<gloo::rendezvous::Context> context,
                 absl::Duration timeout)
      : context_(std::move(context)), timeout_(ToMilliseconds(timeout)) {}

  int32_t rank() const override { return context_->rank; }
  int32_t world_size() const override { return context_->size; }
  std::string name() const override { return "gloo"; }
  std::vector<std::string> links() const override {
    std::vector<std::string> links(world_size(), "network");
    links[rank()] = "";
    return links;
  }

  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override {
    if (num_elements == 0) return absl::OkStatus();
    return Guard([&] {
      char* bytes = static_cast<char*>(data);
      if (num_elements * SizeOf(dtype) <= kDirectBytes) {
        ReduceDirect(bytes, num_elements, dtype);
      } else {
        ReduceInParts(bytes, num_elements, dtype);
      }
    });
  }

  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    return Guard([&] {
      char* to = static_cast<char*>(out);
      char* own = to + rank() * bytes;
      if (in != own) std::memcpy(own, in, bytes);
      ++operation_;
      Buffers sends, receives;
      ForEachPeer([&](int32_t peer) {
        Receive(peer, to + peer * bytes, bytes, &receives);
        Send(peer, own, bytes, &sends);
      });
      WaitAll(sends, receives);
    });
  }

  absl::Status Barrier() override {
    flags_.resize(world_size());
    return AllGather(flags_.data() + rank(), flags_.data(), 1);
  }

 private:
  // Runs one operation; turns Gloo's exceptions into the group's end.
  absl::Status Guard(const std::function<void()>& operation) {
    if (!broken_.ok()) return broken_;
    try {
      operation();
    } catch (const std::exception& error) {
      broken_ = absl::UnavailableError(
          absl::StrCat("rank ", rank(), " lost a peer: ", error.what()));
    }
    return broken_;
  }

  void ForEachPeer(const std::function<void(int32_t)>& visit) {
    for (int32_t peer = 0; peer < world_size(); ++peer) {
      if (peer != rank()) visit(peer);
    }
  }

  void Send(int32_t peer, void* from, int64_t bytes, Buffers* sends) {
    if (bytes == 0) return;
    sends->push_back(context_->createUnboundBuffer(from, bytes));
    sends->back()->send(peer, operation_);
  }

  void Receive(int32_t peer, void* to, int64_t bytes, Buffers* receives) {
    if (bytes == 0) return;
    receives->push_back(context_->createUnboundBuffer(to, bytes));
    receives->back()->recv(peer, operation_);
  }

  void WaitAll(const Buffers& sends, const Buffers& receives) {
    for (const auto& buffer : receives) buffer->waitRecv(timeout_);
    for (const auto& buffer : sends) buffer->waitSend(timeout_);
  }

  // Everything from everybody, then the whole sum here.
  void ReduceDirect(char* data, int64_t num_elements, DType dtype) {
    const int64_t bytes = num_elements * SizeOf(dtype);
    scratch_.resize(world_size() * bytes);
    std::vector<const void*> sources(world_size(), data);
    ++operation_;
    Buffers sends, receives;
    ForEachPeer([&](int32_t peer) {
      sources[peer] = scratch_.data() + peer * bytes;
      Receive(peer, scratch_.data() + peer * bytes, bytes, &receives);
      Send(peer, data, bytes, &sends);
    });
    WaitAll(sends, receives);
    SumInRankOrder(sources, data, num_elements, dtype);
  }

  // My part from everybody, its sum to everybody.
  void ReduceInParts(char* data, int64_t num_elements, DType dtype) {
    const int64_t width = SizeOf(dtype);
    const RankPart mine = PartOf(num_elements, rank(), world_size());
    char* my_data = data + mine.begin * width;
    const int64_t my_bytes = mine.size() * width;
    scratch_.resize(world_size() * my_bytes);
    std::vector<const void*> sources(world_size(), my_data);
    ++operation_;
    Buffers sends, receives;
    ForEachPeer([&](int32_t peer) {
      const RankPart part = PartOf(num_elements, peer, world_size());
      sources[peer] = scratch_.data() + peer * my_bytes;
      Receive(peer, scratch_.data() + peer * my_bytes, my_bytes, &receives);
      Send(peer, data + part.begin * width, part.size() * width, &sends);
    });
    WaitAll(sends, receives);
    SumInRankOrder(sources, my_data, mine.size(), dtype);

    sends.clear();
    receives.clear();
    ++operation_;
    ForEachPeer([&](int32_t peer) {
      const RankPart part = PartOf(num_elements, peer, world_size());
      Receive(peer, data + part.begin * width, part.size() * width, &receives);
      Send(peer, my_data, my_bytes, &sends);
    });
    WaitAll(sends, receives);
  }

  const std::shared_ptr<gloo::rendezvous::Context> context_;
  const std::chrono::milliseconds timeout_;
  uint64_t operation_ = 0;  // tags the messages of an operation; ranks agree
  std::vector<char> scratch_;
  std::vector<char> flags_;
  absl::Status broken_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Collective>> ConnectGloo(
    const GlooOptions& options, KeyBoard* board) {
  try {
    gloo::transport::tcp::attr address(options.host.c_str());
    std::shared_ptr<gloo::transport::Device> device =
        gloo::transport::tcp::CreateDevice(address);
    BoardStore store(board, options.connect_timeout);
    auto context = std::make_shared<gloo::rendezvous::Context>(
        options.rank, options.world_size);
    context->setTimeout(ToMilliseconds(options.connect_timeout));
    context->connectFullMesh(store, device);
    context->setTimeout(ToMilliseconds(options.operation_timeout));
    return std::make_unique<GlooCollective>(std::move(context),
                                            options.operation_timeout);
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "rank ", options.rank, " of ", options.world_size,
        " cannot join its group from ", options.host, ": ", error.what()));
  }
}

}  // namespace quire
