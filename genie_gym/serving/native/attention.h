// Attention within frames, and across time to a KV cache: QK-norm, scores, softmax and mixed values.
//
// HEAD_DIM (features of a query or a key) and VALUE_DIM (features of a value) are set when compiling. Inputs are
// projections in which each token holds its queries, keys and values side by side: heads * HEAD_DIM, heads * HEAD_DIM
// and heads * VALUE_DIM features. Functions that take a Team are called by all its threads.
#pragma once

#include "rows.h"

namespace {

constexpr int HEAD_VECTORS = round_up(HEAD_DIM) / LANES, VALUE_VECTORS = round_up(VALUE_DIM) / LANES;

inline Vector inverse_sqrt(Vector x) {
#ifdef __AVX512F__  // GCC 12 vectorises the loop below only sometimes
    return 1 / same_bits<Vector>(_mm512_sqrt_ps(same_bits<__m512>(x)));
#else
    Vector roots;
    for (int lane = 0; lane < LANES; ++lane) roots[lane] = std::sqrt(x[lane]);
    return 1 / roots;
#endif
}

// Subtract the mean from vector v of a head's features; lanes beyond the head become 0.
inline Vector centre(Vector features, float mean, int v) {
    features -= mean;
    for (int lane = HEAD_DIM - v * LANES; lane < LANES; ++lane) features[lane] = 0;
    return features;
}

// LayerNorm of up to LANES rows of HEAD_DIM features, times `scale`, written as [feature][row]: each lane is a row.
template <typename T>
inline void normalise_columns(float* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows,
                              const NormWeights& norm, float scale) {
    Vector features[HEAD_VECTORS * LANES];
    for (int v = 0; v < HEAD_VECTORS; ++v) {
        Vector block[LANES];
        for (int row = 0; row < LANES; ++row)
            block[row] = row < rows ? load_part<HEAD_DIM>(from + row * from_stride, v) : Vector{};
        transpose(block);
        std::memcpy(features + v * LANES, block, sizeof block);
    }
    Vector total{}, squares{};
    for (int d = 0; d < HEAD_DIM; ++d) total += features[d];
    const Vector mean = total / HEAD_DIM;
    for (int d = 0; d < HEAD_DIM; ++d) squares += (features[d] - mean) * (features[d] - mean);
    const Vector inverse_std = inverse_sqrt(squares / HEAD_DIM + norm.epsilon);
    for (int d = 0; d < HEAD_DIM; ++d)
        store(to + d * to_stride, ((features[d] - mean) * inverse_std * norm.weight[d] + norm.bias[d]) * scale);
}

// A LayerNorm whose result is multiplied by `scale`.
struct ScaledNorm {
    const NormWeights* norm;
    float scale;
};

// LayerNorm of consecutive rows, written as [row][feature]: rows before `half` with `first_norm`, the others with
// `second_norm`. Both have the same epsilon.
template <typename T>
inline void normalise_rows(float* to, const T* from, int64_t rows, int64_t half, ScaledNorm first_norm,
                           ScaledNorm second_norm) {
    for (int64_t first = 0; first < rows; first += LANES) {
        Vector sums[LANES], squares[LANES];
        const int count = rows - first < LANES ? int(rows - first) : LANES;
        for (int row = 0; row < LANES; ++row) {
            sums[row] = squares[row] = Vector{};
            if (row < count)
                for (int v = 0; v < HEAD_VECTORS; ++v)
                    sums[row] += load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v);
        }
        float means[LANES], inverse_stds[LANES];
        store(means, sum_each(sums) / HEAD_DIM);
        for (int row = 0; row < count; ++row)
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), means[row], v);
                squares[row] += centred * centred;
            }
        const Vector variance = sum_each(squares) / HEAD_DIM;
        store(inverse_stds, inverse_sqrt(variance + first_norm.norm->epsilon));
        for (int row = 0; row < count; ++row) {
            const ScaledNorm& own = first + row < half ? first_norm : second_norm;
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), means[row], v);
                const Vector weight = load_part<HEAD_DIM>(own.norm->weight, v);
                const Vector bias = load_part<HEAD_DIM>(own.norm->bias, v);
                store(to + ((first + row) * HEAD_VECTORS + v) * LANES,
                      (centred * inverse_stds[row] * weight + bias) * own.scale);
            }
        }
    }
}

