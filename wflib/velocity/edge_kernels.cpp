// Relational attention along edges and updates of edges, in single precision: what edge_kernels.py calls.
//
// One network after another, its edges in parts of CHUNK: whatever a part needs on the way from edges to results stays in
// a core's cache, and besides the edges only shares are kept for the backward passes, which compute the rest again. The
// equations are those of relational_transformer.py and edge_functions.py. Edges of all blocks lie in one array
// (networks, E, d); ends[e] and ends[E + e] are the nodes, of N, that edge e goes to and comes from. DIMENSION, HEADS, KEYS
// (features of a head's key) and EPSILON are given when this file is compiled: loops of known length make it fast.

#include "vectors.h"

#include <limits>

namespace {

constexpr int64_t d = DIMENSION, H = HEADS, VALUES = d / H;
constexpr int64_t W = 2 * H * KEYS;    // queries and keys of both directions at one end of an edge
constexpr int64_t ROW = W + d;         // of a node: queries and keys, then its value
constexpr int64_t CHUNK = 48;          // edges

// A tile of ROWS × PANEL vectors is what fills a processor's registers without spilling.
constexpr int PANEL = LANES == 8 ? 2 : 4;
constexpr int ROWS = 6;
static_assert(d % LANES == 0 && 2 * W % LANES == 0, "columns of products are whole vectors");

// What the next part reads and writes, brought into the cache little by little while products of this part are computed.
struct Ahead {
    const float* streams[3];
    int64_t place, end;

    void advance() {
        for (const int64_t stop = std::min(place + 12 * 16, end); place < stop; place += 16)
            for (const float* stream : streams)
                if (stream) __builtin_prefetch(stream + place, 0, 2);
    }
};

template <int R, int V>
void panel(int64_t rows, int64_t depth, Left a, const float* b, int64_t b_row, float* c, int64_t c_row, Ahead& ahead,
           bool add) {
    for (; rows >= R; rows -= R, a.data += R * a.row, c += R * c_row) {
        ahead.advance();
        tile<R, V>(depth, a, b, b_row, c, c_row, add);
    }
    if constexpr (R > 1)
        if (rows) panel<R - 1, V>(rows, depth, a, b, b_row, c, c_row, ahead, add);
}

// C (rows, columns) = A B, or C += A B; B (depth, columns) and C are dense.
template <int64_t columns, int V = PANEL>
void multiply(int64_t rows, int64_t depth, Left a, const float* b, float* c, Ahead& ahead, bool add = false,
              int64_t first = 0) {
    for (; first + V * LANES <= columns; first += V * LANES)
        panel<ROWS, V>(rows, depth, a, b + first, columns, c + first, columns, ahead, add);
    if constexpr (V > 1)
        if (first < columns) multiply<columns, V - 1>(rows, depth, a, b, c, ahead, add, first);
}

void transpose(int64_t rows, int64_t columns, const float* from, float* to) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
}

template <int64_t n>
inline float dot(const float* a, const float* b) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

template <int64_t n>
inline void add_scaled(float factor, const float* from, float* to) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// Layer norm of edges in one part: means, inverse deviations, normalised edges.
struct Norm {
    std::vector<float> mean, inverse, edges;

    explicit Norm(int64_t rows = CHUNK) : mean(rows), inverse(rows), edges(CHUNK * d) {}

    // Row r of the part is row first + r of the statistics.
    void measure(int64_t rows, const float* from, int64_t first = 0) {
        for (int64_t r = 0; r < rows; ++r) {
            const float* x = from + r * d;
            float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < d; ++i) sum += x[i];
            const float centre = sum / d;
#pragma omp simd reduction(+ : square)
            for (int64_t i = 0; i < d; ++i) square += (x[i] - centre) * (x[i] - centre);
            mean[first + r] = centre, inverse[first + r] = 1 / std::sqrt(square / d + EPSILON);
        }
        apply(rows, from, first);
    }

    void apply(int64_t rows, const float* from, int64_t first = 0) {
        for (int64_t r = 0; r < rows; ++r) {
            const float *x = from + r * d, centre = mean[first + r], scale = inverse[first + r];
            float* y = edges.data() + r * d;
#pragma omp simd
            for (int64_t i = 0; i < d; ++i) y[i] = (x[i] - centre) * scale;
        }
    }

    // Gradient at normalised edges → gradient at edges, on top of what reaches them besides.
    void backward(int64_t rows, const float* change, const float* besides, float* to_edges, int64_t first = 0) const {
        for (int64_t r = 0; r < rows; ++r) {
            const float *g = change + r * d, *y = edges.data() + r * d, *more = besides + r * d, scale = inverse[first + r];
            float* out = to_edges + r * d;
            float sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
            for (int64_t i = 0; i < d; ++i) sum += g[i], along += g[i] * y[i];
            sum /= d, along /= d;
#pragma omp simd
            for (int64_t i = 0; i < d; ++i) out[i] = more[i] + scale * (g[i] - sum - y[i] * along);
        }
    }

    Left rows() const { return {edges.data(), d, 1}; }
    Left columns() const { return {edges.data(), 1, d}; }
};

