// The library for transformers of one head size, for ctypes: the attentions (kernels.py documents them), and a cached
// step of a whole ST-transformer (step_kernel.py).

#include "attention.h"
#include "laps.h"
#include "products.h"

extern "C" {

struct AttentionWeights {
    NormWeights norm, query_norm, key_norm;
    PackedWeights project_in, project_out;
};

struct BlockWeights {
    AttentionWeights spatial, causal;
    NormWeights forward_norm;
    PackedWeights expand, contract;
};

struct BlockMemory {
    void *keys, *values;         // KV cache: (batch, positions, heads, cache_frames, features of a head)
    const void* bias;            // (bias_rows, heads, frames, cache_frames), added to the scores
    const float* forward_norms;  // with FiLM (frames, batch, 2, width): weight and bias of the norm of the feed-forward
};

struct StepSizes {
    int64_t frames, batch, positions, width, heads, cache_frames, bias_rows, blocks;
    int64_t chunk;  // rows that pass all blocks together, to stay in the processor's caches
};
}

namespace {

// A thread's or a team's memory for features between the parts of a block.
template <typename T> struct Buffers {
    Buffers(int64_t tokens, const StepSizes& sizes, const BlockWeights& block) {
        const int64_t widths[] = {sizes.width, sizes.width, sizes.width, sizes.heads * VALUE_DIM,
                                  std::max(block.causal.project_in.outputs, block.expand.outputs)};
        int64_t total = SPARE_ROWS * *std::max_element(widths, widths + 5);
        for (int64_t width : widths) total += tokens * width;
        static thread_local std::vector<T> memory;  // allocated once per thread
        if (int64_t(memory.size()) < total) memory.resize(total);
        T* next = memory.data();
        T** parts[] = {&features, &normed, &addend, &mixed, &wide};
        for (int i = 0; i < 5; next += tokens * widths[i++]) *parts[i] = next;
    }
    T *features, *normed, *addend, *mixed, *wide;
};

// Compute one block for `cache.batch` rows from row `first` on. It leaves `features` and `addend`, still to be summed,
// of the last `cache.outputs` frames, and returns their number of tokens.
template <typename T>
int64_t step_block(Buffers<T>& at, bool has_addend, const BlockWeights& block, const BlockMemory& memory,
                   int64_t first, const int64_t* indices, const StepSizes& sizes, const CacheSizes& cache,
                   const Team& team) {
    const int64_t all = cache.frames * cache.batch * cache.positions;
    const int64_t tokens = cache.outputs * cache.batch * cache.positions;
    const int64_t start = first * cache.positions * cache.heads * cache.cache_frames;
    const int64_t bias = (cache.bias_rows > 1 ? first : 0) * cache.heads * cache.frames * cache.cache_frames;
    const T* addend = has_addend ? at.addend : nullptr;
    START_LAPS();
    add_norm(at.features, at.normed, at.features, addend, block.spatial.norm, all, sizes.width, team);
    END_LAP(NORMS);
    multiply<false>(at.wide, at.normed, block.spatial.project_in, all, team);
    END_LAP(PRODUCTS);
    attend_in_space(at.mixed, at.wide, block.spatial.query_norm, block.spatial.key_norm, cache.frames * cache.batch,
                    cache.positions, cache.heads, team);
    END_LAP(SPACE);
    multiply<false>(at.addend, at.mixed, block.spatial.project_out, all, team);
    END_LAP(PRODUCTS);
    add_norm(at.features, at.normed, at.features, at.addend, block.causal.norm, all, sizes.width, team);
    END_LAP(NORMS);
    multiply<false>(at.wide, at.normed, block.causal.project_in, all, team);
    END_LAP(PRODUCTS);
    attend_in_time(at.mixed, at.wide, (T*)memory.keys + start * HEAD_DIM, (T*)memory.values + start * VALUE_DIM,
                   indices + first, (const T*)memory.bias + bias, block.causal.query_norm, block.causal.key_norm,
                   cache, team);
    END_LAP(TIME);
    multiply<false>(at.addend, at.mixed, block.causal.project_out, tokens, team);
    END_LAP(PRODUCTS);
    at.features += (all - tokens) * sizes.width;
    const auto forward_norm = [&](int64_t token) {
        if (!memory.forward_norms) return block.forward_norm;
        const int64_t row = token / cache.positions, frame = cache.frames - cache.outputs + row / cache.batch;
        const float* own = memory.forward_norms + (frame * sizes.batch + first + row % cache.batch) * 2 * sizes.width;
        return NormWeights{own, own + sizes.width, block.forward_norm.epsilon};
    };
    add_norms(at.features, at.normed, at.features, at.addend, forward_norm, tokens, sizes.width, team);
    END_LAP(NORMS);
    multiply<true>(at.wide, at.normed, block.expand, tokens, team);
    multiply<false>(at.addend, at.wide, block.contract, tokens, team);
    END_LAP(PRODUCTS);
    return tokens;
}

// Compute all blocks and the last norm for the rows of one chunk. The last block computes only the last frame.
template <typename T>
void step_rows(T* out, const T* features, Buffers<T> at, const BlockWeights* blocks, const BlockMemory* memories,
               const NormWeights& norm, const int64_t* indices, int64_t first, int64_t rows, const StepSizes& sizes,
               const Team& team) {
    const int64_t row_size = sizes.positions * sizes.width, all = sizes.frames * rows;
    START_LAPS();
    team.share(all, [&](int64_t i) {
        std::memcpy(at.features + i * row_size,
                    features + (i / rows * sizes.batch + first + i % rows) * row_size, row_size * sizeof(T));
    });
    END_LAP(COPIES);
    int64_t tokens = 0;
    for (int64_t l = 0; l < sizes.blocks; ++l) {
        const int64_t outputs = l + 1 == sizes.blocks ? 1 : sizes.frames;
        const CacheSizes cache{sizes.frames,       rows,    sizes.positions, sizes.heads,
                               sizes.cache_frames, outputs, sizes.batch,     sizes.bias_rows};
        tokens = step_block(at, l > 0, blocks[l], memories[l], first, indices, sizes, cache, team);
    }
    RESTART_LAPS();
    add_norm(at.features, out + first * row_size, at.features, at.addend, norm, tokens, sizes.width, team);
    END_LAP(NORMS);
}

// Step all rows. If they are many, a task is a chunk of rows that passes all blocks on one thread; if they are few, all
// threads share each chunk.
template <typename T>
void step(T* out, const T* features, const BlockWeights* blocks, const BlockMemory* memories, const NormWeights& norm,
          const int64_t* indices, const StepSizes& sizes, int threads) {
    const bool is_apart = sizes.batch % threads == 0 || sizes.batch >= 8 * threads;
    const int64_t most = is_apart ? (sizes.batch + threads - 1) / threads : sizes.batch;
    const int64_t chunk_rows = std::min(sizes.chunk, most), chunks = (sizes.batch + chunk_rows - 1) / chunk_rows;
    const int64_t tokens = sizes.frames * chunk_rows * sizes.positions;
    const Buffers<T> shared(tokens, sizes, *blocks);
    helpers->run(threads, [&](const Team& team) {
        const Multiplier<T> multiplier;
        const Buffers<T> own = is_apart ? Buffers<T>(tokens, sizes, *blocks) : shared;
        const auto step_chunk = [&](int64_t chunk, const Team& team) {
            const int64_t first = chunk * chunk_rows, rows = std::min(chunk_rows, sizes.batch - first);
            step_rows(out, features, own, blocks, memories, norm, indices, first, rows, sizes, team);
        };
        if (is_apart) team.share(chunks, [&](int64_t chunk) { step_chunk(chunk, Team()); });
        else for (int64_t chunk = 0; chunk < chunks; ++chunk) step_chunk(chunk, team);
    });
}

}  // namespace

extern "C" {

void genie_attend_in_space(int kind, void* out, const void* projected, const NormWeights* query_norm,
                           const NormWeights* key_norm, int64_t frames, int64_t positions, int64_t heads, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(attend_in_space((T*)out, (const T*)projected, *query_norm, *key_norm, frames, positions, heads,
                                 team))
    });
}

void genie_attend_in_time(int kind, void* out, const void* projected, void* keys, void* values, const int64_t* indices,
                          const void* bias, const NormWeights* query_norm, const NormWeights* key_norm,
                          const CacheSizes* cache, int threads) {
    helpers->run(threads, [&](const Team& team) {
        FOR_KIND(attend_in_time((T*)out, (const T*)projected, (T*)keys, (T*)values, indices, (const T*)bias, *query_norm,
                                 *key_norm, *cache, team))
    });
}

void genie_step(int kind, void* out, const void* features, const BlockWeights* blocks, const BlockMemory* memories,
                const NormWeights* norm, const int64_t* indices, const StepSizes* sizes, int threads) {
    START_LAPS();
    FOR_KIND(step((T*)out, (const T*)features, blocks, memories, *norm, indices, *sizes, threads))
    END_LAP(CALLS);
}
}