// Number of queries multiplied at once, and of vectors of results for each: QUERIES * WIDE sums fit into the registers.
constexpr int QUERIES = LANES == 16 ? 8 : 4, WIDE = 2;

// Write scores[row][key] of COUNT queries with COLUMNS vectors of keys; queries and keys are [feature][token].
template <int COUNT, int COLUMNS>
inline void multiply_queries(float* scores, const float* queries, const float* keys, int64_t columns) {
    Vector sums[COUNT][COLUMNS] = {};
    for (int d = 0; d < HEAD_DIM; ++d) {
        Vector own[COLUMNS];
        for (int c = 0; c < COLUMNS; ++c) own[c] = keep_in_register(load(keys + d * columns + c * LANES));
        for (int row = 0; row < COUNT; ++row)
            for (int c = 0; c < COLUMNS; ++c)
                sums[row][c] = add_product(sums[row][c], queries[d * columns + row], own[c]);
    }
    for (int row = 0; row < COUNT; ++row)
        for (int c = 0; c < COLUMNS; ++c) store(scores + row * columns + c * LANES, sums[row][c]);
}

// Write COUNT rows of `out`, VECTORS vectors of features from vector `first` on: the values weighted by weights[row].
// The weights need not sum to 1: scales[row] is 1 / their sum.
template <int COUNT, int VECTORS, typename T>
inline void mix_values(T* out, int64_t out_stride, const float* weights, const float* scales, const float* values,
                       int64_t positions, int64_t columns, int first) {
    Vector sums[COUNT][VECTORS] = {};
    for (int64_t j = 0; j < positions; ++j) {
        Vector own[VECTORS];
        for (int v = 0; v < VECTORS; ++v)
            own[v] = keep_in_register(load(values + (j * VALUE_VECTORS + first + v) * LANES));
        for (int row = 0; row < COUNT; ++row)
            for (int v = 0; v < VECTORS; ++v)
                sums[row][v] = add_product(sums[row][v], weights[row * columns + j], own[v]);
    }
    for (int row = 0; row < COUNT; ++row)
        for (int v = 0; v < VECTORS; ++v)
            store_part<VALUE_DIM>(out + row * out_stride, first + v, sums[row][v] * scales[row]);
}

template <int COUNT, typename T>
inline void mix_queries(T* out, int64_t out_stride, const float* weights, const float* scales, const float* values,
                        int64_t positions, int64_t columns) {
    int v = 0;
    for (; v + WIDE <= VALUE_VECTORS; v += WIDE)
        mix_values<COUNT, WIDE>(out, out_stride, weights, scales, values, positions, columns, v);
    for (; v < VALUE_VECTORS; ++v)
        mix_values<COUNT, 1>(out, out_stride, weights, scales, values, positions, columns, v);
}

// A thread's memory for one head of one frame; `columns` is the number of positions rounded up to whole vectors.
struct SpatialScratch {
    SpatialScratch(int64_t positions) : columns(round_up(positions)) {
        static thread_local std::vector<float> memory;  // allocated once per thread
        memory.resize(columns * (2 * HEAD_VECTORS + VALUE_VECTORS) * LANES + LANES * columns);
        queries = memory.data();
        keys = queries + columns * HEAD_VECTORS * LANES;
        values = keys + columns * HEAD_VECTORS * LANES;
        scores = values + columns * VALUE_VECTORS * LANES;
    }
    int64_t columns;
    float *queries, *keys, *values, *scores;
};

// Attend with LANES queries from position `first` on; those beyond the last position are computed, but not stored.
template <typename T>
inline void attend_queries(T* out, int64_t out_stride, const SpatialScratch& scratch, int64_t first,
                           int64_t positions) {
    const int64_t columns = scratch.columns;
    for (int row = 0; row < LANES; row += QUERIES) {
        const float* queries = scratch.queries + first + row;
        float* scores = scratch.scores + row * columns;
        int64_t j = 0;
        for (; j + WIDE * LANES <= columns; j += WIDE * LANES)
            multiply_queries<QUERIES, WIDE>(scores + j, queries, scratch.keys + j, columns);
        for (; j < columns; j += LANES) multiply_queries<QUERIES, 1>(scores + j, queries, scratch.keys + j, columns);
    }
    float scales[LANES];
    store(scales, 1 / exponentiate_rows(scratch.scores, positions, columns));
    const int64_t count = std::min<int64_t>(LANES, positions - first);
    int64_t row = 0;
    for (; row + QUERIES <= count; row += QUERIES)
        mix_queries<QUERIES>(out + (first + row) * out_stride, out_stride, scratch.scores + row * columns, scales + row,
                             scratch.values, positions, columns);
    for (; row < count; ++row)
        mix_queries<1>(out + (first + row) * out_stride, out_stride, scratch.scores + row * columns, scales + row,
                       scratch.values, positions, columns);
}

