// Threads that share the tasks of a function.
//
// No thread waits for one that has not come: a thread that is done with its own tasks takes those of the others, so on
// a busy machine the calling thread does the work of helpers that the system does not run. A thread that has to wait
// spins for a bounded time and then sleeps. The library for rows owns the helpers, for all libraries of the process.
#pragma once

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace {

constexpr int MOST_THREADS = 64;
constexpr int64_t PIECES = 8;  // a thread takes its tasks in about this many pieces, so that others can take some
using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds PHASE_PATIENCE{20};  // spinning for others that finish their last piece
constexpr std::chrono::microseconds JOB_PATIENCE{100};   // a helper's spinning for the next job

inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// A number that threads wait for to change.
struct Signal {
    std::atomic<uint32_t> value{0}, sleepers{0};

    void wait_while(uint32_t old, Clock::duration patience) {
        const auto until = Clock::now() + patience;
        do {
            for (int i = 0; i < 64; ++i, pause_briefly())
                if (value.load(std::memory_order_acquire) != old) return;
        } while (Clock::now() < until);
        ++sleepers;  // before `value` is read again, as `set` writes it before it reads `sleepers`
        while (value == old) syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
        --sleepers;
    }

    void set(uint32_t next) {
        value = next;
        wake();
    }

    void wake() {
        if (sleepers > 0) syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    }
};

// How far the threads of a job have come. A phase is a loop whose tasks they share; they pass one phase after the other.
struct Progress {
    struct alignas(64) Range {
        std::atomic<uint64_t> taken{0};  // phase, and number of tasks taken of a thread's range, 32 bits each
    } ranges[MOST_THREADS];
    alignas(64) std::atomic<int64_t> finished{0};  // tasks of the present phase
    alignas(64) Signal phase;                      // number of phases that are over

    void reset(int threads) {
        for (int i = 0; i < threads; ++i) ranges[i].taken.store(0, std::memory_order_relaxed);
        phase.value.store(0, std::memory_order_relaxed);
    }

    // Take up to `count` tasks of a range, and return their number; the first is written to `first`.
    int64_t take(int number, uint32_t now, int64_t size, int64_t count, int64_t& first) {
        std::atomic<uint64_t>& taken = ranges[number].taken;
        uint64_t seen = taken.load(std::memory_order_relaxed);
        while (true) {
            if (uint32_t(seen >> 32) > now) return 0;
            first = uint32_t(seen >> 32) == now ? uint32_t(seen) : 0;
            const int64_t next = std::min(first + count, size);
            if (next <= first) return 0;
            if (taken.compare_exchange_weak(seen, uint64_t(now) << 32 | uint64_t(next))) return next - first;
        }
    }
};

// One thread's view of the threads that work on a job; this thread alone by default.
struct Team {
    int number = 0, threads = 1;
    Progress* progress = nullptr;
    mutable uint32_t phase = 0;  // number of phases that this thread has passed

    // Call function(task) for all tasks in [0, tasks), each once, on any of the threads. All threads of a team call it
    // with equal `tasks`; when it returns, all tasks are done.
    template <typename Function> void share(int64_t tasks, const Function& function) const {
        if (threads == 1) {
            for (int64_t task = 0; task < tasks; ++task) function(task);
        } else if (tasks > 0) {
            const uint32_t now = phase++;
            if (progress->phase.value.load(std::memory_order_acquire) != now) return;  // done without this thread
            int64_t done = 0;
            for (int i = 0; i < threads; ++i) {
                const int owner = (number + i) % threads;
                const int64_t start = tasks * owner / threads, size = tasks * (owner + 1) / threads - start;
                int64_t first, count;
                while ((count = progress->take(owner, now, size, (size + PIECES - 1) / PIECES, first))) {
                    for (int64_t task = first; task < first + count; ++task) function(start + task);
                    done += count;
                }
            }
            if (done > 0 && progress->finished.fetch_add(done) + done == tasks) {
                progress->finished = 0;
                progress->phase.set(now + 1);
            } else {
                progress->phase.wait_while(now, PHASE_PATIENCE);
            }
        }
    }
};

// The helper threads of a process. One job runs at a time; a second caller meanwhile works alone.
class Helpers {
  public:
    // Call work(team) on this thread and on helpers that come while it runs, up to `threads` in all.
    template <typename Work> void run(int threads, const Work& work) {
        threads = std::min(threads, MOST_THREADS);
        const std::unique_lock<std::mutex> lock(busy, std::try_to_lock);
        if (threads < 2 || !lock || !(threads = 1 + hire(threads - 1), threads > 1)) return work(Team());
        progress.reset(threads);
        this->threads = threads;
        context = &work;
        call = [](const void* context, const Team& team) { (*(const Work*)context)(team); };
        inside.value = 0;
        job.set(job.value + 1);
        work(Team{0, threads, &progress});
        inside.value |= CLOSED;
        for (uint32_t left; (left = inside.value) != CLOSED;) inside.wait_while(left, PHASE_PATIENCE);
    }

    // Forget all threads: they do not exist in a process that was forked.
    void forget() { new (this) Helpers; }

  private:
    static constexpr uint32_t CLOSED = 1u << 31;

    std::mutex busy;
    int hired = 0;
    std::atomic<int> threads{1};
    Progress progress;
    const void* context = nullptr;
    void (*call)(const void*, const Team&) = nullptr;
    alignas(64) Signal job;             // number of jobs so far
    alignas(64) Signal inside{CLOSED};  // number of helpers that work on the present job, and whether none may enter

    // Start helpers until there are `wanted`, and return how many there are; fewer if the system refuses more.
    int hire(int wanted) {
        sigset_t all, before;
        if (hired < wanted) {
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before);  // helpers inherit the mask: signals go to other threads
            try {
                for (; hired < wanted; ++hired) std::thread(&Helpers::help, this, job.value.load()).detach();
            } catch (const std::system_error&) {
            }
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }
        return std::min(hired, wanted);
    }

    void help(uint32_t seen) {
        while (true) {
            job.wait_while(seen, JOB_PATIENCE);
            seen = job.value;
            const int number = enter();
            if (number == 0) continue;
            call(context, Team{number, threads, &progress});
            --inside.value;
            inside.wake();
        }
    }

    // Enter the present job, and return this helper's number in its team; 0 if the job is over or has its threads.
    int enter() {
        uint32_t others = inside.value;
        while (!(others & CLOSED) && int(others) + 1 < threads)
            if (inside.value.compare_exchange_weak(others, others + 1)) return int(others) + 1;
        return 0;
    }
};

}  // namespace