// Inputs of the activation of one part: its values take their place. target, source: node parts of one network.
void activate(int64_t rows, const int32_t* to, const int32_t* from, const float* target, const float* source, float* hidden,
              float* slopes) {
    for (int64_t r = 0; r < rows; ++r) {
        const float *left = target + to[r] * d, *right = source + from[r] * d;
        float *x = hidden + r * d, *slope = slopes + r * d;
#pragma omp simd
        for (int64_t i = 0; i < d; ++i) gelu(x[i] + left[i] + right[i], x[i], slope[i]);
    }
}

// Where shares of head h along an edge from node j to node i belong; heads of the reverse direction follow.
inline int64_t receiver(int64_t h, int64_t i, int64_t j) { return h < H ? i * H + h : j * H + h - H; }

const float SCALE = 1 / std::sqrt((float)KEYS);

}  // namespace

extern "C" {

// target, source (networks, N, ROW), weight (networks, d, 2 W) → shares (networks, 2 H, E), mixed (networks, N, d): sums of
// shares times values, carried (networks, N, H, 2, d): sums of shares times normalised edges, as a target, then as a source.
void attention(int64_t networks, int64_t N, int64_t E, int64_t threads, const int32_t* ends, const float* edges,
               const float* target, const float* source, const float* weight, float* shares, float* mixed, float* carried) {
    const int32_t *to = ends, *from = ends + E;
    share_networks(networks, threads, [=](int64_t first, int64_t last) {
        Norm norm(E);
        std::vector<float> found(CHUNK * 2 * W), highest(N * H), total(N * H);
        for (int64_t b = first; b < last; ++b) {
            const float *e = edges + b * E * d, *t = target + b * N * ROW, *s = source + b * N * ROW;
            float *share = shares + b * 2 * H * E, *mix = mixed + b * N * d, *carry = carried + b * 2 * N * H * d;
            std::fill(highest.begin(), highest.end(), -std::numeric_limits<float>::infinity());
            std::fill(total.begin(), total.end(), 0.0f);
            std::fill_n(mix, N * d, 0.0f);
            std::fill_n(carry, 2 * N * H * d, 0.0f);
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start);
                Ahead ahead{{e + (start + rows) * d}, 0, CHUNK * d};
                norm.measure(rows, e + start * d, start);
                multiply<2 * W>(rows, d, norm.rows(), weight + b * d * 2 * W, found.data(), ahead);
                for (int64_t r = 0; r < rows; ++r) {
                    const int64_t i = to[start + r], j = from[start + r];
                    const float *x = found.data() + r * 2 * W, *y = x + W, *left = t + i * ROW, *right = s + j * ROW;
                    for (int64_t h = 0; h < 2 * H; ++h) {
                        float sum = 0;
#pragma omp simd reduction(+ : sum)
                        for (int64_t k = h * KEYS; k < (h + 1) * KEYS; ++k) sum += (x[k] + left[k]) * (y[k] + right[k]);
                        float& most = highest[receiver(h, i, j)];
                        most = std::max(most, share[h * E + start + r] = SCALE * sum);
                    }
                }
            }
            for (int64_t h = 0; h < 2 * H; ++h)
                for (int64_t r = 0; r < E; ++r) {
                    const int64_t node = receiver(h, to[r], from[r]);
                    total[node] += share[h * E + r] = exponential(share[h * E + r] - highest[node]);
                }
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start);
                norm.apply(rows, e + start * d, start);
                for (int64_t r = 0; r < rows; ++r) {
                    const int64_t i = to[start + r], j = from[start + r];
                    const float* x = norm.edges.data() + r * d;
                    for (int64_t h = 0; h < H; ++h) {
                        const float forward = share[h * E + start + r] /= total[i * H + h];
                        const float backward = share[(H + h) * E + start + r] /= total[j * H + h];
                        add_scaled<d>(forward, x, carry + (i * H + h) * 2 * d);
                        add_scaled<d>(backward, x, carry + ((j * H + h) * 2 + 1) * d);
                        add_scaled<VALUES>(forward, s + j * ROW + W + h * VALUES, mix + i * d + h * VALUES);
                        add_scaled<VALUES>(backward, t + i * ROW + W + h * VALUES, mix + j * d + h * VALUES);
                    }
                }
            }
        }
    });
}

