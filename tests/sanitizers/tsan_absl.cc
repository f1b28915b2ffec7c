// SPDX-License-Identifier: Apache-2.0
//
// Makes ThreadSanitizer see the synchronisation of Debian's Abseil, which is
// not instrumented: defines its locks again in the test's executable, as what
// they were plus the happens-before edges that they stand for. As gRPC locks
// with the same symbols, its edges are seen too.
//
// Conditions are evaluated by whichever thread passes by with the lock held,
// somewhere inside Lock, Unlock or Await; the edges of that are not visible
// from here, so reads are ignored for the length of these calls.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

// absl::Duration and absl::Time: two words that travel in registers.
struct TimeWords {
  uint64_t high;
  uint64_t low;
};

template <typename Function>
Function* Next(const char* symbol) {
  void* next = dlsym(RTLD_NEXT, symbol);
  if (next == nullptr) abort();
  return reinterpret_cast<Function*>(next);
}

class IgnoreReads {
 public:
  IgnoreReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~IgnoreReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

}  // namespace

// `symbol(lock)`: takes the lock.
#define QUIRE_ACQUIRES(symbol)                            \
  extern "C" void symbol(void* lock) {                    \
    static auto* const next = Next<void(void*)>(#symbol); \
    {                                                     \
      IgnoreReads ignore;                                 \
      next(lock);                                         \
    }                                                     \
    __tsan_acquire(lock);                                 \
  }

// `symbol(lock)`: gives it back.
#define QUIRE_RELEASES(symbol)                            \
  extern "C" void symbol(void* lock) {                    \
    static auto* const next = Next<void(void*)>(#symbol); \
    __tsan_release(lock);                                 \
    IgnoreReads ignore;                                   \
    next(lock);                                           \
  }

// `symbol(lock)`: takes it if it is free.
#define QUIRE_TRIES(symbol)                               \
  extern "C" bool symbol(void* lock) {                    \
    static auto* const next = Next<bool(void*)>(#symbol); \
    const bool taken = next(lock);                        \
    if (taken) __tsan_acquire(lock);                      \
    return taken;                                         \
  }

// `symbol(lock, condition)`: gives the lock back while the condition does not
// hold (or, at first, does not have it).
#define QUIRE_WAITS(symbol)                                            \
  extern "C" void symbol(void* lock, const void* condition) {          \
    static auto* const next = Next<void(void*, const void*)>(#symbol); \
    __tsan_release(lock);                                              \
    {                                                                  \
      IgnoreReads ignore;                                              \
      next(lock, condition);                                           \
    }                                                                  \
    __tsan_acquire(lock);                                              \
  }

// The same with a bound on the time.
#define QUIRE_WAITS_FOR(symbol)                                               \
  extern "C" bool symbol(void* lock, const void* condition, TimeWords time) { \
    static auto* const next =                                                 \
        Next<bool(void*, const void*, TimeWords)>(#symbol);                   \
    __tsan_release(lock);                                                     \
    bool holds;                                                               \
    {                                                                         \
      IgnoreReads ignore;                                                     \
      holds = next(lock, condition, time);                                    \
    }                                                                         \
    __tsan_acquire(lock);                                                     \
    return holds;                                                             \
  }

// absl::Mutex.
QUIRE_ACQUIRES(_ZN4absl7debian35Mutex4LockEv)
QUIRE_ACQUIRES(_ZN4absl7debian35Mutex10ReaderLockEv)
QUIRE_RELEASES(_ZN4absl7debian35Mutex6UnlockEv)
QUIRE_RELEASES(_ZN4absl7debian35Mutex12ReaderUnlockEv)
QUIRE_TRIES(_ZN4absl7debian35Mutex7TryLockEv)
QUIRE_TRIES(_ZN4absl7debian35Mutex13ReaderTryLockEv)
QUIRE_WAITS(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE)
QUIRE_WAITS(_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE)
QUIRE_WAITS_FOR(
    _ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)
QUIRE_WAITS_FOR(
    _ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE)
QUIRE_WAITS_FOR(
    _ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE)
QUIRE_WAITS_FOR(
    _ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE)

// absl::BlockingCounter: whoever waits sees what was done before the counts.
extern "C" bool _ZN4absl7debian315BlockingCounter14DecrementCountEv(
    void* counter) {
  static auto* const next =
      Next<bool(void*)>("_ZN4absl7debian315BlockingCounter14DecrementCountEv");
  __tsan_release(counter);
  return next(counter);
}
QUIRE_ACQUIRES(_ZN4absl7debian315BlockingCounter4WaitEv)

// absl::Notification. Its flag is an atomic that inlined code reads; the write
// of it happens in the library, after the edge below.
QUIRE_RELEASES(_ZN4absl7debian312Notification6NotifyEv)
QUIRE_ACQUIRES(_ZNK4absl7debian312Notification19WaitForNotificationEv)

// absl::CondVar: waiting gives the mutex (the second argument) back.
extern "C" void _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(void* cv,
                                                           void* mutex) {
  static auto* const next =
      Next<void(void*, void*)>("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  {
    IgnoreReads ignore;
    next(cv, mutex);
  }
  __tsan_acquire(mutex);
}

#define QUIRE_CV_WAITS_FOR(symbol)                                          \
  extern "C" bool symbol(void* cv, void* mutex, TimeWords time) {           \
    static auto* const next = Next<bool(void*, void*, TimeWords)>(#symbol); \
    __tsan_release(mutex);                                                  \
    bool timed_out;                                                         \
    {                                                                       \
      IgnoreReads ignore;                                                   \
      timed_out = next(cv, mutex, time);                                    \
    }                                                                       \
    __tsan_acquire(mutex);                                                  \
    return timed_out;                                                       \
  }

QUIRE_CV_WAITS_FOR(
    _ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE)
QUIRE_CV_WAITS_FOR(
    _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE)
