// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/rendezvous_board.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::StatusOr<RendezvousBoard::Values> RendezvousBoard::Find(
    const BoardKey& board, const std::vector<std::string>& keys) const {
  const auto found = boards_.find(board);
  Values values;
  for (const std::string& key : keys) {
    if (found == boards_.end()) return absl::NotFoundError(key);
    const auto entry = found->second.values.find(key);
    if (entry == found->second.values.end()) return absl::NotFoundError(key);
    values.push_back(entry->second);
  }
  return values;
}

absl::Status RendezvousBoard::Put(int32_t group, Epoch group_epoch,
                                  const std::string& key,
                                  const std::string& value) {
  const BoardKey board_key(group, group_epoch);
  std::vector<std::pair<Callback, Values>> complete;
  {
    absl::MutexLock lock(&mutex_);
    Board& board = boards_[board_key];
    if (board.num_bytes + key.size() + value.size() > kMaxBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the rendezvous board is full: ", board.num_bytes,
                       " of ", kMaxBytes, " bytes"));
    }
    board.num_bytes += key.size() + value.size();
    board.values[key] = value;
    for (auto it = waits_.begin(); it != waits_.end();) {
      absl::StatusOr<Values> values = Find(it->second.board, it->second.keys);
      if (!values.ok()) {
        ++it;
        continue;
      }
      complete.emplace_back(std::move(it->second.callback), *std::move(values));
      it = waits_.erase(it);
    }
  }
  for (auto& [callback, values] : complete) callback(std::move(values));
  return absl::OkStatus();
}

uint64_t RendezvousBoard::Get(int32_t group, Epoch group_epoch,
                              std::vector<std::string> keys,
                              Callback callback) {
  const BoardKey board_key(group, group_epoch);
  absl::StatusOr<Values> values;
  uint64_t wait_id;
  {
    absl::MutexLock lock(&mutex_);
    wait_id = next_wait_id_++;
    values = Find(board_key, keys);
    if (!values.ok()) {
      waits_[wait_id] = {board_key, std::move(keys), std::move(callback)};
      return wait_id;
    }
  }
  callback(std::move(values));
  return wait_id;
}

bool RendezvousBoard::Cancel(uint64_t wait_id) {
  absl::MutexLock lock(&mutex_);
  return waits_.erase(wait_id) > 0;
}

void RendezvousBoard::EndEpoch(int32_t group, Epoch group_epoch) {
  const BoardKey board_key(group, group_epoch);
  std::vector<Callback> failed;
  {
    absl::MutexLock lock(&mutex_);
    boards_.erase(board_key);
    for (auto it = waits_.begin(); it != waits_.end();) {
      if (it->second.board == board_key) {
        failed.push_back(std::move(it->second.callback));
        it = waits_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (Callback& callback : failed) {
    callback(absl::FailedPreconditionError(absl::StrCat(
        "epoch ", group_epoch.value(), " of group ", group, " is over")));
  }
}

}  // namespace quire
