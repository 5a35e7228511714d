// Vectors of floats, as wide as the processor's: 16 with AVX-512, else 8. They are loaded from and stored to float or
// bfloat16; all arithmetic is in float. Also the exponential and the softmax built on them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
struct BFloat16 { uint16_t bits; };

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr int64_t round_up(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

inline Vector fill(float value) { return Vector{} + value; }

// sum + one * other, fused by hand: for some processors the compiler fuses the two operations in one place and not in
// another, and then one row and several rows of the same product are rounded differently.
inline Vector add_product(Vector sum, Vector one, Vector other) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps((__m512)one, (__m512)other, (__m512)sum);
#elif defined(__FMA__)
    return (Vector)_mm256_fmadd_ps((__m256)one, (__m256)other, (__m256)sum);
#else
    return sum + one * other;
#endif
}

inline Vector add_product(Vector sum, float one, Vector other) { return add_product(sum, one - Vector{}, other); }

template <typename To, typename From> inline To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline Vector load(const float* from) {
    Vector values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

// Return the same values, kept in a register. Otherwise the compiler reads a factor of several products from memory for
// each of them again, and processors multiply faster than they read.
inline Vector keep_in_register(Vector values) {
#if defined(__AVX512F__)
    asm("" : "+v"(values));
#elif defined(__AVX__)
    asm("" : "+x"(values));
#endif
    return values;
}

inline Vector load(const BFloat16* from) {
#ifdef __AVX512F__  // one instruction; from the code below GCC 12 makes four
    return same_bits<Vector>((Integers)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)) << 16);
#else
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return same_bits<Vector>(__builtin_convertvector(halves, Integers) << 16);
#endif
}

inline void store(float* to, Vector values) { std::memcpy(to, &values, sizeof values); }

inline void store(BFloat16* to, Vector values) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    const __m256bh rounded = _mm512_cvtneps_pbh(same_bits<__m512>(values));
    std::memcpy(to, &rounded, sizeof rounded);
#else
    const Integers bits = same_bits<Integers>(values);
    const Integers even = bits + 0x7fff + ((bits >> 16) & 1);  // round to nearest, ties to even
    const Integers rounded = (values == values ? even : bits | 0x400000) >> 16;
    const Halves halves = __builtin_convertvector(rounded, Halves);
    std::memcpy(to, &halves, sizeof halves);
#endif
}

// Load the first `count` lanes, the others 0. Slow: only for the ends of rows.
template <typename T> inline Vector load_some(const T* from, int64_t count) {
    T lanes[LANES] = {};
    std::memcpy(lanes, from, count * sizeof(T));
    return load(lanes);
}

template <typename T> inline void store_some(T* to, Vector values, int64_t count) {
    T lanes[LANES];
    store(lanes, values);
    std::memcpy(to, lanes, count * sizeof(T));
}

template <int SIZE, typename T> inline Vector load_part(const T* from, int vector) {
    return (vector + 1) * LANES <= SIZE ? load(from + vector * LANES)
                                        : load_some(from + vector * LANES, SIZE - vector * LANES);
}

template <int SIZE, typename T> inline void store_part(T* to, int vector, Vector values) {
    if ((vector + 1) * LANES <= SIZE) store(to + vector * LANES, values);
    else store_some(to + vector * LANES, values, SIZE - vector * LANES);
}

inline Vector maximum(Vector a, Vector b) { return a > b ? a : b; }

struct Add { template <typename V> V operator()(V a, V b) const { return a + b; } };
struct Maximum { template <typename V> V operator()(V a, V b) const { return a > b ? a : b; } };

// Reduce all lanes to one number; the order of sums depends on LANES alone.
template <typename Reduce> inline float reduce_lanes(Vector values, Reduce reduce) {
    typedef float Quarter __attribute__((vector_size(16)));
    Quarter quarters[LANES / 4];
    std::memcpy(quarters, &values, sizeof quarters);
    for (int half = LANES / 8; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) quarters[i] = reduce(quarters[i], quarters[i + half]);
    const Quarter four = quarters[0], two = reduce(four, Quarter{four[2], four[3], four[0], four[1]});
    return reduce(two, Quarter{two[1], two[0], two[3], two[2]})[0];
}

inline float sum_lanes(Vector values) { return reduce_lanes(values, Add()); }
inline float max_lanes(Vector values) { return reduce_lanes(values, Maximum()); }

