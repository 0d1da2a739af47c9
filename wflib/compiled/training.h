// What kernels share that train networks one after another: activations, losses of classes, optimizers, orders of examples.
#pragma once

#include "vectors.h"

#include <new>

namespace {

struct Sizes {
    int64_t networks, threads, layers, batch, steps, first_step, examples, first_network, seed, dimension, kept, classify,
        adam, slots;
};

struct Recipe {
    double learning_rate, momentum, weight_decay;
};

// Numbers that begin where a cache line does.
class Lines {
    float* data;

public:
    explicit Lines(int64_t size) : data((float*)::operator new(size * 4, std::align_val_t{64})) {
        std::fill(data, data + size, 0.0f);
    }
    Lines(Lines&& other) noexcept : data(other.data) { other.data = nullptr; }
    Lines(const Lines&) = delete;
    ~Lines() { ::operator delete(data, std::align_val_t{64}); }
    operator float*() const { return data; }
};

inline float total(vec sum) {
    float entries[LANES], found = 0;
    std::memcpy(entries, &sum, sizeof entries);
#pragma omp simd reduction(+ : found)
    for (int i = 0; i < LANES; ++i) found += entries[i];
    return found;
}

// Orders of examples, as permutations in rng.py states them: keys fall into as many pieces as there are examples, by their
// first bits, and few are to be moved within theirs.
class Orders {
    static constexpr uint64_t SPACING = 0x9E3779B97F4A7C15, SIGN = 1ull << 63;
    const int64_t examples;
    int bits = 1;
    std::vector<uint64_t> keys, sorted;
    std::vector<uint32_t> ends;

    static uint64_t scrambled(uint64_t z) {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

public:
    explicit Orders(int64_t examples) : examples(examples), keys(examples), sorted(examples) {
        while ((examples - 1) >> bits) ++bits;
        ends.resize((1ull << bits) + 1);
    }

    void draw(uint64_t seed, uint64_t row, int64_t* order) {
        const uint64_t start = scrambled(row * SPACING + seed), kept = ~0ull << bits;
        uint64_t* key = keys.data();
#pragma omp simd
        for (int64_t i = 0; i < examples; ++i)
            key[i] = ((scrambled(start + (uint64_t)i * SPACING) & kept) | (uint64_t)i) ^ SIGN;
        const int shift = 64 - bits;
        std::fill(ends.begin(), ends.end(), 0);
        for (int64_t i = 0; i < examples; ++i) ++ends[(key[i] >> shift) + 1];
        for (size_t i = 1; i < ends.size(); ++i) ends[i] += ends[i - 1];
        for (int64_t i = 0; i < examples; ++i) sorted[ends[key[i] >> shift]++] = key[i];
        for (int64_t i = 1; i < examples; ++i) {
            const uint64_t moved = sorted[i];
            int64_t place = i;
            for (; place && sorted[place - 1] > moved; --place) sorted[place] = sorted[place - 1];
            sorted[place] = moved;
        }
        for (int64_t i = 0; i < examples; ++i) order[i] = sorted[i] & ~kept;
    }
};

enum Activation : int64_t { IDENTITY, RELU, LEAKY_RELU, TANH, SOFTSIGN, GELU, SILU, SMOOTH_RELU };

inline void tanh_of(float x, float& value, float& slope) {
    const float size = std::fabs(x), square = x * x, e = exponential(-2 * size);
    float p = -5.70498872745e-3f;  // Cephes, below 0.625
    p = p * square + 2.06390887954e-2f, p = p * square - 5.37397155531e-2f, p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const float near = x + x * square * p, far = std::copysign((1 - e) / (1 + e), x);
    value = size < 0.625f ? near : far;
    slope = 1 - value * value;
}

inline void silu_of(float x, float& value, float& slope) {
    const float e = exponential(-std::fabs(x)), share = (x < 0 ? e : 1.0f) / (1 + e);
    value = x * share;
    slope = share * (1 + x * (1 - share));
}

template <class Function>
inline void entries(int64_t count, float* x, float* slopes, Function function) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        float value, slope;
        function(x[i], value, slope);
        x[i] = value, slopes[i] = slope;
    }
}

// Values of a layer take the place of its inputs; derivatives are kept.
void activate(int64_t activation, int64_t count, float* x, float* slopes) {
    switch (activation) {
        case RELU:
            return entries(count, x, slopes, [](float z, float& y, float& s) { s = z <= 0 ? 0 : 1, y = z < 0 ? 0 : z; });
        case LEAKY_RELU:
            return entries(count, x, slopes, [](float z, float& y, float& s) { s = z > 0 ? 1 : 0.01f, y = z * s; });
        case TANH:
            return entries(count, x, slopes, tanh_of);
        case SOFTSIGN:
            return entries(count, x, slopes, [](float z, float& y, float& s) {
                const float share = 1 / (1 + std::fabs(z));
                y = z * share, s = share * share;
            });
        case GELU:
            return entries(count, x, slopes, gelu);
        case SILU:
            return entries(count, x, slopes, silu_of);
        case SMOOTH_RELU:
            return entries(count, x, slopes, [](float z, float& y, float& s) { gelu(4 * z, y, s), y *= 0.25f; });
    }
}

// A gradient behind an activation becomes that before it. As in torch relu stops infinite ones, too, which times zero would
// be no numbers.
inline void slope_down(int64_t activation, int64_t count, const float* slopes, float* change) {
    if (activation == IDENTITY) return;
    if (activation == RELU) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) change[i] = slopes[i] == 0 ? 0 : change[i];
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) change[i] *= slopes[i];
}

