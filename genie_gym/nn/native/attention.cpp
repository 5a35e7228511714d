// Attention in space, and in time with a ring of slots, from projected features on: QK-norm, softmax, mixed values.
//
// Compiled with HEAD_DIM and VALUE_DIM, the features of a head's queries and keys, and of its values; kernels.py says
// what each function computes. As in pointwise.cpp, neither threads nor batch change a bit of a row.

#include "vectors.h"

namespace {

constexpr int HEAD_VECTORS = up(HEAD_DIM) / LANES, VALUE_VECTORS = up(VALUE_DIM) / LANES;

inline Vector inverse_root(Vector x) {
    Vector roots;
    for (int lane = 0; lane < LANES; ++lane) roots[lane] = std::sqrt(x[lane]);
    return 1 / roots;
}

// Less the mean, and 0 where vector v goes beyond the head.
inline Vector centre(Vector features, float mean, int v) {
    features -= mean;
    for (int lane = HEAD_DIM - v * LANES; lane < LANES; ++lane) features[lane] = 0;
    return features;
}

// A LayerNorm over the features of a head.
template <typename T> struct Norm {
    const T *weight, *bias;
    float epsilon;
};

// The LayerNorm of LANES rows of HEAD_DIM features, times `scale`, as [feature][row]: a lane is a row.
template <typename T>
inline void normalise_columns(float* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows,
                              const Norm<T>& norm, float scale) {
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
    const Vector shrink = inverse_root(squares / HEAD_DIM + norm.epsilon);
    for (int d = 0; d < HEAD_DIM; ++d)
        store(to + d * to_stride, ((features[d] - mean) * shrink * one(norm.weight + d) + one(norm.bias + d)) * scale);
}

// The same, as [row][feature].
template <typename T>
inline void normalise_rows(float* to, const T* from, int64_t rows, const Norm<T>& norm, float scale) {
    for (int64_t first = 0; first < rows; first += LANES) {
        Vector sums[LANES], squares[LANES];
        const int count = rows - first < LANES ? int(rows - first) : LANES;
        for (int row = 0; row < LANES; ++row) {
            sums[row] = squares[row] = Vector{};
            if (row < count)
                for (int v = 0; v < HEAD_VECTORS; ++v)
                    sums[row] += load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v);
        }
        const Vector mean = sum_each(sums) / HEAD_DIM;
        for (int row = 0; row < count; ++row)
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), mean[row], v);
                squares[row] += centred * centred;
            }
        const Vector shrink = inverse_root(sum_each(squares) / HEAD_DIM + norm.epsilon);
        for (int row = 0; row < count; ++row)
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), mean[row], v);
                const Vector weight = load_part<HEAD_DIM>(norm.weight, v), bias = load_part<HEAD_DIM>(norm.bias, v);
                store(to + ((first + row) * HEAD_VECTORS + v) * LANES, (centred * shrink[row] * weight + bias) * scale);
            }
    }
}

// Queries of a frame that are multiplied at once, and vectors of their products: as many as registers hold.
constexpr int ROWS = LANES == 16 ? 8 : 4, WIDE = 2;

// scores[row][:] of COUNT queries against COLUMNS vectors of keys; queries and keys are [feature][token].
template <int COUNT, int COLUMNS>
inline void multiply_queries(float* scores, const float* queries, const float* keys, int64_t columns) {
    Vector sums[COUNT][COLUMNS] = {};
    for (int d = 0; d < HEAD_DIM; ++d)
        for (int row = 0; row < COUNT; ++row)
            for (int c = 0; c < COLUMNS; ++c)
                sums[row][c] += queries[d * columns + row] * load(keys + d * columns + c * LANES);
    for (int row = 0; row < COUNT; ++row)
        for (int c = 0; c < COLUMNS; ++c) store(scores + row * columns + c * LANES, sums[row][c]);
}

// out[row][:] of COUNT rows of shares, VECTORS vectors of the values from number `first` on.
template <int COUNT, int VECTORS, typename T>
inline void mix_values(T* out, int64_t out_stride, const float* shares, const float* totals, const float* values,
                       int64_t places, int64_t columns, int first) {
    Vector sums[COUNT][VECTORS] = {};
    for (int64_t j = 0; j < places; ++j)
        for (int row = 0; row < COUNT; ++row)
            for (int v = 0; v < VECTORS; ++v)
                sums[row][v] += shares[row * columns + j] * load(values + (j * VALUE_VECTORS + first + v) * LANES);
    for (int row = 0; row < COUNT; ++row)
        for (int v = 0; v < VECTORS; ++v)
            store_part<VALUE_DIM>(out + row * out_stride, first + v, sums[row][v] / totals[row]);
}

// Room for a frame of one head.
struct Scratch {
    Scratch(int64_t places) : columns(up(places)) {
        static thread_local std::vector<float> memory;  // grows once
        memory.resize(columns * (2 * HEAD_VECTORS + VALUE_VECTORS) * LANES + ROWS * columns);
        queries = memory.data();
        keys = queries + columns * HEAD_VECTORS * LANES;
        values = keys + columns * HEAD_VECTORS * LANES;
        scores = values + columns * VALUE_VECTORS * LANES;
    }
    int64_t columns;
    float *queries, *keys, *values, *scores;
};

