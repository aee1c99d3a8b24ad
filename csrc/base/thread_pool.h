// The threads that kernels run on: those of an OpenMP runtime that was handed over, else a pool of our own.
//
// Torch's operators run on OpenMP's threads, which go on looking for work for a while before they sleep. Threads beside
// them would have to wake up first, and then to share the cores with them. Our own pool's threads sleep between jobs;
// they are made on first need. A forked child, in which OpenMP's threads are gone, starts with a pool of none, so
// data-loading workers that fork are safe.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace pyimplicit {

// The pieces of a job. Each thread has a share of its own, the same in every job of as many: what it left in its caches
// is what it works on next. One that is done helps the others.
class Shares {
 public:
  Shares(int64_t count, int threads) : threads_(threads), shares_(new Share[threads]) {
    for (int i = 0; i < threads; ++i) {
      shares_[i].next.store(count * i / threads, std::memory_order_relaxed);
      shares_[i].end = count * (i + 1) / threads;
    }
  }

  // Returns how many pieces were done.
  template <typename Task>
  int64_t take(int thread, const Task& task) {
    int64_t done = 0;
    for (int k = 0; k < threads_; ++k) {
      Share& share = shares_[(thread + k) % threads_];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t piece = share.next.fetch_add(1);
        if (piece >= share.end) break;
        try {
          task(piece);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(mutex_);
          error_ = std::current_exception();
        }
        ++done;
      }
    }
    return done;
  }

  // When all are done: throws again what a piece has thrown, which must not leave the thread that it ran on.
  void check() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  const int threads_;
  const std::unique_ptr<Share[]> shares_;
  std::mutex mutex_;
  std::exception_ptr error_;
};

class ThreadPool {
 public:
  // OpenMP's way to run a function on so many threads, in GNU's form, which the other runtimes have too; and its number
  // of the thread that asks.
  struct Team {
    void (*run)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
    int (*number)();
  };

  // The pool of this process. Never destroyed: threads may still sleep in it while the process exits.
  static ThreadPool& instance() {
    static const bool registered = [] {
      pthread_atfork(nullptr, nullptr, [] { current().store(new ThreadPool), current_team().store(nullptr); });
      return true;
    }();
    (void)registered;
    return *current().load();
  }

  // Has later jobs run on the threads of an OpenMP runtime.
  static void use(Team team) {
    instance();  // a child must know that it has none
    current_team().store(new Team(team));
  }

  // Runs task(0) ... task(count - 1) on at most `threads` threads, the caller's among them; returns when all ended.
  template <typename Task>
  void run(int64_t count, int threads, const Task& task) {
    if (threads <= 1 || count <= 1) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    if (const Team* const team = current_team().load()) {
      TeamJob<Task> job(count, threads, team->number, task);
      // All threads even for fewer pieces: those that a team does not need end, and are made anew for the next one.
      team->run([](void* data) { static_cast<TeamJob<Task>*>(data)->work(); }, &job, unsigned(threads), 0);
      job.shares.check();
      return;
    }
    threads = int(std::min<int64_t>(threads, count));
    const auto job = std::make_shared<Job>(count, threads, std::cref(task));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; size_ < threads - 1; ++size_) std::thread([this] { work(); }).detach();
      for (int i = 1; i < threads; ++i) jobs_.push_back(job);
    }
    wake_.notify_all();
    job->take_pieces();
    job->wait();
    job->shares.check();
  }

 private:
  template <typename Task>
  struct TeamJob {
    TeamJob(int64_t count, int threads, int (*number)(), const Task& task)
        : shares(count, threads), number(number), task(task) {}

    Shares shares;
    int (*const number)();
    const Task& task;

    void work() { shares.take(number(), task); }
  };

  struct Job {
    Job(int64_t count, int threads, std::function<void(int64_t)> task)
        : count(count), shares(count, threads), task(std::move(task)) {}

    void take_pieces() {
      const int64_t ended = shares.take(arrived.fetch_add(1), task);
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
    Shares shares;
    const std::function<void(int64_t)> task;  // holds a reference to the caller's task, alive until wait() returns
    std::atomic<int> arrived{0};
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };

  static std::atomic<ThreadPool*>& current() {
    static std::atomic<ThreadPool*> pool{new ThreadPool};
    return pool;
  }

  static std::atomic<const Team*>& current_team() {
    static std::atomic<const Team*> team{nullptr};
    return team;
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