// Rows of logits, one a class and so many numbers long, become those of the gradient of examples' losses, times a scale; the
// first count numbers of a row are examples. Returns the sum of their losses, unscaled; highest and sum are for its own use.
inline float class_losses(int64_t outputs, int64_t rows, int64_t count, float* classes, float* highest, float* sum,
                          const int64_t* targets, const int64_t* order, float scale) {
    float total = 0;
    for (int64_t m = 0; m < count; ++m) total -= classes[targets[order[m]] * rows + m];
    std::memcpy(highest, classes, count * 4);
    std::fill(sum, sum + count, 0.0f);
    for (int64_t c = 1; c < outputs; ++c) {
        const float* row = classes + c * rows;
#pragma omp simd
        for (int64_t m = 0; m < count; ++m) highest[m] = row[m] > highest[m] ? row[m] : highest[m];
    }
    for (int64_t c = 0; c < outputs; ++c) {
        float* row = classes + c * rows;
#pragma omp simd
        for (int64_t m = 0; m < count; ++m) sum[m] += row[m] = exponential(row[m] - highest[m]);
    }
    for (int64_t m = 0; m < count; ++m) {
        total += highest[m] + std::log(sum[m]);
        const float share = scale / sum[m];
        for (int64_t c = 0; c < outputs; ++c) classes[c * rows + m] *= share;
        classes[targets[order[m]] * rows + m] -= scale;
    }
    return total;
}

// A step of torch.optim's Adam or SGD for so many weights, behind which as many numbers of each moment lie.
inline void update(bool adam, const Recipe& recipe, int64_t numbers, float* weights, const float* found, int64_t step) {
    const float decay = recipe.weight_decay, rate = recipe.learning_rate;
    float *first = weights + numbers, *second = first + numbers;
    if (!adam) {
        const float momentum = recipe.momentum;
        if (momentum == 0) {
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i) weights[i] -= rate * (found[i] + decay * weights[i]);
            return;
        }
#pragma omp simd
        for (int64_t i = 0; i < numbers; ++i) {
            first[i] = momentum * first[i] + (found[i] + decay * weights[i]);
            weights[i] -= rate * first[i];
        }
        return;
    }
    const float size = recipe.learning_rate / (1 - std::pow(0.9, step)), beta = 0.999, rest = 1 - 0.999;
    const float root = 1 / std::sqrt(1 - std::pow(0.999, step));
#pragma omp simd
    for (int64_t i = 0; i < numbers; ++i) {
        const float g = found[i] + decay * weights[i];
        first[i] += 0.1f * (g - first[i]);
        second[i] = beta * second[i] + rest * g * g;
        weights[i] -= size * first[i] / (std::sqrt(second[i]) * root + 1e-8f);
    }
}

// One epoch of all networks, or the beginning of one; by orders of their own, or by one (steps × batch) that all of them share.
// A trainer's step(weights, order, end) is a batch's mean loss, whose gradient it leaves in .gradient; until end is what follows
// in the order. Its settle(weights) follows the optimizer, and its keep(weights, kept) writes a flat network.
template <class Make>
void train_networks(const Sizes& sizes, const Recipe& recipe, int64_t numbers, const int64_t* shared, const int64_t* places,
                    float* states, float* flat, float* losses, Make make) {
    share_networks(sizes.networks, sizes.threads, [&, states, flat, losses](int64_t from, int64_t to) {
        auto trainer = make();
        Orders drawn(sizes.examples);
        std::vector<int64_t> own(sizes.examples);
        const int64_t *order = shared ? shared : own.data(), *end = order + sizes.steps * sizes.batch;
        for (int64_t n = from; n < to; ++n) {
            if (!shared) drawn.draw(sizes.seed, sizes.first_network + n, own.data());
            float* weights = states + n * sizes.slots * numbers;
            for (int64_t step = 0; step < sizes.steps; ++step) {
                losses[n] = trainer.step(weights, order + step * sizes.batch, end);
                update(sizes.adam, recipe, numbers, weights, trainer.gradient, sizes.first_step + step);
                trainer.settle(weights);
                if (places[step] >= 0) trainer.keep(weights, flat + (n * sizes.kept + places[step]) * sizes.dimension);
            }
        }
    });
}

// Of every network's mean loss on all examples: its gradient, as a flat network, where running statistics have none and stand
// as they are after a step.
template <class Make>
void find_gradients(const Sizes& sizes, int64_t numbers, float* states, float* flat, float* losses, Make make) {
    share_networks(sizes.networks, sizes.threads, [&, states, flat, losses](int64_t from, int64_t to) {
        auto trainer = make();
        std::vector<int64_t> order(sizes.batch);
        for (int64_t i = 0; i < sizes.batch; ++i) order[i] = i;
        for (int64_t n = from; n < to; ++n) {
            losses[n] = trainer.step(states + n * numbers, order.data(), order.data() + sizes.batch);
            trainer.settle(trainer.gradient);
            trainer.keep(trainer.gradient, flat + n * sizes.dimension);
        }
    });
}

}  // namespace

extern "C" {

// Orders (networks, examples) of networks first, first + 1, …
void draw_orders(int64_t networks, int64_t first, int64_t examples, int64_t seed, int64_t* orders) {
    Orders drawn(examples);
    for (int64_t n = 0; n < networks; ++n) drawn.draw(seed, first + n, orders + n * examples);
}

}  // extern "C"
