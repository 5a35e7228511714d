// Residual sums with their LayerNorm, GELU, and MaskGIT's draw from logits; kernels.py says what each computes.
//
// Tensors are contiguous, of float (kind 0) or bfloat16 (kind 1); arithmetic is in float. Every row of a result is
// computed by itself, in an order that hangs on nothing but its own sizes: neither threads nor batch change a bit.

#include "vectors.h"

namespace {

template <typename T>
void add_norm(T* sums, T* normed, const T* features, const T* addend, const T* weight, const T* bias, float epsilon,
              int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
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
        const float shrink = 1 / std::sqrt(sum_lanes(squares) / width + epsilon);
        for (int64_t i = 0; i < width; i += LANES)
            store(normed + row * width + i, (load(from + i) - mean) * shrink * load(weight + i) + load(bias + i));
    }
}

template <typename T> void gelu(T* features, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES) {
        const Vector x = load(features + i);
        const Vector inner = x * (1 + x * x * 0.044715f) * -1.59576912f;
        store(features + i, x / (1 + exponential(larger(-larger(-inner, fill(-80)), fill(-80)))));
    }
}

template <typename T>
void draw(int64_t* tokens, float* log_shares, const T* logits, const float* uniforms, float temperature, int64_t rows,
          int64_t codes, int threads) {
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<float> scratch;
        const int64_t columns = up(codes);
        scratch.resize(columns);
        float* shares = scratch.data();
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; ++row) {
            const T* own = logits + row * codes;
            int64_t i = 0;
            for (; i + LANES <= codes; i += LANES) store(shares + i, load(own + i) / temperature);
            if (i < codes) store(shares + i, load_some(own + i, codes - i) / temperature);
            const float total = exponentiate(shares, codes, columns), wanted = uniforms[row] * total;
            int64_t block = 0;
            float before = 0, here = sum_lanes(load(shares));
            while (block + LANES < columns && !(before + here > wanted)) {
                before += here;
                block += LANES;
                here = sum_lanes(load(shares + block));
            }
            int64_t token = block;
            const int64_t last = (block + LANES < codes ? block + LANES : codes) - 1;
            while (token < last && !((before += shares[token]) > wanted)) ++token;
            tokens[row] = token;
            const float share = shares[token] / total;
            log_shares[row] = std::log(share > 1e-30f ? share : 1e-30f);
        }
    }
}

}  // namespace

extern "C" {

void genie_add_norm(int kind, void* sums, void* normed, const void* features, const void* addend, const void* weight,
                    const void* bias, float epsilon, int64_t rows, int64_t width, int threads) {
    FOR_KIND(add_norm((T*)sums, (T*)normed, (const T*)features, (const T*)addend, (const T*)weight, (const T*)bias,
                      epsilon, rows, width, threads))
}

void genie_gelu(int kind, void* features, int64_t count, int threads) {
    FOR_KIND(gelu((T*)features, count, threads))
}

void genie_draw(int kind, int64_t* tokens, float* log_shares, const void* logits, const float* uniforms,
                float temperature, int64_t rows, int64_t codes, int threads) {
    FOR_KIND(draw(tokens, log_shares, (const T*)logits, uniforms, temperature, rows, codes, threads))
}
}