// Attend from every token of a frame to every token of that frame:
// (frames, positions, heads * (2 HEAD_DIM + VALUE_DIM)) -> (frames, positions, heads * VALUE_DIM).
template <typename T>
void attend_in_space(T* out, const T* projected, const NormWeights& query_norm, const NormWeights& key_norm,
                     int64_t frames, int64_t positions, int64_t heads, const Team& team) {
    const int64_t stride = heads * (2 * HEAD_DIM + VALUE_DIM), out_stride = heads * VALUE_DIM;
    const float scale = 1 / std::sqrt(float(HEAD_DIM));
    const SpatialScratch scratch(positions);
    team.share(frames * heads, [&](int64_t task) {
        const int64_t frame = task / heads, head = task % heads;
        const T* from = projected + frame * positions * stride + head * HEAD_DIM;
        for (int64_t j = 0; j < positions; j += LANES) {
            normalise_columns(scratch.queries + j, scratch.columns, from + j * stride, stride, positions - j,
                              query_norm, scale);
            normalise_columns(scratch.keys + j, scratch.columns, from + j * stride + heads * HEAD_DIM, stride,
                              positions - j, key_norm, 1);
        }
        const T* value = projected + frame * positions * stride + 2 * heads * HEAD_DIM + head * VALUE_DIM;
        for (int64_t j = 0; j < positions; ++j, value += stride)
            for (int v = 0; v < VALUE_VECTORS; ++v)
                store(scratch.values + (j * VALUE_VECTORS + v) * LANES, load_part<VALUE_DIM>(value, v));
        T* to = out + frame * positions * out_stride + head * VALUE_DIM;
        for (int64_t i = 0; i < positions; i += LANES) attend_queries(to, out_stride, scratch, i, positions);
    });
}

// Multiply the features of COUNT queries by those of one cached key; a score is the sum over a vector's lanes.
template <int COUNT, typename T>
inline void multiply_key(Vector (&products)[COUNT], const float* queries, int64_t query_stride, const T* key) {
    for (int f = 0; f < COUNT; ++f) products[f] = Vector{};
    for (int v = 0; v < HEAD_VECTORS; ++v) {
        const Vector features = load_part<HEAD_DIM>(key, v);
        for (int f = 0; f < COUNT; ++f)
            products[f] = add_product(products[f], load(queries + f * query_stride + v * LANES), features);
    }
}

// Score COUNT frames' queries of one head with its first cached keys, whole vectors of them; score_last_keys has the rest.
template <int COUNT, typename T>
inline void score_cache(float* scores, const float* queries, int64_t query_stride, const T* keys, const float* bias,
                        int64_t cache_frames, int64_t columns) {
    for (int64_t first = 0; first + LANES <= cache_frames; first += LANES) {
        Vector products[COUNT][LANES];
        for (int s = 0; s < LANES; ++s) {
            Vector own[COUNT];
            multiply_key(own, queries, query_stride, keys + (first + s) * HEAD_DIM);
            for (int f = 0; f < COUNT; ++f) products[f][s] = own[f];
        }
        for (int f = 0; f < COUNT; ++f)
            store(scores + f * columns + first, sum_each(products[f]) + load(bias + f * columns + first));
    }
}

// Mix one head's cached values by the weights of COUNT frames' queries, as mix_values does.
template <int COUNT, typename T>
inline void mix_cache(T* out, int64_t out_stride, const float* weights, const float* scales, const T* values,
                      int64_t cache_frames, int64_t columns) {
    Vector sums[COUNT][VALUE_VECTORS] = {};
    for (int64_t s = 0; s < cache_frames; ++s)
        for (int v = 0; v < VALUE_VECTORS; ++v) {
            const Vector own = load_part<VALUE_DIM>(values + s * VALUE_DIM, v);
            for (int f = 0; f < COUNT; ++f) sums[f][v] = add_product(sums[f][v], weights[f * columns + s], own);
        }
    for (int f = 0; f < COUNT; ++f)
        for (int v = 0; v < VALUE_VECTORS; ++v)
            store_part<VALUE_DIM>(out + f * out_stride, v, sums[f][v] * scales[f]);
}