// Return a0 b0 a1 b1 ... of the lower or the upper halves of both vectors.
inline Vector interleave(Vector a, Vector b, bool is_upper) {
#ifdef __AVX512F__
    const Integers low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#else
    const Integers low = {0, 8, 1, 9, 2, 10, 3, 11};
#endif
    return __builtin_shuffle(a, b, is_upper ? low + LANES / 2 : low);
}

// Return a vector whose lane i is all lanes of rows[i] reduced to one. Overwrites the rows.
template <typename Reduce> inline Vector reduce_each(Vector (&rows)[LANES], Reduce reduce) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i)
            rows[i] = reduce(interleave(rows[i], rows[i + half], false), interleave(rows[i], rows[i + half], true));
    return rows[0];
}

inline Vector sum_each(Vector (&rows)[LANES]) { return reduce_each(rows, Add()); }

inline void transpose(Vector (&rows)[LANES]) {
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        Vector next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; ++i) {
            next[2 * i] = interleave(rows[i], rows[i + LANES / 2], false);
            next[2 * i + 1] = interleave(rows[i], rows[i + LANES / 2], true);
        }
        std::memcpy(rows, next, sizeof next);
    }
}

// e^x to 2 units in the last place for x <= 88; 0 below -87.
inline Vector exponential(Vector x) {
    const Vector low = fill(-87.0f);
    const Vector inside = x < low ? low : x;  // this order keeps a NaN
    const Vector shifted = inside * 1.44269504f + 12582912.0f;  // adding 1.5 2^23 rounds to a whole number
    const Vector whole = shifted - 12582912.0f;
    const Vector rest = (inside - whole * 0.693145752f) - whole * 1.42860677e-6f;
    Vector power = fill(1.0f / 720);
    power = power * rest + 1.0f / 120;
    power = power * rest + 1.0f / 24;
    power = power * rest + 1.0f / 6;
    power = power * rest + 0.5f;
    power = power * rest + 1.0f;
    power = power * rest + 1.0f;
    const Vector scale = same_bits<Vector>((same_bits<Integers>(shifted) << 23) + 0x3f800000);
    return x < low ? Vector{} : power * scale;
}

inline float to_float(const float* from) { return *from; }
inline float to_float(const BFloat16* from) { return same_bits<float>(uint32_t(from->bits) << 16); }

// Set scores[count] to scores[columns - 1] to minus infinity; `columns` is `count` rounded up to whole vectors.
inline void mask_tail(float* scores, int64_t count, int64_t columns) {
    Integers lanes;
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
    const int64_t last = columns - LANES;
    store(scores + last, lanes < int32_t(count - last) ? load(scores + last) : fill(-INFINITE));
}

// Replace `count` scores by e^(score - largest), fill up to `columns` with 0, and return the sum.
inline float exponentiate(float* scores, int64_t count, int64_t columns) {
    mask_tail(scores, count, columns);
    Vector highest = load(scores);
    for (int64_t j = LANES; j < columns; j += LANES) highest = maximum(highest, load(scores + j));
    const float top = max_lanes(highest);
    Vector total{};
    for (int64_t j = 0; j < columns; j += LANES) {
        const Vector power = exponential(load(scores + j) - top);
        store(scores + j, power);
        total += power;
    }
    return sum_lanes(total);
}

// exponentiate for LANES rows of `columns` scores each; lane i of the result is the sum of row i.
inline Vector exponentiate_rows(float* scores, int64_t count, int64_t columns) {
    Vector highest[LANES], totals[LANES];
    for (int row = 0; row < LANES; ++row) {
        float* own = scores + row * columns;
        mask_tail(own, count, columns);
        highest[row] = load(own);
        for (int64_t j = LANES; j < columns; j += LANES) highest[row] = maximum(highest[row], load(own + j));
    }
    float tops[LANES];
    store(tops, reduce_each(highest, Maximum()));
    for (int row = 0; row < LANES; ++row) {
        totals[row] = Vector{};
        for (int64_t j = 0; j < columns; j += LANES) {
            const Vector power = exponential(load(scores + row * columns + j) - tops[row]);
            store(scores + row * columns + j, power);
            totals[row] += power;
        }
    }
    return sum_each(totals);
}

}  // namespace

// Run `call` with T as the type of `kind`: float (0) or bfloat16 (1).
#define FOR_KIND(call)      \
    if (kind == 0) {        \
        typedef float T;    \
        call;               \
    } else if (kind == 1) { \
        typedef BFloat16 T; \
        call;               \
    }
