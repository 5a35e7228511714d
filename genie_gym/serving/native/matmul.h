// Matrix products of features (rows, inputs) with weights (outputs, inputs) that are packed once, before the first one.
//
// Packed weights are split into panels of PANEL vectors of LANES outputs; the last panel holds the vectors left over.
// The layout is [panel][input / STEP][vector][lane][STEP]: STEP is 2 for types of 16 bits, whose instructions multiply
// pairs of neighbouring inputs, and 1 for float. libraries.py packs the weights. A thread computes one panel of up to
// BLOCK rows at a time: ROWS_AT_ONCE rows together, or 32 by the processor's tiles (tiles.h).
#pragma once

#include "rows.h"
#include "tiles.h"

struct PackedWeights {
    const void* panels;
    const float* bias;  // one per output, 0 up to a whole vector
    int64_t inputs, outputs;
};

// A number of grids of cells, each with `features` values.
struct Grids {
    int64_t number, rows, columns, features;
};

namespace {

constexpr int PANEL = 3;
constexpr int ROWS_AT_ONCE = LANES == 16 ? 8 : 4;  // PANEL * ROWS_AT_ONCE sums fit into the registers
constexpr int64_t BLOCK = 64;                      // rows of a thread's task
constexpr int64_t GROUP = 4;  // blocks that all panels multiply before the next group, so that they stay in the cache

template <typename T> constexpr int STEP = sizeof(T) == 2 ? 2 : 1;

// Add to `sum` the products of STEP features of one row with the weights of LANES outputs.
inline Vector multiply_add(Vector sum, const float* features, Vector weights) {
    return add_product(sum, *features, weights);
}

inline Vector multiply_add(Vector sum, const BFloat16* features, Vector weights) {
    int32_t pair;
    std::memcpy(&pair, features, sizeof pair);
    const Integers pairs = same_bits<Integers>(weights);
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    return same_bits<Vector>(
        _mm512_dpbf16_ps(same_bits<__m512>(sum), (__m512bh)_mm512_set1_epi32(pair), same_bits<__m512bh>(pairs)));
#else
    const int32_t upper = int32_t(0xffff0000u);
    sum = add_product(sum, same_bits<float>(pair << 16), same_bits<Vector>(pairs << 16));
    return add_product(sum, same_bits<float>(pair & upper), same_bits<Vector>(pairs & upper));
#endif
}

template <typename T> inline Vector load_weights(const T* from) {
    Vector weights;
    std::memcpy(&weights, from, sizeof weights);
    return weights;
}

// Add to sums[row][c] the products of ROWS rows of features with the weights of COLUMNS vectors of outputs.
template <int ROWS, int COLUMNS, typename T>
__attribute__((always_inline)) inline void accumulate(Vector (&sums)[ROWS][COLUMNS], const T* features,
                                                      const T* weights, int64_t inputs) {
    for (int64_t k = 0; k < inputs; k += STEP<T>, weights += COLUMNS * LANES * STEP<T>) {
        Vector own[COLUMNS];
        for (int c = 0; c < COLUMNS; ++c) own[c] = keep_in_register(load_weights(weights + c * LANES * STEP<T>));
        for (int row = 0; row < ROWS; ++row)
            for (int c = 0; c < COLUMNS; ++c)
                sums[row][c] = multiply_add(sums[row][c], features + row * inputs + k, own[c]);
    }
}

// Store LANES outputs of a row, or the `left` ones that remain, after GELU if HAS_GELU.
template <bool HAS_GELU, typename T> inline void store_output(T* out, Vector sum, int64_t left) {
    const Vector result = HAS_GELU ? gelu(sum) : sum;
    if (left >= LANES) store(out, result);
    else store_some(out, result, left);
}

// Multiply ROWS rows of features by one panel of COLUMNS vectors of outputs.
template <int ROWS, int COLUMNS, bool HAS_GELU, typename T>
inline void multiply_rows(T* out, const T* features, const PackedWeights& weights, int64_t panel) {
    const int64_t first = panel * PANEL * LANES;
    Vector sums[ROWS][COLUMNS];
    for (int row = 0; row < ROWS; ++row)
        for (int c = 0; c < COLUMNS; ++c) sums[row][c] = load(weights.bias + first + c * LANES);
    accumulate(sums, features, (const T*)weights.panels + first * weights.inputs, weights.inputs);
    for (int row = 0; row < ROWS; ++row)
        for (int c = 0; c < COLUMNS; ++c)
            store_output<HAS_GELU>(out + row * weights.outputs + first + c * LANES, sums[row][c],
                                   weights.outputs - first - c * LANES);
}

// Multiply any number of rows of features by one panel of COLUMNS vectors of outputs.
template <int COLUMNS, bool HAS_GELU, typename T>
inline void multiply_panel(T* out, const T* features, const PackedWeights& weights, int64_t panel, int64_t rows) {
    int64_t row = 0;
    for (; row + ROWS_AT_ONCE <= rows; row += ROWS_AT_ONCE)
        multiply_rows<ROWS_AT_ONCE, COLUMNS, HAS_GELU>(out + row * weights.outputs, features + row * weights.inputs,
                                                       weights, panel);
    for (; row < rows; ++row)
        multiply_rows<1, COLUMNS, HAS_GELU>(out + row * weights.outputs, features + row * weights.inputs, weights,
                                            panel);
}

#ifdef HAS_TILES
// multiply_panel by the processor's tiles (AMX), 32 rows together. It also reads up to 31 rows behind the last one.
template <int COLUMNS, bool HAS_GELU>
inline void multiply_panel_by_tiles(BFloat16* out, const BFloat16* features, const PackedWeights& weights,
                                    int64_t panel, int64_t rows) {
    const int64_t first = panel * PANEL * LANES;
    const BFloat16* panels = (const BFloat16*)weights.panels + first * weights.inputs;
    alignas(64) float sums[2 * TILE_ROWS][COLUMNS * LANES];
    for (int64_t row = 0; row < rows; row += 2 * TILE_ROWS) {
        multiply_tiles<COLUMNS>(sums, features + row * weights.inputs, panels, weights.bias + first, weights.inputs);
        for (int64_t i = 0; i < std::min<int64_t>(2 * TILE_ROWS, rows - row); ++i)
            for (int c = 0; c < COLUMNS; ++c)
                store_output<HAS_GELU>(out + (row + i) * weights.outputs + first + c * LANES,
                                       load(sums[i] + c * LANES), weights.outputs - first - c * LANES);
    }
}

template <int COLUMNS, bool HAS_GELU>
inline void multiply_panel(BFloat16* out, const BFloat16* features, const PackedWeights& weights, int64_t panel,
                           int64_t rows) {
    if (weights.inputs % TILE_INPUTS == 0) {
        multiply_panel_by_tiles<COLUMNS, HAS_GELU>(out, features, weights, panel, rows);
    } else {
        multiply_panel<COLUMNS, HAS_GELU, BFloat16>(out, features, weights, panel, rows);
    }
}
#endif

constexpr int64_t SPARE_ROWS = 31;  // rows that must be readable behind the last row of features

// Every thread that multiplies features of type T has to hold one: it switches the processor's tiles on and off.
template <typename T> struct Multiplier {
    Multiplier() {}
};

#ifdef HAS_TILES
template <> struct Multiplier<BFloat16> {
    Multiplier() { begin_tiles(); }
    ~Multiplier() { end_tiles(); }
};
#endif

// Multiply up to BLOCK rows of features by any panel.
template <bool HAS_GELU, typename T>
inline void multiply_block(T* out, const T* features, const PackedWeights& weights, int64_t panel, int64_t rows) {
    switch (std::min<int64_t>(PANEL, round_up(weights.outputs) / LANES - panel * PANEL)) {
        case 1: multiply_panel<1, HAS_GELU>(out, features, weights, panel, rows); break;
        case 2: multiply_panel<2, HAS_GELU>(out, features, weights, panel, rows); break;
        default: multiply_panel<PANEL, HAS_GELU>(out, features, weights, panel, rows);
    }
}

inline int64_t count_panels(const PackedWeights& weights) {
    return (round_up(weights.outputs) / LANES + PANEL - 1) / PANEL;
}

// Compute features weights^T + bias, then GELU if HAS_GELU; a task is a panel for a block of rows.
template <bool HAS_GELU, typename T>
void multiply(T* out, const T* features, const PackedWeights& weights, int64_t rows, const Team& team) {
    const int64_t panels = count_panels(weights), blocks = (rows + BLOCK - 1) / BLOCK;
    team.share(panels * blocks, [&](int64_t task) {
        const int64_t group = task / (panels * GROUP) * GROUP, own = task - group * panels;
        const int64_t together = std::min(GROUP, blocks - group), panel = own / together;
        const int64_t row = (group + own % together) * BLOCK, count = std::min(BLOCK, rows - row);
        multiply_block<HAS_GELU>(out + row * weights.outputs, features + row * weights.inputs, weights, panel, count);
    });
}

// Write the 3 x 3 neighbourhood of a cell to 9 * grids.features values, with zeros outside the grid.
template <typename T> inline void gather_neighbours(T* to, const T* from, int64_t cell, const Grids& grids) {
    const int64_t row = cell / grids.columns % grids.rows, column = cell % grids.columns, size = grids.features;
    for (int64_t i = 0; i < 9; ++i, to += size) {
        const int64_t above = i / 3 - 1, beside = i % 3 - 1;
        const bool is_inside = uint64_t(row + above) < uint64_t(grids.rows) &&
                               uint64_t(column + beside) < uint64_t(grids.columns);
        if (is_inside) std::memcpy(to, from + (cell + above * grids.columns + beside) * size, size * sizeof(T));
        else std::memset(to, 0, size * sizeof(T));
    }
}

// Convolve grids with weights (outputs, 9 features) and add the bias; a task is a block of cells, whose neighbourhoods
// stay in the cache until all panels have multiplied them.
template <typename T>
void convolve(T* out, const T* features, const PackedWeights& weights, const Grids& grids, const Team& team) {
    const int64_t cells = grids.number * grids.rows * grids.columns, panels = count_panels(weights);
    static thread_local std::vector<T> memory;  // allocated once per thread
    memory.resize((BLOCK + SPARE_ROWS) * weights.inputs);
    T* gathered = memory.data();
    team.share((cells + BLOCK - 1) / BLOCK, [&](int64_t task) {
        const int64_t first = task * BLOCK, count = std::min(BLOCK, cells - first);
        for (int64_t i = 0; i < count; ++i)
            gather_neighbours(gathered + i * weights.inputs, features, first + i, grids);
        for (int64_t panel = 0; panel < panels; ++panel)
            multiply_block<false>(out + first * weights.outputs, gathered, weights, panel, count);
    });
}

}  // namespace