// Sizes of an attention to the KV cache. The cache's keys are (batch, positions, heads, cache_frames, HEAD_DIM).
struct CacheSizes {
    int64_t frames, batch, positions, heads, cache_frames;
    int64_t outputs;       // number of last frames that attend
    int64_t index_stride;  // entries of `indices` from one frame to the next
    int64_t bias_rows;     // batch, or 1 if all rows share a bias
};

// Write one token's keys and values of the new frames into its cache, each frame at its index. `normed` receives each
// frame's normalised queries and keys: (frames, 2 heads, HEAD_DIM rounded up to whole vectors).
template <typename T>
inline void write_cache(T* keys, T* values, float* normed, const T* projected, const int64_t* indices,
                        const NormWeights& query_norm, const NormWeights& key_norm, const CacheSizes& sizes) {
    const int64_t frame_stride = sizes.batch * sizes.positions * sizes.heads * (2 * HEAD_DIM + VALUE_DIM);
    const int64_t normed_stride = 2 * sizes.heads * HEAD_VECTORS * LANES;
    for (int64_t f = 0; f < sizes.frames; ++f) {
        const T* from = projected + f * frame_stride;
        const int64_t index = indices[f * sizes.index_stride];
        normalise_rows(normed + f * normed_stride, from, 2 * sizes.heads, sizes.heads,
                       {&query_norm, 1 / std::sqrt(float(HEAD_DIM))}, {&key_norm, 1});
        const float* own = normed + f * normed_stride + normed_stride / 2;
        for (int64_t head = 0; head < sizes.heads; ++head) {
            T* key = keys + (head * sizes.cache_frames + index) * HEAD_DIM;
            for (int v = 0; v < HEAD_VECTORS; ++v)
                store_part<HEAD_DIM>(key, v, load(own + (head * HEAD_VECTORS + v) * LANES));
            std::memcpy(values + (head * sizes.cache_frames + index) * VALUE_DIM,
                        from + 2 * sizes.heads * HEAD_DIM + head * VALUE_DIM, VALUE_DIM * sizeof(T));
        }
    }
}

// A thread's memory for one token: scores and bias are (heads, outputs, columns).
struct TemporalScratch {
    TemporalScratch(const CacheSizes& sizes)
        : columns(round_up(sizes.cache_frames)), rows(sizes.heads * sizes.outputs) {
        static thread_local std::vector<float> memory;  // allocated once per thread
        memory.resize(round_up(rows) * (2 * columns + 1) + 2 * sizes.frames * sizes.heads * HEAD_VECTORS * LANES);
        scores = memory.data();
        bias = scores + round_up(rows) * columns;
        scales = bias + round_up(rows) * columns;
        normed = scales + round_up(rows);
    }
    int64_t columns, rows;
    float *scores, *bias, *scales, *normed;
};

// Score all rows with the cached keys that do not fill a whole vector, such as the last 2 of 18: LANES scores at once,
// of several rows, where score_cache would sum a whole vector for each row.
template <typename T>
inline void score_last_keys(const TemporalScratch& scratch, const float* queries, const T* keys,
                            const CacheSizes& sizes) {
    const int64_t normed_stride = 2 * sizes.heads * HEAD_VECTORS * LANES;
    const int64_t left = sizes.cache_frames % LANES, start = sizes.cache_frames - left, all = scratch.rows * left;
    for (int64_t first = 0; first < all; first += LANES) {
        const int64_t count = std::min<int64_t>(LANES, all - first);
        int64_t places[LANES];
        Vector products[LANES] = {};
        for (int64_t i = 0; i < count; ++i) {
            const int64_t row = (first + i) / left, key = start + (first + i) % left;
            const int64_t head = row / sizes.outputs, f = row % sizes.outputs;
            Vector own[1];
            multiply_key(own, queries + f * normed_stride + head * HEAD_VECTORS * LANES, normed_stride,
                         keys + (head * sizes.cache_frames + key) * HEAD_DIM);
            products[i] = own[0], places[i] = row * scratch.columns + key;
        }
        float sums[LANES];
        store(sums, sum_each(products));
        for (int64_t i = 0; i < count; ++i) scratch.scores[places[i]] = sums[i] + scratch.bias[places[i]];
    }
}

