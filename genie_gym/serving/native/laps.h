// Time of a step by part, summed over the threads: for `genie-gym bench`, which compiles a library of its own with
// PROFILE=1. Without that macro nothing of it is compiled.
#pragma once

#ifdef PROFILE

#include <atomic>
#include <chrono>
#include <cstdint>

namespace {

enum Part { NORMS, PRODUCTS, SPACE, TIME, COPIES, CALLS, PARTS };  // LAPS in bench/parts.py; CALLS: from call to return

std::atomic<int64_t> nanoseconds[PARTS];

// One thread's clock: the end of a lap is the start of the next one.
struct LapClock {
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

    void end(Part part) {
        const auto now = std::chrono::steady_clock::now();
        nanoseconds[part] += std::chrono::nanoseconds(now - start).count();
        start = now;
    }
};

}  // namespace

// Move the nanoseconds of each part so far to `out`; the next ones count from 0.
extern "C" void genie_take_laps(int64_t* out) {
    for (int part = 0; part < PARTS; ++part) out[part] = nanoseconds[part].exchange(0);
}

#define START_LAPS() LapClock laps
#define RESTART_LAPS() laps = LapClock()
#define END_LAP(part) laps.end(part)
#else
#define START_LAPS() static_assert(true, "")
#define RESTART_LAPS() static_assert(true, "")
#define END_LAP(part) static_assert(true, "")
#endif
