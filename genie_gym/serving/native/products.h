// The matrix product as a C function, and queries about the build; part of both libraries, called by libraries.py.
#pragma once

#include "matmul.h"

extern "C" {

int genie_lanes() { return LANES; }

int genie_panel() { return PANEL; }

// Whether this build multiplies bfloat16 by tiles (AMX).
int genie_has_tiles() {
#ifdef HAS_TILES
    return true;
#else
    return false;
#endif
}

// Ask Linux for permission to use tiles, and return whether it is given: to be called before the first product.
int genie_may_use_tiles() {
#ifdef HAS_TILES
    return may_use_tiles();
#else
    return false;
#endif
}

// Multiply features (rows, inputs) into out (rows, outputs). SPARE_ROWS rows behind the last one must be readable.
void genie_multiply(int kind, void* out, const void* features, const PackedWeights* weights, int64_t rows,
                    int threads) {
#pragma omp parallel num_threads(threads)
    FOR_KIND(const Multiplier<T> multiplier; multiply<false>((T*)out, (const T*)features, *weights, rows, everyone()))
}
}
