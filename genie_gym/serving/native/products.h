// The matrix product as a C function, and queries about the build; part of both libraries, called by libraries.py.
#pragma once

#include "matmul.h"

namespace {

Helpers* helpers;  // one for all libraries, set when this one is loaded

}  // namespace

extern "C" {

void genie_set_helpers(void* address) { helpers = (Helpers*)address; }

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
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(const Multiplier<T> multiplier; multiply<false>((T*)out, (const T*)features, *weights, rows, team))
    });
}
}
