// Attention in space, and in time with a ring of slots, from projected features on: QK-norm, softmax, mixed values.
//
// Compiled with HEAD_DIM and VALUE_DIM, the features of a head's queries and keys, and of its values. Loops are shared
// out among a team as in rows.h.
#pragma once

#include "rows.h"

namespace {

constexpr int HEAD_VECTORS = up(HEAD_DIM) / LANES, VALUE_VECTORS = up(VALUE_DIM) / LANES;

inline Vector inverse_root(Vector x) {
#ifdef __AVX512F__  // which GCC 12 makes of the loop only sometimes
    return 1 / same_bits<Vector>(_mm512_sqrt_ps(same_bits<__m512>(x)));
#else
    Vector roots;
    for (int lane = 0; lane < LANES; ++lane) roots[lane] = std::sqrt(x[lane]);
    return 1 / roots;
#endif
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
    for (int d = 0; d < HEAD_DIM; ++d)
        store(to + d * to_stride, ((features[d] - mean) * shrink * norm.weight[d] + norm.bias[d]) * scale);
}

// A LayerNorm whose result is multiplied by `scale`.
struct Normalised {
    const NormWeights* norm;
    float scale;
};

// The LayerNorms of `rows` rows that follow one another, as [row][feature]; from row number `half` on with `other`.
// Both have the same epsilon.
template <typename T>
inline void normalise_rows(float* to, const T* from, int64_t rows, int64_t half, Normalised one, Normalised other) {
    for (int64_t first = 0; first < rows; first += LANES) {
        Vector sums[LANES], squares[LANES];
        const int count = rows - first < LANES ? int(rows - first) : LANES;
        for (int row = 0; row < LANES; ++row) {
            sums[row] = squares[row] = Vector{};
            if (row < count)
                for (int v = 0; v < HEAD_VECTORS; ++v)
                    sums[row] += load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v);
        }
        float means[LANES], shrinks[LANES];
        store(means, sum_each(sums) / HEAD_DIM);
        for (int row = 0; row < count; ++row)
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), means[row], v);
                squares[row] += centred * centred;
            }
        const Vector spread = sum_each(squares) / HEAD_DIM;
        store(shrinks, inverse_root(spread + one.norm->epsilon));
        for (int row = 0; row < count; ++row) {
            const Normalised& own = first + row < half ? one : other;
            for (int v = 0; v < HEAD_VECTORS; ++v) {
                const Vector centred = centre(load_part<HEAD_DIM>(from + (first + row) * HEAD_DIM, v), means[row], v);
                const Vector weight = load_part<HEAD_DIM>(own.norm->weight, v);
                const Vector bias = load_part<HEAD_DIM>(own.norm->bias, v);
                store(to + ((first + row) * HEAD_VECTORS + v) * LANES,
                      (centred * shrinks[row] * weight + bias) * own.scale);
            }
        }
    }
}

// Queries of a frame that are multiplied at once, and vectors of their products: as many as registers hold.
constexpr int ROWS = LANES == 16 ? 8 : 4, WIDE = 2;

// scores[row][:] of COUNT queries against COLUMNS vectors of keys; queries and keys are [feature][token].
template <int COUNT, int COLUMNS>
inline void multiply_queries(float* scores, const float* queries, const float* keys, int64_t columns) {
    Vector sums[COUNT][COLUMNS] = {};
    for (int d = 0; d < HEAD_DIM; ++d) {
        Vector own[COLUMNS];
        for (int c = 0; c < COLUMNS; ++c) own[c] = hold(load(keys + d * columns + c * LANES));
        for (int row = 0; row < COUNT; ++row)
            for (int c = 0; c < COLUMNS; ++c)
                sums[row][c] = add_product(sums[row][c], queries[d * columns + row], own[c]);
    }
    for (int row = 0; row < COUNT; ++row)
        for (int c = 0; c < COLUMNS; ++c) store(scores + row * columns + c * LANES, sums[row][c]);
}