template <int COUNT, typename T>
inline void attend_rows(T* out, int64_t out_stride, const Scratch& scratch, int64_t first, int64_t places) {
    const int64_t columns = scratch.columns;
    const float* queries = scratch.queries + first;
    int64_t j = 0;
    for (; j + WIDE * LANES <= columns; j += WIDE * LANES)
        multiply_queries<COUNT, WIDE>(scratch.scores + j, queries, scratch.keys + j, columns);
    for (; j < columns; j += LANES) multiply_queries<COUNT, 1>(scratch.scores + j, queries, scratch.keys + j, columns);
    float totals[COUNT];
    for (int row = 0; row < COUNT; ++row) totals[row] = exponentiate(scratch.scores + row * columns, places, columns);
    T* to = out + first * out_stride;
    int v = 0;
    for (; v + WIDE <= VALUE_VECTORS; v += WIDE)
        mix_values<COUNT, WIDE>(to, out_stride, scratch.scores, totals, scratch.values, places, columns, v);
    for (; v < VALUE_VECTORS; ++v)
        mix_values<COUNT, 1>(to, out_stride, scratch.scores, totals, scratch.values, places, columns, v);
}

template <typename T>
void spatial(T* out, const T* projected, const Norm<T>& query_norm, const Norm<T>& key_norm, int64_t frames,
             int64_t places, int64_t heads, int threads) {
    const int64_t stride = heads * (2 * HEAD_DIM + VALUE_DIM), out_stride = heads * VALUE_DIM;
    const float scale = 1 / std::sqrt(float(HEAD_DIM));
#pragma omp parallel num_threads(threads)
    {
        const Scratch scratch(places);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < frames * heads; ++task) {
            const int64_t frame = task / heads, head = task % heads;
            const T* from = projected + frame * places * stride + head * HEAD_DIM;
            for (int64_t j = 0; j < places; j += LANES) {
                normalise_columns(scratch.queries + j, scratch.columns, from + j * stride, stride, places - j,
                                  query_norm, scale);
                normalise_columns(scratch.keys + j, scratch.columns, from + j * stride + heads * HEAD_DIM, stride,
                                  places - j, key_norm, 1);
            }
            const T* value = projected + frame * places * stride + 2 * heads * HEAD_DIM + head * VALUE_DIM;
            for (int64_t j = 0; j < places; ++j, value += stride)
                for (int v = 0; v < VALUE_VECTORS; ++v)
                    store(scratch.values + (j * VALUE_VECTORS + v) * LANES, load_part<VALUE_DIM>(value, v));
            T* to = out + frame * places * out_stride + head * VALUE_DIM;
            int64_t i = 0;
            for (; i + ROWS <= places; i += ROWS) attend_rows<ROWS>(to, out_stride, scratch, i, places);
            for (; i < places; ++i) attend_rows<1>(to, out_stride, scratch, i, places);
        }
    }
}

struct Ring {
    int64_t frames, batch, places, heads, slots, outputs;
};

// Scores of one query against all slots of its head.
template <typename T> inline void score_slots(float* scores, const float* query, const T* keys,
                                                         const float* bias, int64_t slots) {
    for (int64_t first = 0; first < slots; first += LANES) {
        Vector products[LANES];
        for (int s = 0; s < LANES; ++s) {
            products[s] = Vector{};
            if (first + s < slots)
                for (int v = 0; v < HEAD_VECTORS; ++v)
                    products[s] += load(query + v * LANES) * load_part<HEAD_DIM>(keys + (first + s) * HEAD_DIM, v);
        }
        const Vector sums = slots - first == 1 ? fill(sum_lanes(products[0])) : sum_each(products);
        store(scores + first, sums + load(bias + first));
    }
}

template <typename T> inline void mix_slots(T* out, const float* shares, float total, const T* values, int64_t slots) {
    Vector sums[VALUE_VECTORS] = {};
    for (int64_t s = 0; s < slots; ++s)
        for (int v = 0; v < VALUE_VECTORS; ++v)
            sums[v] += shares[s] * load_part<VALUE_DIM>(values + s * VALUE_DIM, v);
    for (int v = 0; v < VALUE_VECTORS; ++v) store_part<VALUE_DIM>(out, v, sums[v] / total);
}