// mixed, carried: gradients there; besides: what else reaches the edges. Results: gradients at edges, target, source and
// weight.
void attention_backward(int64_t networks, int64_t N, int64_t E, int64_t threads, const int32_t* ends, const float* edges,
                        const float* target, const float* source, const float* weight, const float* shares,
                        const float* mixed, const float* carried, const float* besides, float* to_edges, float* to_target,
                        float* to_source, float* to_weight) {
    const int32_t *to = ends, *from = ends + E;
    share_networks(networks, threads, [=](int64_t first, int64_t last) {
        Norm norm(E);
        std::vector<float> found(CHUNK * 2 * W), change(CHUNK * d), across(2 * W * d), wanted(2 * H * E), mean(N * H);
        for (int64_t b = first; b < last; ++b) {
            const float *e = edges + b * E * d, *t = target + b * N * ROW, *s = source + b * N * ROW;
            const float *share = shares + b * 2 * H * E, *mix = mixed + b * N * d, *carry = carried + b * 2 * N * H * d;
            float *to_t = to_target + b * N * ROW, *to_s = to_source + b * N * ROW, *to_w = to_weight + b * d * 2 * W;
            std::fill_n(to_t, N * ROW, 0.0f);
            std::fill_n(to_s, N * ROW, 0.0f);
            std::fill(mean.begin(), mean.end(), 0.0f);
            transpose(d, 2 * W, weight + b * d * 2 * W, across.data());
            // Gradients at shares, and their mean under the shares, which the softmax takes off.
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start);
                norm.measure(rows, e + start * d, start);
                for (int64_t r = 0; r < rows; ++r) {
                    const int64_t i = to[start + r], j = from[start + r];
                    const float* x = norm.edges.data() + r * d;
                    for (int64_t h = 0; h < H; ++h) {
                        const int64_t forward = h * E + start + r, backward = forward + H * E, value = W + h * VALUES;
                        const float *at_i = mix + i * d + h * VALUES, *at_j = mix + j * d + h * VALUES;
                        const float *carry_i = carry + (i * H + h) * 2 * d, *carry_j = carry + ((j * H + h) * 2 + 1) * d;
                        wanted[forward] = dot<d>(carry_i, x) + dot<VALUES>(at_i, s + j * ROW + value);
                        wanted[backward] = dot<d>(carry_j, x) + dot<VALUES>(at_j, t + i * ROW + value);
                        mean[i * H + h] += share[forward] * wanted[forward];
                        mean[j * H + h] += share[backward] * wanted[backward];
                        add_scaled<VALUES>(share[forward], at_i, to_s + j * ROW + value);
                        add_scaled<VALUES>(share[backward], at_j, to_t + i * ROW + value);
                    }
                }
            }
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start);
                const int64_t place = (b * E + start) * d;
                Ahead ahead{{besides + place + rows * d, to_edges + place + rows * d}, 0, CHUNK * d};
                norm.apply(rows, e + start * d, start);
                multiply<2 * W>(rows, d, norm.rows(), weight + b * d * 2 * W, found.data(), ahead);
                for (int64_t r = 0; r < rows; ++r) {
                    const int64_t i = to[start + r], j = from[start + r];
                    const float *left = t + i * ROW, *right = s + j * ROW;
                    float *x = found.data() + r * 2 * W, *y = x + W, *to_left = to_t + i * ROW, *to_right = to_s + j * ROW;
                    for (int64_t h = 0; h < 2 * H; ++h) {
                        const int64_t place = h * E + start + r;
                        const float logit = SCALE * share[place] * (wanted[place] - mean[receiver(h, i, j)]);
#pragma omp simd
                        for (int64_t k = h * KEYS; k < (h + 1) * KEYS; ++k) {
                            const float to_x = logit * (y[k] + right[k]), to_y = logit * (x[k] + left[k]);
                            x[k] = to_x, y[k] = to_y;
                            to_left[k] += to_x, to_right[k] += to_y;
                        }
                    }
                }
                multiply<2 * W>(d, rows, norm.columns(), found.data(), to_w, ahead, start > 0);
                multiply<d>(rows, 2 * W, {found.data(), 2 * W, 1}, across.data(), change.data(), ahead);
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t h = 0; h < H; ++h) {
                        const int64_t i = to[start + r], j = from[start + r], forward = h * E + start + r;
                        add_scaled<d>(share[forward], carry + (i * H + h) * 2 * d, change.data() + r * d);
                        add_scaled<d>(share[forward + H * E], carry + ((j * H + h) * 2 + 1) * d, change.data() + r * d);
                    }
                norm.backward(rows, change.data(), besides + place, to_edges + place, start);
            }
        }
    });
}

