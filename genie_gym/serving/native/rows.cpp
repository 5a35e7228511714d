// The library for rows of features: the functions of rows.h and products.h for ctypes; kernels.py documents them.
//
// Tensors are contiguous, of float (kind 0) or bfloat16 (kind 1); sums are computed in float. The bits of a row depend
// neither on the number of threads nor on other rows.

#include "products.h"

extern "C" {

void genie_add_norm(int kind, void* sums, void* normed, const void* features, const void* addend,
                    const NormWeights* norm, int64_t rows, int64_t width, int threads) {
#pragma omp parallel num_threads(threads)
    FOR_KIND(add_norm((T*)sums, (T*)normed, (const T*)features, (const T*)addend, *norm, rows, width, everyone()))
}

void genie_gelu(int kind, void* features, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES)
        FOR_KIND(store((T*)features + i, gelu(load((const T*)features + i))))
}

void genie_draw(int kind, int64_t* tokens, float* log_probabilities, const void* logits, const float* uniforms,
                float temperature, int64_t rows, int64_t codes, int threads) {
#pragma omp parallel num_threads(threads)
    FOR_KIND(draw(tokens, log_probabilities, (const T*)logits, uniforms, temperature, rows, codes, everyone()))
}
}
