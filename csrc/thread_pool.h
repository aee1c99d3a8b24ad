// A pool of threads that sleep between jobs.
//
// Sleeping, not spinning: small calls on a machine shared with others lose more to spinning than to waking. Threads
// are made on first need, and a forked child starts with none, so data-loading workers that fork are safe.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace pyimplicit {

class ThreadPool {
 public:
  // The pool of this process. Never destroyed: threads may still sleep in it while the process exits.
  static ThreadPool& instance() {
    static const bool registered = [] {
      pthread_atfork(nullptr, nullptr, [] { current().store(new ThreadPool); });
      return true;
    }();
    (void)registered;
    return *current().load();
  }

  // Runs task(0) ... task(count - 1) on at most `threads` threads, the caller's among them; returns when all ended.
  template <typename Task>
  void run(int64_t count, int threads, const Task& task) {
    if (threads <= 1 || count <= 1) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    const auto job = std::make_shared<Job>(count, std::cref(task));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; size_ < threads - 1; ++size_) std::thread([this] { work(); }).detach();
      for (int i = 1; i < threads; ++i) jobs_.push_back(job);
    }
    wake_.notify_all();
    job->take_pieces();
    job->wait();
  }

 private:
  struct Job {
    Job(int64_t count, std::function<void(int64_t)> task) : count(count), task(std::move(task)) {}

    void take_pieces() {
      int64_t ended = 0;
      for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1), ++ended) task(i);
      if (ended > 0 && done.fetch_add(ended) + ended == count) {
        const std::lock_guard<std::mutex> lock(mutex);
        all_done.notify_all();
      }
    }

    void wait() {
      std::unique_lock<std::mutex> lock(mutex);
      all_done.wait(lock, [this] { return done.load() == count; });
    }

    const int64_t count;
    const std::function<void(int64_t)> task;  // holds a reference to the caller's task, alive until wait() returns
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };

  static std::atomic<ThreadPool*>& current() {
    static std::atomic<ThreadPool*> pool{new ThreadPool};
    return pool;
  }

  void work() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return !jobs_.empty(); });
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job->take_pieces();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
  int size_ = 0;
};

}  // namespace pyimplicit