// out[row][:] of COUNT rows of shares, VECTORS vectors of the values from number `first` on.
template <int COUNT, int VECTORS, typename T>
inline void mix_values(T* out, int64_t out_stride, const float* shares, const float* scales, const float* values,
                       int64_t places, int64_t columns, int first) {
    Vector sums[COUNT][VECTORS] = {};
    for (int64_t j = 0; j < places; ++j) {
        Vector own[VECTORS];
        for (int v = 0; v < VECTORS; ++v) own[v] = hold(load(values + (j * VALUE_VECTORS + first + v) * LANES));
        for (int row = 0; row < COUNT; ++row)
            for (int v = 0; v < VECTORS; ++v)
                sums[row][v] = add_product(sums[row][v], shares[row * columns + j], own[v]);
    }
    for (int row = 0; row < COUNT; ++row)
        for (int v = 0; v < VECTORS; ++v)
            store_part<VALUE_DIM>(out + row * out_stride, first + v, sums[row][v] * scales[row]);
}

template <int COUNT, typename T>
inline void mix_rows(T* out, int64_t out_stride, const float* shares, const float* scales, const float* values,
                     int64_t places, int64_t columns) {
    int v = 0;
    for (; v + WIDE <= VALUE_VECTORS; v += WIDE)
        mix_values<COUNT, WIDE>(out, out_stride, shares, scales, values, places, columns, v);
    for (; v < VALUE_VECTORS; ++v)
        mix_values<COUNT, 1>(out, out_stride, shares, scales, values, places, columns, v);
}

// A thread's room for a frame of one head.
struct Scratch {
    Scratch(int64_t places) : columns(up(places)) {
        static thread_local std::vector<float> memory;  // grows once
        memory.resize(columns * (2 * HEAD_VECTORS + VALUE_VECTORS) * LANES + LANES * columns);
        queries = memory.data();
        keys = queries + columns * HEAD_VECTORS * LANES;
        values = keys + columns * HEAD_VECTORS * LANES;
        scores = values + columns * VALUE_VECTORS * LANES;
    }
    int64_t columns;
    float *queries, *keys, *values, *scores;
};

// LANES queries from number `first` on; those behind the last place are computed and not stored.
template <typename T>
inline void attend_rows(T* out, int64_t out_stride, const Scratch& scratch, int64_t first, int64_t places) {
    const int64_t columns = scratch.columns;
    for (int row = 0; row < LANES; row += ROWS) {
        const float* queries = scratch.queries + first + row;
        float* scores = scratch.scores + row * columns;
        int64_t j = 0;
        for (; j + WIDE * LANES <= columns; j += WIDE * LANES)
            multiply_queries<ROWS, WIDE>(scores + j, queries, scratch.keys + j, columns);
        for (; j < columns; j += LANES) multiply_queries<ROWS, 1>(scores + j, queries, scratch.keys + j, columns);
    }
    float scales[LANES];
    store(scales, 1 / exponentiate_rows(scratch.scores, places, columns));
    const int64_t count = std::min<int64_t>(LANES, places - first);
    int64_t row = 0;
    for (; row + ROWS <= count; row += ROWS)
        mix_rows<ROWS>(out + (first + row) * out_stride, out_stride, scratch.scores + row * columns, scales + row,
                       scratch.values, places, columns);
    for (; row < count; ++row)
        mix_rows<1>(out + (first + row) * out_stride, out_stride, scratch.scores + row * columns, scales + row,
                    scratch.values, places, columns);
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
        for (int64_t i = 0; i < places; i += LANES) attend_rows(to, out_stride, scratch, i, places);
    }
    team.wait();
}

// The products of COUNT queries' features with those of the key in a slot, still to be added up.
template <int COUNT, typename T>
inline void multiply_slot(Vector (&products)[COUNT], const float* queries, int64_t query_stride, const T* key) {
    for (int f = 0; f < COUNT; ++f) products[f] = Vector{};
    for (int v = 0; v < HEAD_VECTORS; ++v) {
        const Vector features = load_part<HEAD_DIM>(key, v);
        for (int f = 0; f < COUNT; ++f)
            products[f] = add_product(products[f], load(queries + f * query_stride + v * LANES), features);
    }
}

