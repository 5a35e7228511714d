// Attention in space, and in time with a ring of slots, from projected features on: QK-norm, softmax, mixed values.
//
// Compiled with HEAD_DIM and VALUE_DIM, the features of a head's queries and keys, and of its values. Loops are shared
// out among a team as in rows.h.
#pragma once

#include "rows.h"

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

// The LayerNorm of LANES rows of HEAD_DIM features, times `scale`, as [feature][row]: a lane is a row.
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
    const Vector shrink = inverse_root(squares / HEAD_DIM + norm.epsilon);
    const T *weight = (const T*)norm.weight, *bias = (const T*)norm.bias;
    for (int d = 0; d < HEAD_DIM; ++d)
        store(to + d * to_stride, ((features[d] - mean) * shrink * one(weight + d) + one(bias + d)) * scale);
}

// The same, as [row][feature].
template <typename T>
inline void normalise_rows(float* to, const T* from, int64_t rows, const NormWeights& norm, float scale) {
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
                const Vector weight = load_part<HEAD_DIM>((const T*)norm.weight, v);
                const Vector bias = load_part<HEAD_DIM>((const T*)norm.bias, v);
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

// A thread's room for a frame of one head.
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

// Every token of a frame sees every token of that frame, from projections (frames, places, heads (2 HEAD_DIM +
// VALUE_DIM)) of queries, keys and values to (frames, places, heads VALUE_DIM). Shared out.
template <typename T>
void attend_in_space(T* out, const T* projected, const NormWeights& query_norm, const NormWeights& key_norm,
                     int64_t frames, int64_t places, int64_t heads, const Team& team) {
    const int64_t stride = heads * (2 * HEAD_DIM + VALUE_DIM), out_stride = heads * VALUE_DIM;
    const float scale = 1 / std::sqrt(float(HEAD_DIM));
    const Scratch scratch(places);
    for (int64_t task = team.first(frames * heads); task < team.last(frames * heads); ++task) {
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
    team.wait();
}

// Scores of one query against all slots of its head.
template <typename T>
inline void score_slots(float* scores, const float* query, const T* keys, const float* bias, int64_t slots) {
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

// Where new frames of some rows go and what they see.
struct Ring {
    int64_t frames, batch, places, heads, slots;
    int64_t outputs;       // how many of the last frames attend
    int64_t where_stride;  // of `where`, from frame to frame
    int64_t bias_rows;     // 1 for a bias of all rows
};

// The new frames' keys and values of one token go into its slots; the queries of those that attend are returned.
template <typename T>
inline void write_slots(T* keys, T* values, float* queries, float* normed, const T* projected, const int64_t* where,
                        const NormWeights& query_norm, const NormWeights& key_norm, const Ring& ring) {
    const int64_t frame_stride = ring.batch * ring.places * ring.heads * (2 * HEAD_DIM + VALUE_DIM);
    const int64_t waiting = ring.frames - ring.outputs, a_frame = ring.heads * HEAD_VECTORS * LANES;
    for (int64_t f = 0; f < ring.frames; ++f) {
        const T* from = projected + f * frame_stride;
        const int64_t slot = where[f * ring.where_stride];
        normalise_rows(normed, from + ring.heads * HEAD_DIM, ring.heads, key_norm, 1);
        for (int64_t head = 0; head < ring.heads; ++head) {
            T* key = keys + (head * ring.slots + slot) * HEAD_DIM;
            for (int v = 0; v < HEAD_VECTORS; ++v)
                store_part<HEAD_DIM>(key, v, load(normed + (head * HEAD_VECTORS + v) * LANES));
            std::memcpy(values + (head * ring.slots + slot) * VALUE_DIM,
                        from + 2 * ring.heads * HEAD_DIM + head * VALUE_DIM, VALUE_DIM * sizeof(T));
        }
        if (f >= waiting)
            normalise_rows(queries + (f - waiting) * a_frame, from, ring.heads, query_norm,
                           1 / std::sqrt(float(HEAD_DIM)));
    }
}

// One row's bias (heads, frames, slots) as (heads, outputs, slots) floats, each head's slots padded to whole vectors.
template <typename T> inline void load_bias(float* to, const T* from, const Ring& ring) {
    for (int64_t head = 0; head < ring.heads; ++head)
        for (int64_t f = ring.frames - ring.outputs; f < ring.frames; ++f, to += up(ring.slots))
            for (int64_t s = 0; s < ring.slots; ++s) to[s] = one(from + (head * ring.frames + f) * ring.slots + s);
}

// Every token sees the tokens at its own place in the slots' frames, its own among them: from projections (frames,
// batch, places, heads (2 HEAD_DIM + VALUE_DIM)) to (outputs, batch, places, heads VALUE_DIM). Shared out.
template <typename T>
void attend_in_time(T* out, const T* projected, T* keys, T* values, const int64_t* where, const T* bias,
                    const NormWeights& query_norm, const NormWeights& key_norm, const Ring& ring, const Team& team) {
    const int64_t stride = ring.heads * (2 * HEAD_DIM + VALUE_DIM), out_stride = ring.heads * VALUE_DIM;
    const int64_t tokens = ring.batch * ring.places, columns = up(ring.slots), seen = ring.heads * ring.outputs;
    const int64_t a_frame = ring.heads * HEAD_VECTORS * LANES;
    static thread_local std::vector<float> memory;  // grows once
    memory.resize(seen * (2 * columns + 1) + (ring.outputs + 1) * a_frame);
    float *scores = memory.data(), *own_bias = scores + seen * columns, *totals = own_bias + seen * columns;
    float *normed = totals + seen, *queries = normed + a_frame;
    int64_t bias_row = -1;
    for (int64_t token = team.first(tokens); token < team.last(tokens); ++token) {
        const int64_t row = token / ring.places, start = token * ring.heads * ring.slots;
        write_slots(keys + start * HEAD_DIM, values + start * VALUE_DIM, queries, normed, projected + token * stride,
                    where + row, query_norm, key_norm, ring);
        const int64_t wanted = ring.bias_rows > 1 ? row : 0;
        if (wanted != bias_row) load_bias(own_bias, bias + wanted * ring.heads * ring.frames * ring.slots, ring);
        bias_row = wanted;
        // One thing for all heads after the other: what waits in one head goes on in the next.
        for (int64_t head = 0; head < ring.heads; ++head)
            for (int64_t f = 0; f < ring.outputs; ++f)
                score_slots(scores + (head * ring.outputs + f) * columns,
                            queries + f * a_frame + head * HEAD_VECTORS * LANES,
                            keys + (start + head * ring.slots) * HEAD_DIM,
                            own_bias + (head * ring.outputs + f) * columns, ring.slots);
        for (int64_t i = 0; i < seen; ++i) totals[i] = exponentiate(scores + i * columns, ring.slots, columns);
        for (int64_t head = 0; head < ring.heads; ++head)
            for (int64_t f = 0; f < ring.outputs; ++f)
                mix_slots(out + (f * tokens + token) * out_stride + head * VALUE_DIM,
                          scores + (head * ring.outputs + f) * columns, totals[head * ring.outputs + f],
                          values + (start + head * ring.slots) * VALUE_DIM, ring.slots);
    }
    team.wait();
}

}  // namespace