// target, source (networks, N, d), in, out (networks, d, d) → updated edges.
void update(int64_t networks, int64_t N, int64_t E, int64_t threads, const int32_t* ends, const float* edges,
            const float* target, const float* source, const float* in, const float* out, float* updated) {
    const int32_t *to = ends, *from = ends + E;
    share_networks(networks, threads, [=](int64_t first, int64_t last) {
        Norm norm;
        std::vector<float> hidden(CHUNK * d), slopes(CHUNK * d);
        for (int64_t b = first; b < last; ++b) {
            const float *t = target + b * N * d, *s = source + b * N * d;
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start), place = (b * E + start) * d, next = place + rows * d;
                Ahead ahead{{edges + next, updated + next}, 0, CHUNK * d};
                norm.measure(rows, edges + place);
                multiply<d>(rows, d, norm.rows(), in + b * d * d, hidden.data(), ahead);
                activate(rows, to + start, from + start, t, s, hidden.data(), slopes.data());
                std::copy_n(edges + place, rows * d, updated + place);
                multiply<d>(rows, d, {hidden.data(), d, 1}, out + b * d * d, updated + place, ahead, true);
            }
        }
    });
}

// updated: the gradient there. Results: gradients at edges, target, source, in, out.
void update_backward(int64_t networks, int64_t N, int64_t E, int64_t threads, const int32_t* ends, const float* edges,
                     const float* target, const float* source, const float* in, const float* out, const float* updated,
                     float* to_edges, float* to_target, float* to_source, float* to_in, float* to_out) {
    const int32_t *to = ends, *from = ends + E;
    share_networks(networks, threads, [=](int64_t first, int64_t last) {
        Norm norm;
        std::vector<float> hidden(CHUNK * d), slopes(CHUNK * d), change(CHUNK * d), across_in(d * d), across_out(d * d);
        for (int64_t b = first; b < last; ++b) {
            const float *t = target + b * N * d, *s = source + b * N * d;
            float *to_t = to_target + b * N * d, *to_s = to_source + b * N * d;
            std::fill_n(to_t, N * d, 0.0f);
            std::fill_n(to_s, N * d, 0.0f);
            transpose(d, d, in + b * d * d, across_in.data());
            transpose(d, d, out + b * d * d, across_out.data());
            for (int64_t start = 0; start < E; start += CHUNK) {
                const int64_t rows = std::min(CHUNK, E - start), place = (b * E + start) * d, next = place + rows * d;
                const float* gradient = updated + place;
                Ahead ahead{{edges + next, updated + next, to_edges + next}, 0, CHUNK * d};
                norm.measure(rows, edges + place);
                multiply<d>(rows, d, norm.rows(), in + b * d * d, hidden.data(), ahead);
                activate(rows, to + start, from + start, t, s, hidden.data(), slopes.data());
                multiply<d>(d, rows, {hidden.data(), 1, d}, gradient, to_out + b * d * d, ahead, start > 0);
                multiply<d>(rows, d, {gradient, d, 1}, across_out.data(), change.data(), ahead);
                for (int64_t r = 0; r < rows; ++r) {
                    const float* slope = slopes.data() + r * d;
                    float *g = change.data() + r * d, *left = to_t + to[start + r] * d, *right = to_s + from[start + r] * d;
#pragma omp simd
                    for (int64_t i = 0; i < d; ++i) g[i] *= slope[i], left[i] += g[i], right[i] += g[i];
                }
                multiply<d>(d, rows, norm.columns(), change.data(), to_in + b * d * d, ahead, start > 0);
                multiply<d>(rows, d, {change.data(), d, 1}, across_in.data(), hidden.data(), ahead);
                norm.backward(rows, hidden.data(), gradient, to_edges + place);
            }
        }
    });
}

}  // extern "C"
