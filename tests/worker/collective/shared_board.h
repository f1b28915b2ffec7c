// SPDX-License-Identifier: Apache-2.0
//
// A KeyBoard for ranks that are processes of one test: made before they part.
#ifndef TESTS_WORKER_COLLECTIVE_SHARED_BOARD_H_
#define TESTS_WORKER_COLLECTIVE_SHARED_BOARD_H_

#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "glog/logging.h"
#include "worker/collective/key_board.h"

namespace quire {

class SharedBoard final : public KeyBoard {
 public:
  SharedBoard()
      : state_(static_cast<State*>(mmap(nullptr, sizeof(State),
                                        PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    CHECK(state_ != MAP_FAILED);
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&state_->mutex, &mutex);
    pthread_condattr_t changed;
    pthread_condattr_init(&changed);
    pthread_condattr_setpshared(&changed, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&state_->changed, &changed);
  }
  ~SharedBoard() override { munmap(state_, sizeof(State)); }

  absl::Status Put(const std::string& key, const std::string& value) override {
    CHECK_LT(key.size(), sizeof(Entry::key));
    CHECK_LE(value.size(), sizeof(Entry::value));
    pthread_mutex_lock(&state_->mutex);
    CHECK_LT(state_->num_entries, kMaxEntries);
    Entry& entry = state_->entries[state_->num_entries++];
    std::strcpy(entry.key, key.c_str());
    std::memcpy(entry.value, value.data(), value.size());
    entry.size = value.size();
    pthread_cond_broadcast(&state_->changed);
    pthread_mutex_unlock(&state_->mutex);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Get(
      absl::Span<const std::string> keys, absl::Duration timeout) override {
    const timespec end = absl::ToTimespec(absl::Now() + timeout);
    std::vector<std::string> values;
    int error = 0;
    pthread_mutex_lock(&state_->mutex);
    while (values.size() < keys.size() && error != ETIMEDOUT) {
      const Entry* entry = Find(keys[values.size()]);
      if (entry != nullptr) {
        values.emplace_back(entry->value, entry->size);
      } else {
        error = pthread_cond_timedwait(&state_->changed, &state_->mutex, &end);
      }
    }
    pthread_mutex_unlock(&state_->mutex);
    if (values.size() == keys.size()) return values;
    return absl::DeadlineExceededError("a key is missing");
  }

 private:
  static constexpr int kMaxEntries = 256;
  struct Entry {
    char key[64];
    char value[1024];
    size_t size;
  };
  struct State {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int num_entries;
    Entry entries[kMaxEntries];
  };

  const Entry* Find(const std::string& key) const {
    for (int i = 0; i < state_->num_entries; ++i) {
      if (key == state_->entries[i].key) return &state_->entries[i];
    }
    return nullptr;
  }

  State* const state_;
};

}  // namespace quire

#endif  // TESTS_WORKER_COLLECTIVE_SHARED_BOARD_H_
