// The library for rows of features: the functions of rows.h and products.h for ctypes; kernels.py documents them.
//
// Tensors are contiguous, of float (kind 0) or bfloat16 (kind 1); sums are computed in float. The bits of a row depend
// neither on the number of threads nor on other rows.

#include "products.h"

extern "C" {

// Return the threads that help this process, for genie_set_helpers of each library. A forked process starts without.
void* genie_helpers() {
    static Helpers own;
    static const int registered = pthread_atfork(nullptr, nullptr, [] { own.forget(); });
    return registered == 0 ? &own : nullptr;
}

void genie_add_norm(int kind, void* sums, void* normed, const void* features, const void* addend,
                    const NormWeights* norm, int64_t rows, int64_t width, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(add_norm((T*)sums, (T*)normed, (const T*)features, (const T*)addend, *norm, rows, width, team))
    });
}

void genie_gelu(int kind, void* features, int64_t count, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(team.share(count / LANES, [&](int64_t i) {
            store((T*)features + i * LANES, gelu(load((const T*)features + i * LANES)));
        }))
    });
}

// Gather the 3 x 3 neighbourhood of each cell of grids, with zeros around: (grids, rows, columns, bytes) ->
// (grids, rows, columns, 9, bytes).
void genie_gather_neighbours(void* out, const void* features, int64_t grids, int64_t rows, int64_t columns,
                             int64_t bytes, int threads) {
    helpers->run(threads, [&](const Team& team) {
        team.share(grids * rows * columns, [&](int64_t cell) {
            const int64_t row = cell / columns % rows, column = cell % columns;
            for (int64_t i = 0; i < 9; ++i) {
                const int64_t above = i / 3 - 1, beside = i % 3 - 1;
                const bool is_inside = uint64_t(row + above) < uint64_t(rows) &&
                                       uint64_t(column + beside) < uint64_t(columns);
                uint8_t* to = (uint8_t*)out + (cell * 9 + i) * bytes;
                if (is_inside) std::memcpy(to, (const uint8_t*)features + (cell + above * columns + beside) * bytes, bytes);
                else std::memset(to, 0, bytes);
            }
        });
    });
}

void genie_draw(int kind, int64_t* tokens, float* log_probabilities, const void* logits, const float* uniforms,
                float temperature, int64_t rows, int64_t codes, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(draw(tokens, log_probabilities, (const T*)logits, uniforms, temperature, rows, codes, team))
    });
}
}