// Ask for memory that is read soon: caches of many rows do not fit into the processor's.
inline void fetch(const void* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const uint8_t*)from + i, 0, 2);
}

// Attend from one token's queries to its cache. COUNT, the number of frames at once, is `sizes.outputs` or 1.
template <int COUNT, typename T>
inline void attend_to_cache(T* out, int64_t out_stride, const TemporalScratch& scratch, const T* keys, const T* values,
                            const CacheSizes& sizes) {
    const int64_t columns = scratch.columns, normed_stride = 2 * sizes.heads * HEAD_VECTORS * LANES;
    const int64_t cache_frames = sizes.cache_frames;
    const float* queries = scratch.normed + (sizes.frames - sizes.outputs) * normed_stride;
    for (int64_t row = 0; row < scratch.rows; row += COUNT) {
        const int64_t head = row / sizes.outputs;
        fetch(values + head * cache_frames * VALUE_DIM, cache_frames * VALUE_DIM * sizeof(T));
        score_cache<COUNT>(scratch.scores + row * columns,
                           queries + row % sizes.outputs * normed_stride + head * HEAD_VECTORS * LANES, normed_stride,
                           keys + head * cache_frames * HEAD_DIM, scratch.bias + row * columns, cache_frames, columns);
    }
    score_last_keys(scratch, queries, keys, sizes);
    for (int64_t first = 0; first < scratch.rows; first += LANES)
        store(scratch.scales + first, 1 / exponentiate_rows(scratch.scores + first * columns, cache_frames, columns));
    for (int64_t row = 0; row < scratch.rows; row += COUNT) {
        const int64_t head = row / sizes.outputs, f = row % sizes.outputs;
        fetch(keys + (sizes.heads + head) * cache_frames * HEAD_DIM, cache_frames * HEAD_DIM * sizeof(T));
        mix_cache<COUNT>(out + f * out_stride + head * VALUE_DIM, out_stride, scratch.scores + row * columns,
                         scratch.scales + row, values + head * cache_frames * VALUE_DIM, cache_frames, columns);
    }
}

// Convert one row's bias (heads, frames, cache_frames) to floats (heads, outputs, columns).
template <typename T> inline void load_bias(float* to, const T* from, const CacheSizes& sizes) {
    for (int64_t head = 0; head < sizes.heads; ++head)
        for (int64_t f = sizes.frames - sizes.outputs; f < sizes.frames; ++f, to += round_up(sizes.cache_frames))
            for (int64_t s = 0; s < sizes.cache_frames; ++s)
                to[s] = to_float(from + (head * sizes.frames + f) * sizes.cache_frames + s);
}

// Write the new frames into the KV cache, and attend from every token to the cached tokens of its position:
// (frames, batch, positions, heads * (2 HEAD_DIM + VALUE_DIM)) -> (outputs, batch, positions, heads * VALUE_DIM).
template <typename T>
void attend_in_time(T* out, const T* projected, T* keys, T* values, const int64_t* indices, const T* bias,
                    const NormWeights& query_norm, const NormWeights& key_norm, const CacheSizes& sizes,
                    const Team& team) {
    const int64_t stride = sizes.heads * (2 * HEAD_DIM + VALUE_DIM), tokens = sizes.batch * sizes.positions;
    const int64_t out_stride = tokens * sizes.heads * VALUE_DIM;
    const TemporalScratch scratch(sizes);
    int64_t bias_row = -1;
    team.share(tokens, [&](int64_t token) {
        const int64_t row = token / sizes.positions, start = token * sizes.heads * sizes.cache_frames;
        T *own_keys = keys + start * HEAD_DIM, *own_values = values + start * VALUE_DIM;
        write_cache(own_keys, own_values, scratch.normed, projected + token * stride, indices + row, query_norm,
                    key_norm, sizes);
        const int64_t wanted = sizes.bias_rows > 1 ? row : 0;
        if (wanted != bias_row)
            load_bias(scratch.bias, bias + wanted * sizes.heads * sizes.frames * sizes.cache_frames, sizes);
        bias_row = wanted;
        T* to = out + token * sizes.heads * VALUE_DIM;
        if (sizes.outputs == 2) attend_to_cache<2>(to, out_stride, scratch, own_keys, own_values, sizes);
        else attend_to_cache<1>(to, out_stride, scratch, own_keys, own_values, sizes);
    });
}

}  // namespace
