// Convolutions of 3 x 3 with a border of zeros, of pictures (number, rows, columns, channels) of floats, by Winograd's
// minimal filtering F(4 x 4, 3 x 3) as in arXiv 1509.09308, whose names for the matrices these are: A^T [U (B^T d B)] A
// for each square of 4 x 4 outputs takes 36 products where sums as they are defined take 144.
//
// winograd.py transforms weights, U = G g G^T, and packs them.

#include "matmul.h"

extern "C" {

struct Pictures {
    int64_t number, rows, columns, inputs, outputs;  // the last two are channels, of whole vectors
};
}

namespace {

constexpr int SIDE = 4, POINTS = SIDE + 2, SQUARE = POINTS * POINTS;
constexpr int64_t TILES = 16;  // squares of outputs that a thread takes at once: all they need stays in its cache
constexpr int WIDE = 2;        // vectors of a panel of transformed weights
constexpr int ROWS = TILE;     // squares whose sums are kept in registers

// B^T d.
inline void transform_input(Vector (&out)[POINTS], const Vector (&d)[POINTS]) {
    const Vector even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], near = d[4] - d[2], far = 2 * (d[3] - d[1]);
    out[0] = 4 * d[0] - 5 * d[2] + d[4];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = near + far;
    out[4] = near - far;
    out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

// A^T m.
inline void transform_output(Vector (&out)[SIDE], const Vector (&m)[POINTS]) {
    const Vector sum = m[1] + m[2], difference = m[1] - m[2], far_sum = m[3] + m[4], far = m[3] - m[4];
    out[0] = m[0] + sum + far_sum;
    out[1] = difference + 2 * far;
    out[2] = sum + 4 * far_sum;
    out[3] = difference + 8 * far + m[5];
}

// A g: how the products change the outputs, turned round.
inline void transform_gradient(Vector (&out)[POINTS], const Vector (&g)[SIDE]) {
    const Vector even = g[0] + g[2], odd = g[1] + g[3], far_even = g[0] + 4 * g[2], far_odd = 2 * g[1] + 8 * g[3];
    out[0] = g[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = far_even + far_odd;
    out[4] = far_even - far_odd;
    out[5] = g[3];
}

// `line` along both sides of a square, whose vectors `read` and `write` fetch and take away.
template <int FROM, int TO, typename Line, typename Read, typename Write>
__attribute__((always_inline)) inline void transform_square(const Line& line, const Read& read, const Write& write) {
    Vector half[TO][FROM];
#pragma GCC unroll 6
    for (int row = 0; row < FROM; ++row) {
        Vector along[FROM], across[TO];
#pragma GCC unroll 6
        for (int j = 0; j < FROM; ++j) along[j] = read(row, j);
        line(across, along);
#pragma GCC unroll 6
        for (int i = 0; i < TO; ++i) half[i][row] = across[i];
    }
#pragma GCC unroll 6
    for (int column = 0; column < TO; ++column) {
        Vector down[TO];
        line(down, half[column]);
#pragma GCC unroll 6
        for (int i = 0; i < TO; ++i) write(i, column, down[i]);
    }
}

// The squares of outputs of all pictures, row by row, one picture after the other.
struct Tiling {
    explicit Tiling(const Pictures& pictures)
        : pictures(pictures), across((pictures.columns + SIDE - 1) / SIDE),
          each(across * ((pictures.rows + SIDE - 1) / SIDE)), count(pictures.number * each) {}

    // Where COUNT x COUNT pixels lie that begin `before` above and to the left of a square; `outside` for those that
    // are in no picture.
    template <int COUNT, typename Float>
    void find(Float* (&pixels)[COUNT][COUNT], int64_t tile, int before, Float* from, Float* outside,
              int64_t channels) const {
        const int64_t place = tile % each, top = place / across * SIDE - before, left = place % across * SIDE - before;
        from += tile / each * pictures.rows * pictures.columns * channels;
        for (int i = 0; i < COUNT; ++i)
            for (int j = 0; j < COUNT; ++j) {
                const int64_t row = top + i, column = left + j;
                const bool is_inside = row >= 0 && row < pictures.rows && column >= 0 && column < pictures.columns;
                pixels[i][j] = is_inside ? from + (row * pictures.columns + column) * channels : outside;
            }
    }

    const Pictures& pictures;
    const int64_t across, each, count;
};

// Transformed squares of a thread: [point][square][channel], with a gap after each point, without which a square's
// points would all lie in the same few lines of the cache.
struct Points {
    explicit Points(int64_t channels) : channels(channels), stride(TILES * channels + 16), values(SQUARE * stride) {}
    float* at(int point, int64_t square = 0) { return values.data() + point * stride + square * channels; }
    const int64_t channels, stride;
    std::vector<float> values;
};

template <int COUNT, typename Line>
void transform_tiles(Points& points, const float* from, int before, const Tiling& tiling, int64_t first, int64_t count,
                     const float* zeros, const Line& line) {
    for (int64_t t = 0; t < count; ++t) {
        const float* pixels[COUNT][COUNT];
        tiling.find(pixels, first + t, before, from, zeros, points.channels);
        for (int64_t c = 0; c < points.channels; c += LANES)
            transform_square<COUNT, POINTS>(
                line, [&](int i, int j) { return load(pixels[i][j] + c); },
                [&](int i, int j, Vector point) { store(points.at(i * POINTS + j, t) + c, point); });
    }
}

void transform_inputs(Points& points, const float* pictures, const Tiling& tiling, int64_t first, int64_t count,
                      const float* zeros) {
    transform_tiles<POINTS>(points, pictures, 1, tiling, first, count, zeros,
                            [](Vector (&out)[POINTS], const Vector (&in)[POINTS]) { transform_input(out, in); });
}

void transform_gradients(Points& points, const float* gradients, const Tiling& tiling, int64_t first, int64_t count,
                         const float* zeros) {
    transform_tiles<SIDE>(points, gradients, 0, tiling, first, count, zeros,
                          [](Vector (&out)[POINTS], const Vector (&in)[SIDE]) { transform_gradient(out, in); });
}

// products[point] = points[point] weights[point], of COLUMNS vectors of outputs.
template <int COLUMNS>
void multiply_points(Points& products, Points& points, const float* weights, int64_t output, int64_t count) {
    for (int point = 0; point < SQUARE; ++point, weights += points.channels * COLUMNS * LANES)
        for (int64_t t = 0; t < count; t += ROWS) {
            Vector sums[ROWS][COLUMNS] = {};
            accumulate(sums, points.at(point, t), weights, points.channels);
            for (int row = 0; row < ROWS; ++row)
                for (int c = 0; c < COLUMNS; ++c)
                    store(products.at(point, t + row) + output + c * LANES, sums[row][c]);
        }
}

void multiply_points(Points& products, Points& points, const float* weights, int64_t count) {
    int64_t output = 0;
    for (; output + WIDE * LANES <= products.channels; output += WIDE * LANES)
        multiply_points<WIDE>(products, points, weights + SQUARE * points.channels * output, output, count);
    for (; output < products.channels; output += LANES)
        multiply_points<1>(products, points, weights + SQUARE * points.channels * output, output, count);
}

void store_outputs(float* out, Points& products, const float* bias, const Tiling& tiling, int64_t first,
                   int64_t count) {
    for (int64_t t = 0; t < count; ++t) {
        float* pixels[SIDE][SIDE];
        tiling.find<SIDE, float>(pixels, first + t, 0, out, nullptr, products.channels);
        for (int64_t c = 0; c < products.channels; c += LANES)
            transform_square<POINTS, SIDE>(
                [](Vector (&to)[SIDE], const Vector (&in)[POINTS]) { transform_output(to, in); },
                [&](int i, int j) { return load(products.at(i * POINTS + j, t) + c); },
                [&](int i, int j, Vector sum) {
                    if (pixels[i][j]) store(pixels[i][j] + c, sum + load(bias + c));
                });
    }
}

// Adds to weights[point][input][output] the products of COLUMNS vectors of gradients with all inputs.
template <int COLUMNS>
void add_weights(float* weights, Points& points, Points& gradients, int64_t output, int64_t count) {
    for (int point = 0; point < SQUARE; ++point)
        for (int64_t input = 0; input < points.channels; input += ROWS) {
            float* own = weights + (point * points.channels + input) * gradients.channels + output;
            Vector sums[ROWS][COLUMNS];
            for (int row = 0; row < ROWS; ++row)
                for (int c = 0; c < COLUMNS; ++c) sums[row][c] = load(own + row * gradients.channels + c * LANES);
            for (int64_t t = 0; t < count; ++t) {
                Vector wanted[COLUMNS];
                for (int c = 0; c < COLUMNS; ++c) wanted[c] = hold(load(gradients.at(point, t) + output + c * LANES));
                for (int row = 0; row < ROWS; ++row)
                    for (int c = 0; c < COLUMNS; ++c)
                        sums[row][c] = add_product(sums[row][c], points.at(point, t)[input + row], wanted[c]);
            }
            for (int row = 0; row < ROWS; ++row)
                for (int c = 0; c < COLUMNS; ++c) store(own + row * gradients.channels + c * LANES, sums[row][c]);
        }
}

// Asks for the memory of `count` squares of outputs from number `first` on, while there is something else to do.
template <bool IS_WRITTEN>
void prefetch(const float* pictures, const Tiling& tiling, int64_t first, int64_t count, int64_t channels) {
    const int64_t all = tiling.pictures.number * tiling.pictures.rows * tiling.pictures.columns;
    const int64_t last = std::min((first + count) * SIDE * SIDE, all) * channels;
    for (int64_t i = first * SIDE * SIDE * channels; i < last; i += 16) __builtin_prefetch(pictures + i, IS_WRITTEN, 2);
}

// Calls `work(first, count)` for a thread's share of the squares.
template <typename Work> void share_out(const Tiling& tiling, const Team& team, const Work& work) {
    const int64_t chunks = (tiling.count + TILES - 1) / TILES;
    for (int64_t chunk = team.first(chunks); chunk < team.last(chunks); ++chunk)
        work(chunk * TILES, std::min(TILES, tiling.count - chunk * TILES));
}

}  // namespace

extern "C" {

int genie_lanes() { return LANES; }

int genie_wide() { return WIDE; }

// `weights` are transformed, in panels of WIDE vectors of outputs: [panel][point][input][output]. `bias` may be null.
void genie_convolve(float* out, const float* pictures, const float* weights, const float* bias, Pictures sizes,
                    int threads) {
    const Tiling tiling(sizes);
    const std::vector<float> zeros(std::max(sizes.inputs, sizes.outputs));
#pragma omp parallel num_threads(threads)
    {
        Points points(sizes.inputs), products(sizes.outputs);
        share_out(tiling, everyone(), [&](int64_t first, int64_t count) {
            transform_inputs(points, pictures, tiling, first, count, zeros.data());
            prefetch<false>(pictures, tiling, first + TILES, TILES, sizes.inputs);
            prefetch<true>(out, tiling, first, TILES, sizes.outputs);
            multiply_points(products, points, weights, count);
            store_outputs(out, products, bias ? bias : zeros.data(), tiling, first, count);
        });
    }
}

// Adds the gradients of transformed weights to (threads, SQUARE, inputs, outputs), each thread to its own.
void genie_convolve_weights(float* weights, const float* pictures, const float* gradients, Pictures sizes,
                            int threads) {
    const Tiling tiling(sizes);
    const std::vector<float> zeros(std::max(sizes.inputs, sizes.outputs));
#pragma omp parallel num_threads(threads)
    {
        Points points(sizes.inputs), wanted(sizes.outputs);
        const Team team = everyone();
        float* own = weights + team.number * SQUARE * sizes.inputs * sizes.outputs;
        share_out(tiling, team, [&](int64_t first, int64_t count) {
            transform_inputs(points, pictures, tiling, first, count, zeros.data());
            transform_gradients(wanted, gradients, tiling, first, count, zeros.data());
            prefetch<false>(pictures, tiling, first + TILES, TILES, sizes.inputs);
            prefetch<false>(gradients, tiling, first + TILES, TILES, sizes.outputs);
            int64_t output = 0;
            for (; output + WIDE * LANES <= sizes.outputs; output += WIDE * LANES)
                add_weights<WIDE>(own, points, wanted, output, count);
            for (; output < sizes.outputs; output += LANES) add_weights<1>(own, points, wanted, output, count);
        });
    }
}
}
