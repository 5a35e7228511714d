// Matrix products with weights that are packed for them once.
//
// Weights (outputs, inputs) lie in panels of PANEL outputs: float as [panel][input][output], bfloat16 as
// [panel][input / 2][output][2], which is how the processor's instruction for pairs wants them. kernels.py packs.
#pragma once

#include "rows.h"

struct PackedWeights {
    const void* panels;
    const float* bias;  // of whole panels
    int64_t inputs, outputs;
};

namespace {

constexpr int PANEL = 2 * LANES;
constexpr int TILE = LANES == 16 ? 8 : 4;  // rows at once: as many as registers hold
constexpr int64_t BLOCK = 64;              // rows that a thread takes at once

template <typename T> constexpr int STEP = 1;
template <> constexpr int STEP<BFloat16> = 2;

// The sum, and STEP products of one row's features with weights of LANES outputs.
inline Vector multiply_add(Vector sum, const float* features, const float* weights) {
    return sum + *features * load(weights);
}

inline Vector multiply_add(Vector sum, const BFloat16* features, const BFloat16* weights) {
    int32_t pair;
    std::memcpy(&pair, features, sizeof pair);
    Integers pairs;
    std::memcpy(&pairs, weights, sizeof pairs);
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    return same_bits<Vector>(
        _mm512_dpbf16_ps(same_bits<__m512>(sum), (__m512bh)_mm512_set1_epi32(pair), same_bits<__m512bh>(pairs)));
#else
    const int32_t upper = int32_t(0xffff0000u);
    sum += same_bits<float>(pair << 16) * same_bits<Vector>(pairs << 16);
    return sum + same_bits<float>(pair & upper) * same_bits<Vector>(pairs & upper);
#endif
}

template <int COUNT, bool HAS_GELU, typename T>
inline void multiply_tile(T* out, const T* features, const PackedWeights& weights, int64_t panel) {
    const T* from = (const T*)weights.panels + panel * weights.inputs * PANEL;
    Vector sums[COUNT][2];
    for (int row = 0; row < COUNT; ++row)
        for (int c = 0; c < 2; ++c) sums[row][c] = load(weights.bias + panel * PANEL + c * LANES);
    for (int64_t k = 0; k < weights.inputs; k += STEP<T>)
        for (int row = 0; row < COUNT; ++row)
            for (int c = 0; c < 2; ++c)
                sums[row][c] = multiply_add(sums[row][c], features + row * weights.inputs + k,
                                            from + k * PANEL + c * LANES * STEP<T>);
    for (int row = 0; row < COUNT; ++row)
        for (int c = 0; c < 2; ++c) {
            const int64_t first = panel * PANEL + c * LANES, left = weights.outputs - first;
            const Vector result = HAS_GELU ? gelu(sums[row][c]) : sums[row][c];
            if (left >= LANES) store(out + row * weights.outputs + first, result);
            else if (left > 0) store_some(out + row * weights.outputs + first, result, left);
        }
}

// out = features weights^T + bias, then GELU if wanted. Shared out among threads.
template <bool HAS_GELU, typename T>
void multiply(T* out, const T* features, const PackedWeights& weights, int64_t rows) {
    const int64_t panels = (weights.outputs + PANEL - 1) / PANEL, blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < panels * blocks; ++task) {
        const int64_t panel = task / blocks;
        int64_t row = task % blocks * BLOCK;
        const int64_t last = std::min(row + BLOCK, rows);
        for (; row + TILE <= last; row += TILE)
            multiply_tile<TILE, HAS_GELU>(out + row * weights.outputs, features + row * weights.inputs, weights, panel);
        for (; row < last; ++row)
            multiply_tile<1, HAS_GELU>(out + row * weights.outputs, features + row * weights.inputs, weights, panel);
    }
}

}  // namespace