// The new frames' keys and values of one token go into its slots; its queries are left in `queries`.
template <typename T>
inline void write_slots(T* keys, T* values, float* queries, float* normed, const T* projected, const int64_t* where,
                        const Norm<T>& query_norm, const Norm<T>& key_norm, const Ring& ring) {
    const int64_t frame_stride = ring.batch * ring.places * ring.heads * (2 * HEAD_DIM + VALUE_DIM);
    for (int64_t f = 0; f < ring.frames; ++f) {
        const T* from = projected + f * frame_stride;
        const int64_t slot = where[f * ring.batch];
        normalise_rows(normed, from + ring.heads * HEAD_DIM, ring.heads, key_norm, 1);
        for (int64_t head = 0; head < ring.heads; ++head) {
            T* key = keys + (head * ring.slots + slot) * HEAD_DIM;
            for (int v = 0; v < HEAD_VECTORS; ++v)
                store_part<HEAD_DIM>(key, v, load(normed + (head * HEAD_VECTORS + v) * LANES));
            std::memcpy(values + (head * ring.slots + slot) * VALUE_DIM,
                        from + 2 * ring.heads * HEAD_DIM + head * VALUE_DIM, VALUE_DIM * sizeof(T));
        }
        if (f >= ring.frames - ring.outputs)
            normalise_rows(queries + (f - ring.frames + ring.outputs) * ring.heads * HEAD_VECTORS * LANES, from,
                           ring.heads, query_norm, 1 / std::sqrt(float(HEAD_DIM)));
    }
}

template <typename T>
void temporal(T* out, const T* projected, T* keys, T* values, const int64_t* where, const T* bias, int64_t bias_rows,
              const Norm<T>& query_norm, const Norm<T>& key_norm, const Ring& ring, int threads) {
    const int64_t stride = ring.heads * (2 * HEAD_DIM + VALUE_DIM), out_stride = ring.heads * VALUE_DIM;
    const int64_t tokens = ring.batch * ring.places, columns = up(ring.slots);
    const int64_t a_frame = ring.heads * HEAD_VECTORS * LANES;
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<float> memory;
        memory.resize(ring.heads * ring.outputs * (2 * columns + 1) + (ring.outputs + 1) * a_frame);
        float *scores = memory.data(), *own_bias = scores + ring.heads * ring.outputs * columns;
        float *totals = own_bias + ring.heads * ring.outputs * columns;
        int64_t bias_row = -1;
        float *normed = totals + ring.heads * ring.outputs, *queries = normed + a_frame;
#pragma omp for schedule(static)
        for (int64_t token = 0; token < tokens; ++token) {
            const int64_t row = token / ring.places, start = token * ring.heads * ring.slots;
            write_slots(keys + start * HEAD_DIM, values + start * VALUE_DIM, queries, normed,
                        projected + token * stride, where + row, query_norm, key_norm, ring);
            if (bias_row < 0 || (bias_rows > 1 && bias_row != row)) {
                bias_row = row;
                const T* from = bias + (bias_rows > 1 ? row : 0) * ring.heads * ring.frames * ring.slots;
                for (int64_t i = 0; i < ring.heads * ring.outputs; ++i) {
                    const int64_t frame = ring.frames - ring.outputs + i % ring.outputs;
                    const T* row_from = from + (i / ring.outputs * ring.frames + frame) * ring.slots;
                    for (int64_t s = 0; s < ring.slots; ++s) own_bias[i * columns + s] = one(row_from + s);
                }
            }
            // One thing for all heads after the other: what waits in one head goes on in the next.
            for (int64_t head = 0; head < ring.heads; ++head)
                for (int64_t f = 0; f < ring.outputs; ++f)
                    score_slots(scores + (head * ring.outputs + f) * columns,
                                queries + f * a_frame + head * HEAD_VECTORS * LANES,
                                keys + (start + head * ring.slots) * HEAD_DIM,
                                own_bias + (head * ring.outputs + f) * columns, ring.slots);
            for (int64_t i = 0; i < ring.heads * ring.outputs; ++i)
                totals[i] = exponentiate(scores + i * columns, ring.slots, columns);
            for (int64_t head = 0; head < ring.heads; ++head)
                for (int64_t f = 0; f < ring.outputs; ++f)
                    mix_slots(out + (f * tokens + token) * out_stride + head * VALUE_DIM,
                              scores + (head * ring.outputs + f) * columns, totals[head * ring.outputs + f],
                              values + (start + head * ring.slots) * VALUE_DIM, ring.slots);
        }
    }
}

}  // namespace

extern "C" {

struct QKNorm {
    const void *query_weight, *query_bias, *key_weight, *key_bias;
    float query_epsilon, key_epsilon;
};

#define QUERY_NORM Norm<T>{(const T*)norm->query_weight, (const T*)norm->query_bias, norm->query_epsilon}
#define KEY_NORM Norm<T>{(const T*)norm->key_weight, (const T*)norm->key_bias, norm->key_epsilon}

void genie_spatial(int kind, void* out, const void* projected, const QKNorm* norm, int64_t frames, int64_t places,
                   int64_t heads, int threads) {
    FOR_KIND(spatial((T*)out, (const T*)projected, QUERY_NORM, KEY_NORM, frames, places, heads, threads))
}

void genie_temporal(int kind, void* out, const void* projected, void* keys, void* values, const int64_t* where,
                    const void* bias, int64_t bias_rows, const QKNorm* norm, const Ring* ring, int threads) {
    FOR_KIND(temporal((T*)out, (const T*)projected, (T*)keys, (T*)values, where, (const T*)bias, bias_rows, QUERY_NORM,
                      KEY_NORM, *ring, threads))
}
}