// Scores of COUNT frames' queries of one head against its slots, but for a single last one of LANES.
template <int COUNT, typename T>
inline void score_slots(float* scores, const float* queries, int64_t query_stride, const T* keys, const float* bias,
                        int64_t slots, int64_t columns) {
    for (int64_t first = 0; first < slots && !(first > 0 && first + 1 == slots); first += LANES) {
        Vector products[COUNT][LANES];
        for (int s = 0; s < LANES; ++s) {
            Vector own[COUNT] = {};
            if (first + s < slots) multiply_slot(own, queries, query_stride, keys + (first + s) * HEAD_DIM);
            for (int f = 0; f < COUNT; ++f) products[f][s] = own[f];
        }
        for (int f = 0; f < COUNT; ++f)
            store(scores + f * columns + first, sum_each(products[f]) + load(bias + f * columns + first));
    }
}

// The mixed values of COUNT frames' queries of one head.
template <int COUNT, typename T>
inline void mix_slots(T* out, int64_t out_stride, const float* shares, const float* scales, const T* values,
                      int64_t slots, int64_t columns) {
    Vector sums[COUNT][VALUE_VECTORS] = {};
    for (int64_t s = 0; s < slots; ++s)
        for (int v = 0; v < VALUE_VECTORS; ++v) {
            const Vector own = load_part<VALUE_DIM>(values + s * VALUE_DIM, v);
            for (int f = 0; f < COUNT; ++f) sums[f][v] = add_product(sums[f][v], shares[f * columns + s], own);
        }
    for (int f = 0; f < COUNT; ++f)
        for (int v = 0; v < VALUE_VECTORS; ++v)
            store_part<VALUE_DIM>(out + f * out_stride, v, sums[f][v] * scales[f]);
}

// Where new frames of some rows go and what they see.
struct Ring {
    int64_t frames, batch, places, heads, slots;
    int64_t outputs;       // how many of the last frames attend
    int64_t where_stride;  // of `where`, from frame to frame
    int64_t bias_rows;     // 1 for a bias of all rows
};

// The new frames' keys and values of one token go into its slots. `normed` holds each frame's queries and keys,
// (frames, 2 heads, whole vectors).
template <typename T>
inline void write_slots(T* keys, T* values, float* normed, const T* projected, const int64_t* where,
                        const NormWeights& query_norm, const NormWeights& key_norm, const Ring& ring) {
    const int64_t frame_stride = ring.batch * ring.places * ring.heads * (2 * HEAD_DIM + VALUE_DIM);
    const int64_t a_frame = 2 * ring.heads * HEAD_VECTORS * LANES;
    for (int64_t f = 0; f < ring.frames; ++f) {
        const T* from = projected + f * frame_stride;
        const int64_t slot = where[f * ring.where_stride];
        normalise_rows(normed + f * a_frame, from, 2 * ring.heads, ring.heads,
                       {&query_norm, 1 / std::sqrt(float(HEAD_DIM))}, {&key_norm, 1});
        const float* own = normed + f * a_frame + a_frame / 2;
        for (int64_t head = 0; head < ring.heads; ++head) {
            T* key = keys + (head * ring.slots + slot) * HEAD_DIM;
            for (int v = 0; v < HEAD_VECTORS; ++v)
                store_part<HEAD_DIM>(key, v, load(own + (head * HEAD_VECTORS + v) * LANES));
            std::memcpy(values + (head * ring.slots + slot) * VALUE_DIM,
                        from + 2 * ring.heads * HEAD_DIM + head * VALUE_DIM, VALUE_DIM * sizeof(T));
        }
    }
}

// A thread's room for one token: a row for each head and frame that attends, of `columns`.
struct SlotScratch {
    SlotScratch(const Ring& ring) : columns(up(ring.slots)), rows(ring.heads * ring.outputs) {
        static thread_local std::vector<float> memory;  // grows once
        memory.resize(up(rows) * (2 * columns + 1) + 2 * ring.frames * ring.heads * HEAD_VECTORS * LANES);
        scores = memory.data();
        bias = scores + up(rows) * columns;
        scales = bias + up(rows) * columns;
        normed = scales + up(rows);
    }
    int64_t columns, rows;
    float *scores, *bias, *scales, *normed;
};

