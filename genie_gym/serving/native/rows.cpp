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

// Convolve grids of cells (number, rows, columns, features) with 3 x 3 weights packed as (outputs, 9 features).
void genie_convolve(int kind, void* out, const void* features, const PackedWeights* weights, const Grids* grids,
                    int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(const Multiplier<T> multiplier; convolve((T*)out, (const T*)features, *weights, *grids, team))
    });
}

void genie_draw(int kind, int64_t* tokens, float* log_probabilities, const void* logits, const float* uniforms,
                float temperature, int64_t rows, int64_t codes, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(draw(tokens, log_probabilities, (const T*)logits, uniforms, temperature, rows, codes, team))
    });
}
}
