// Matrix products as plain C functions, of every library that multiplies; kernels.py says what each computes.
#pragma once

#include "matmul.h"

extern "C" {

int genie_lanes() { return LANES; }

int genie_panel() { return PANEL; }

// Whether bfloat16 is multiplied by tiles, and whether this process may do so, which has to be asked before.
int genie_has_tiles() {
#ifdef HAS_TILES
    return true;
#else
    return false;
#endif
}

int genie_may_use_tiles() {
#ifdef HAS_TILES
    return may_use_tiles();
#else
    return false;
#endif
}

// `features` have SPARE_ROWS more than `rows`.
void genie_multiply(int kind, void* out, const void* features, const PackedWeights* weights, int64_t rows,
                    int threads) {
#pragma omp parallel num_threads(threads)
    FOR_KIND(const Multiplier<T> multiplier; multiply<false>((T*)out, (const T*)features, *weights, rows, everyone()))
}
}