// The last slot's scores of LANES rows: with 17 slots it would have a whole vector for itself in each.
template <typename T>
inline void score_last_slot(const SlotScratch& scratch, const float* queries, const T* keys, int64_t first,
                            const Ring& ring) {
    const int64_t a_frame = 2 * ring.heads * HEAD_VECTORS * LANES, last = ring.slots - 1;
    Vector products[LANES] = {};
    const int64_t count = std::min<int64_t>(LANES, scratch.rows - first);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t head = (first + i) / ring.outputs, f = (first + i) % ring.outputs;
        Vector own[1];
        multiply_slot(own, queries + f * a_frame + head * HEAD_VECTORS * LANES, a_frame,
                      keys + (head * ring.slots + last) * HEAD_DIM);
        products[i] = own[0];
    }
    float sums[LANES];
    store(sums, sum_each(products));
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = (first + i) * scratch.columns + last;
        scratch.scores[at] = sums[i] + scratch.bias[at];
    }
}

// One token's queries, COUNT frames of them, against its slots.
template <int COUNT, typename T>
inline void attend_to_slots(T* out, int64_t out_stride, const SlotScratch& scratch, const T* keys, const T* values,
                            const Ring& ring) {
    const int64_t columns = scratch.columns, a_frame = 2 * ring.heads * HEAD_VECTORS * LANES;
    const float* queries = scratch.normed + (ring.frames - ring.outputs) * a_frame;
    for (int64_t row = 0; row < scratch.rows; row += COUNT) {
        const int64_t head = row / ring.outputs;
        score_slots<COUNT>(scratch.scores + row * columns,
                           queries + row % ring.outputs * a_frame + head * HEAD_VECTORS * LANES, a_frame,
                           keys + head * ring.slots * HEAD_DIM, scratch.bias + row * columns, ring.slots, columns);
    }
    for (int64_t first = 0; first < scratch.rows; first += LANES) {
        if (ring.slots > 1 && ring.slots % LANES == 1) score_last_slot(scratch, queries, keys, first, ring);
        store(scratch.scales + first, 1 / exponentiate_rows(scratch.scores + first * columns, ring.slots, columns));
    }
    for (int64_t row = 0; row < scratch.rows; row += COUNT) {
        const int64_t head = row / ring.outputs, f = row % ring.outputs;
        mix_slots<COUNT>(out + f * out_stride + head * VALUE_DIM, out_stride, scratch.scores + row * columns,
                         scratch.scales + row, values + head * ring.slots * VALUE_DIM, ring.slots, columns);
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
    const int64_t stride = ring.heads * (2 * HEAD_DIM + VALUE_DIM), tokens = ring.batch * ring.places;
    const int64_t out_stride = tokens * ring.heads * VALUE_DIM;
    const SlotScratch scratch(ring);
    int64_t bias_row = -1;
    for (int64_t token = team.first(tokens); token < team.last(tokens); ++token) {
        const int64_t row = token / ring.places, start = token * ring.heads * ring.slots;
        T *own_keys = keys + start * HEAD_DIM, *own_values = values + start * VALUE_DIM;
        write_slots(own_keys, own_values, scratch.normed, projected + token * stride, where + row, query_norm, key_norm,
                    ring);
        const int64_t wanted = ring.bias_rows > 1 ? row : 0;
        if (wanted != bias_row) load_bias(scratch.bias, bias + wanted * ring.heads * ring.frames * ring.slots, ring);
        bias_row = wanted;
        T* to = out + token * ring.heads * VALUE_DIM;
        if (ring.outputs == 2) attend_to_slots<2>(to, out_stride, scratch, own_keys, own_values, ring);
        else attend_to_slots<1>(to, out_stride, scratch, own_keys, own_values, ring);
    }
    team.wait();
}

}  // namespace
