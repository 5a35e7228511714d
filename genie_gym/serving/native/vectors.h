// Vectors of floats as wide as the machine has them, loaded from and stored to float or bfloat16.
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
struct Half { uint16_t bits; };

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr int64_t up(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

inline Vector fill(float value) { return Vector{} + value; }

// sum + one * other. Left to the compiler, one and several rows of the same product may be rounded differently: for
// some processors it fuses the two operations in one place and not in another.
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

// The same values in a register. Left to the compiler, what several sums are made of is read again for each of them, and
// processors multiply faster than they read.
inline Vector hold(Vector values) {
#if defined(__AVX512F__)
    asm("" : "+v"(values));
#elif defined(__AVX__)
    asm("" : "+x"(values));
#endif
    return values;
}

inline Vector load(const BFloat16* from) {
#ifdef __AVX512F__  // one instruction, of which GCC 12 makes four
    return same_bits<Vector>((Integers)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)) << 16);
#else
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return same_bits<Vector>(__builtin_convertvector(halves, Integers) << 16);
#endif
}

#ifdef __AVX512FP16__
inline Vector load(const Half* from) {
    return same_bits<Vector>(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)));
}

inline void store(Half* to, Vector values) {  // to the nearest, ties to even
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph(same_bits<__m512>(values), _MM_FROUND_TO_NEAREST_INT));
}

inline float one(const Half* from) { return same_bits<_Float16>(from->bits); }
#endif

inline void store(float* to, Vector values) { std::memcpy(to, &values, sizeof values); }

inline void store(BFloat16* to, Vector values) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    const __m256bh rounded = _mm512_cvtneps_pbh(same_bits<__m512>(values));
    std::memcpy(to, &rounded, sizeof rounded);
#else
    const Integers bits = same_bits<Integers>(values);
    const Integers even = bits + 0x7fff + ((bits >> 16) & 1);  // to the nearest, ties to even
    const Integers rounded = (values == values ? even : bits | 0x400000) >> 16;
    const Halves halves = __builtin_convertvector(rounded, Halves);
    std::memcpy(to, &halves, sizeof halves);
#endif
}

// The first `count` lanes, the others 0. Slow, for what is left over.
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

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

struct Add { template <typename V> V operator()(V a, V b) const { return a + b; } };
struct Larger { template <typename V> V operator()(V a, V b) const { return a > b ? a : b; } };

// All lanes as one.
template <typename Join> inline float join_lanes(Vector values, Join join) {
    typedef float Quarter __attribute__((vector_size(16)));
    Quarter quarters[LANES / 4];
    std::memcpy(quarters, &values, sizeof quarters);
    for (int half = LANES / 8; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) quarters[i] = join(quarters[i], quarters[i + half]);
    const Quarter four = quarters[0], two = join(four, Quarter{four[2], four[3], four[0], four[1]});
    return join(two, Quarter{two[1], two[0], two[3], two[2]})[0];
}

inline float sum_lanes(Vector values) { return join_lanes(values, Add()); }
inline float max_lanes(Vector values) { return join_lanes(values, Larger()); }

// a0 b0 a1 b1 ... of the lower or upper halves.
inline Vector interleave(Vector a, Vector b, bool is_upper) {
#ifdef __AVX512F__
    const Integers low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#else
    const Integers low = {0, 8, 1, 9, 2, 10, 3, 11};
#endif
    return __builtin_shuffle(a, b, is_upper ? low + LANES / 2 : low);
}

// Sums of two neighbours, those of a and then those of b.
inline Vector sum_neighbours(Vector a, Vector b) {
#ifdef __AVX512F__
    const Integers even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#else
    const Integers even = {0, 2, 4, 6, 8, 10, 12, 14};
#endif
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, even + 1);
}

// Lane i of the result is all lanes of rows[i] as one.
template <typename Join> inline Vector join_each(Vector (&rows)[LANES], Join join) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i)
            rows[i] = join(interleave(rows[i], rows[i + half], false), interleave(rows[i], rows[i + half], true));
    return rows[0];
}

inline Vector sum_each(Vector (&rows)[LANES]) { return join_each(rows, Add()); }

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
    const Vector inside = x < low ? low : x;  // which keeps a NaN
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

inline float one(const float* from) { return *from; }
inline float one(const BFloat16* from) { return same_bits<float>(uint32_t(from->bits) << 16); }

// The last vector of `count` scores becomes minus infinity beyond these.
inline void end_scores(float* scores, int64_t count, int64_t columns) {
    Integers lanes;
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
    const int64_t last = columns - LANES;
    store(scores + last, lanes < int32_t(count - last) ? load(scores + last) : fill(-INFINITE));
}

// e^score for `count` scores, less the largest, and 0 for those up to `columns`; their sum.
inline float exponentiate(float* scores, int64_t count, int64_t columns) {
    end_scores(scores, count, columns);
    Vector highest = load(scores);
    for (int64_t j = LANES; j < columns; j += LANES) highest = larger(highest, load(scores + j));
    const float top = max_lanes(highest);
    Vector total{};
    for (int64_t j = 0; j < columns; j += LANES) {
        const Vector share = exponential(load(scores + j) - top);
        store(scores + j, share);
        total += share;
    }
    return sum_lanes(total);
}

// The same for LANES rows of scores; lane i of the result is the sum of row i.
inline Vector exponentiate_rows(float* scores, int64_t count, int64_t columns) {
    Vector highest[LANES], totals[LANES];
    for (int row = 0; row < LANES; ++row) {
        float* own = scores + row * columns;
        end_scores(own, count, columns);
        highest[row] = load(own);
        for (int64_t j = LANES; j < columns; j += LANES) highest[row] = larger(highest[row], load(own + j));
    }
    float tops[LANES];
    store(tops, join_each(highest, Larger()));
    for (int row = 0; row < LANES; ++row) {
        totals[row] = Vector{};
        for (int64_t j = 0; j < columns; j += LANES) {
            const Vector share = exponential(load(scores + row * columns + j) - tops[row]);
            store(scores + row * columns + j, share);
            totals[row] += share;
        }
    }
    return sum_each(totals);
}

}  // namespace

#ifdef __AVX512FP16__
#define FOR_HALF(call)      \
    else if (kind == 2) {   \
        typedef Half T;     \
        call;               \
    }
#else
#define FOR_HALF(call)
#endif

// Run `call` with T the type of kind 0, 1 or 2.
#define FOR_KIND(call)      \
    if (kind == 0) {        \
        typedef float T;    \
        call;               \
    } else if (kind == 1) { \
        typedef BFloat16 T; \
        call;               \
    } FOR_HALF(call)
