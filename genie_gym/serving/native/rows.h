// Functions of single rows of features: residual sums with LayerNorm, GELU, and drawing tokens from logits.
//
// A function that takes a Team is called by all its threads, which share its tasks. The order of a row's arithmetic
// depends on the row's size alone.
#pragma once

#include "threads.h"
#include "vectors.h"

struct NormWeights {
    const float *weight, *bias;
    float epsilon;
};

namespace {

// Compute sums = features + addend and normed = LayerNorm(sums), with weights norm_of(row). Without an addend the
// features themselves are normalised and `sums` is not written. `sums` may be `features`.
template <typename T, typename NormOf>
void add_norms(T* sums, T* normed, const T* features, const T* addend, const NormOf& norm_of, int64_t rows,
               int64_t width, const Team& team) {
    team.share(rows, [&](int64_t row) {
        const NormWeights norm = norm_of(row);
        const T* from = features + row * width;
        if (addend) {
            for (int64_t i = 0; i < width; i += LANES)
                store(sums + row * width + i, load(from + i) + load(addend + row * width + i));
            from = sums + row * width;
        }
        Vector total{};
        for (int64_t i = 0; i < width; i += LANES) total += load(from + i);
        const float mean = sum_lanes(total) / width;
        Vector squares{};
        for (int64_t i = 0; i < width; i += LANES) {
            const Vector centred = load(from + i) - mean;
            squares += centred * centred;
        }
        const float inverse_std = 1 / std::sqrt(sum_lanes(squares) / width + norm.epsilon);
        for (int64_t i = 0; i < width; i += LANES)
            store(normed + row * width + i, (load(from + i) - mean) * inverse_std * load(norm.weight + i) +
                                              load(norm.bias + i));
    });
}

template <typename T>
void add_norm(T* sums, T* normed, const T* features, const T* addend, const NormWeights& norm, int64_t rows,
              int64_t width, const Team& team) {
    add_norms(sums, normed, features, addend, [&](int64_t) { return norm; }, rows, width, team);
}

// Tanh-GELU: x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline Vector gelu(Vector x) {
    const Vector power = x * (1 + x * x * 0.044715f) * -1.59576912f;
    const Vector inside = power > fill(80) ? fill(80) : power;
    return (x < fill(-30) ? fill(-30) : x) / (1 + exponential(inside));
}

// Draw each row's token: invert the cumulative distribution of softmax(logits / temperature) at its uniform number.
template <typename T>
void draw(int64_t* tokens, float* log_probabilities, const T* logits, const float* uniforms, float temperature,
          int64_t rows, int64_t codes, const Team& team) {
    static thread_local std::vector<float> scratch;
    const int64_t columns = round_up(codes);
    scratch.resize(columns);
    float* probabilities = scratch.data();  // not divided by `total`
    team.share(rows, [&](int64_t row) {
        const T* own = logits + row * codes;
        int64_t i = 0;
        for (; i + LANES <= codes; i += LANES) store(probabilities + i, load(own + i) / temperature);
        if (i < codes) store(probabilities + i, load_some(own + i, codes - i) / temperature);
        const float total = exponentiate(probabilities, codes, columns), wanted = uniforms[row] * total;
        int64_t block = 0;
        float before = 0, here = sum_lanes(load(probabilities));
        while (block + LANES < columns && !(before + here > wanted)) {
            before += here;
            block += LANES;
            here = sum_lanes(load(probabilities + block));
        }
        int64_t token = block;
        const int64_t last = (block + LANES < codes ? block + LANES : codes) - 1;
        while (token < last && !((before += probabilities[token]) > wanted)) ++token;
        tokens[row] = token;
        const float probability = probabilities[token] / total;
        log_probabilities[row] = std::log(probability < 1e-30f ? 1e-30f : probability);  // this order keeps a NaN
    });
}

}  // namespace
