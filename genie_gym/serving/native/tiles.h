// Matrix products of bfloat16 by the processor's tiles (AMX), if the compiler's target has them.
//
// A tile is a register of 16 rows of 64 bytes: features of 16 rows x 32 inputs, weights of 16 pairs of inputs x 16
// outputs, or 16 x 16 sums in float. NO_TILES leaves tiles out. EMULATE_TILES replaces the instructions by functions,
// so that the code can be tested on any processor with vectors of 16 floats.
#pragma once

#include "vectors.h"

#if (defined(__AMX_TILE__) && defined(__AMX_BF16__) && !defined(NO_TILES)) || defined(EMULATE_TILES)
#define HAS_TILES

#ifndef EMULATE_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int TILE_ROWS = 16, TILE_BYTES = 64, TILE_INPUTS = 32;

#ifdef EMULATE_TILES
thread_local uint8_t emulated_tiles[8][TILE_ROWS][TILE_BYTES];

template <int TILE> void tile_load(const void* from, int64_t stride) {
    for (int row = 0; row < TILE_ROWS; ++row)
        std::memcpy(emulated_tiles[TILE][row], (const uint8_t*)from + row * stride, TILE_BYTES);
}

template <int TILE> void tile_store(void* to, int64_t stride) {
    for (int row = 0; row < TILE_ROWS; ++row)
        std::memcpy((uint8_t*)to + row * stride, emulated_tiles[TILE][row], TILE_BYTES);
}

// sums[m][n] += left[m][2 k] right[k][n][0] + left[m][2 k + 1] right[k][n][1]
template <int SUMS, int LEFT, int RIGHT> void tile_multiply() {
    auto sums = (float(*)[16])emulated_tiles[SUMS];
    auto left = (const uint16_t(*)[32])emulated_tiles[LEFT], right = (const uint16_t(*)[32])emulated_tiles[RIGHT];
    auto number = [](uint16_t bits) { return same_bits<float>(uint32_t(bits) << 16); };
    for (int m = 0; m < TILE_ROWS; ++m)
        for (int k = 0; k < 16; ++k)
            for (int n = 0; n < 16; ++n)
                for (int pair = 0; pair < 2; ++pair)
                    sums[m][n] += number(left[m][2 * k + pair]) * number(right[k][2 * n + pair]);
}

inline bool may_use_tiles() { return true; }
inline void begin_tiles() {}
inline void end_tiles() {}
#else
// Assembly, because GCC's intrinsics accept the number of a tile only as a literal, not as a template argument.
template <int TILE> inline void tile_load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TILE) : "memory");
}

template <int TILE> inline void tile_store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(TILE) : "memory");
}

template <int SUMS, int LEFT, int RIGHT> inline void tile_multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(LEFT), "i"(RIGHT));
}

// Ask Linux for permission to use tiles: without it they are illegal instructions.
inline bool may_use_tiles() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

// Configure all eight tiles at full size for this thread.
inline void begin_tiles() {
    struct {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } config;
    static_assert(sizeof config == 64, "the size that ldtilecfg reads");
    for (int tile = 0; tile < 8; ++tile) {
        config.bytes[tile] = TILE_BYTES;
        config.rows[tile] = TILE_ROWS;
    }
    asm volatile("ldtilecfg %0" ::"m"(config));
}

inline void end_tiles() { asm volatile("tilerelease"); }
#endif

// sums = bias + features weights^T for 32 rows and COLUMNS vectors of outputs; `inputs` is a multiple of TILE_INPUTS.
// Tiles 0 to 2 sum the first 16 rows, 3 to 5 the others; 6 holds features, 7 weights.
template <int COLUMNS>
inline void multiply_tiles(float (*sums)[COLUMNS * LANES], const BFloat16* features, const BFloat16* weights,
                           const float* bias, int64_t inputs) {
    static_assert(LANES == 16 && COLUMNS <= 3, "six tiles of sums, one of features, one of weights");
    constexpr int64_t PAIR_BYTES = COLUMNS * LANES * 2 * sizeof(BFloat16), OUT = COLUMNS * LANES * sizeof(float);
    const int64_t row_bytes = inputs * sizeof(BFloat16);
    tile_load<0>(bias, 0), tile_load<3>(bias, 0);
    if (COLUMNS > 1) tile_load<1>(bias + LANES, 0), tile_load<4>(bias + LANES, 0);
    if (COLUMNS > 2) tile_load<2>(bias + 2 * LANES, 0), tile_load<5>(bias + 2 * LANES, 0);
    for (int64_t k = 0; k < inputs; k += TILE_INPUTS) {
        const BFloat16* own = weights + k * COLUMNS * LANES;
        tile_load<6>(features + k, row_bytes);
        tile_load<7>(own, PAIR_BYTES), tile_multiply<0, 6, 7>();
        if (COLUMNS > 1) tile_load<7>(own + 2 * LANES, PAIR_BYTES), tile_multiply<1, 6, 7>();
        if (COLUMNS > 2) tile_load<7>(own + 4 * LANES, PAIR_BYTES), tile_multiply<2, 6, 7>();
        tile_load<6>(features + TILE_ROWS * inputs + k, row_bytes);  // backwards: tile 7 holds the last weights
        if (COLUMNS > 2) tile_multiply<5, 6, 7>();
        if (COLUMNS > 1) tile_load<7>(own + 2 * LANES, PAIR_BYTES), tile_multiply<4, 6, 7>();
        if (COLUMNS > 1) tile_load<7>(own, PAIR_BYTES);
        tile_multiply<3, 6, 7>();
    }
    tile_store<0>(sums[0], OUT), tile_store<3>(sums[TILE_ROWS], OUT);
    if (COLUMNS > 1) tile_store<1>(sums[0] + LANES, OUT), tile_store<4>(sums[TILE_ROWS] + LANES, OUT);
    if (COLUMNS > 2) tile_store<2>(sums[0] + 2 * LANES, OUT), tile_store<5>(sums[TILE_ROWS] + 2 * LANES, OUT);
}

}  // namespace
#endif
