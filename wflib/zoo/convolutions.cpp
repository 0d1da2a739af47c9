// Training of small convolutional networks in single precision, one after another: what compiled_training.py calls.
//
// A network is a list of operations on values, of which the first are its inputs and each operation makes one more. Values lie as
// (channels, rows, columns, examples), as many examples as a vector has numbers: a step takes a batch vector by vector, or where
// batch norms need them all in one go, and what so few examples need stays in a core's cache. An affine map is a convolution
// whose kernel covers its input.

#include "training.h"

namespace {

constexpr int OUTPUTS = REGISTERS == 16 ? 4 : 8;  // of a tile, beside so many positions or entries of the kernel
constexpr int POSITIONS = REGISTERS == 16 ? 2 : 3;
constexpr int ENTRIES = REGISTERS == 16 ? 2 : 3;
constexpr float MOMENTUM = 0.1f;  // of running statistics, as in torch

enum Kind : int64_t { CONVOLVE, POOL, ACTIVATE, NORMALIZE, ADD, AVERAGE };

// As compiled_layers.py tells of it. Tensors are places in a flat network, -1 for none.
struct Given {
    int64_t kind, from, other, activation, weight, bias, mean, variance;
    int64_t channels, height, width, outputs, kernel[2], stride[2], padding[2];
    double epsilon;
};

struct Operation : Given {
    int64_t padded_height, padded_width, rows, columns, entries;
    std::vector<int64_t> offsets;  // from a position in the padded input to what each entry of the kernel meets

    explicit Operation(const Given& given)
        : Given(given), padded_height(height + 2 * padding[0]), padded_width(width + 2 * padding[1]),
          rows((padded_height - kernel[0]) / stride[0] + 1), columns((padded_width - kernel[1]) / stride[1] + 1),
          entries(channels * kernel[0] * kernel[1]) {
        if (kind != CONVOLVE) return;
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t y = 0; y < kernel[0]; ++y)
                for (int64_t x = 0; x < kernel[1]; ++x)
                    offsets.push_back(((c * padded_height + y) * padded_width + x) * LANES);
    }
    bool pads() const { return padding[0] + padding[1] > 0; }
    int64_t positions() const { return rows * columns; }
    int64_t padded() const { return channels * padded_height * padded_width * LANES; }
    int64_t inputs() const { return channels * height * width * LANES; }
    int64_t values() const { return outputs * positions() * LANES; }
    // Where in the padded input a position's patch begins.
    int64_t patch(int64_t row, int64_t column) const {
        return (row * stride[0] * padded_width + column * stride[1]) * LANES;
    }
    // Of a row of a channel's own pixels in the padded input.
    int64_t pixels(int64_t channel, int64_t row) const {
        return ((channel * padded_height + row + padding[0]) * padded_width + padding[1]) * LANES;
    }
};

typedef std::vector<Operation> Network;

Network network_of(int64_t count, const Given* given) { return Network(given, given + count); }

int64_t state_size(const Network& network) {
    int64_t end = 0;
    for (const Operation& operation : network) {
        if (operation.kind == CONVOLVE) end = std::max(end, operation.weight + operation.outputs * operation.entries);
        else end = std::max(end, operation.weight + operation.outputs);
        for (int64_t place : {operation.bias, operation.mean, operation.variance})
            end = std::max(end, place + operation.outputs);
    }
    return (end + 15) / 16 * 16;
}

inline vec& at(float* place) { return *(vec*)place; }
inline const vec& at(const float* place) { return *(const vec*)place; }

// Outputs of a convolution, R of them at P positions of one row; across is the weight as (entries, outputs).
template <int R, int P>
inline void meet(const Operation& layer, const float* from, const float* across, const float* bias, float* to) {
    const int64_t step = layer.stride[1] * LANES, positions = layer.positions() * LANES;
    vec sum[R][P];
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) sum[r][p] = vec{} + (bias ? bias[r] : 0.0f);
    for (int64_t k = 0; k < layer.entries; ++k, across += layer.outputs) {
        vec met[P];
        for (int p = 0; p < P; ++p) met[p] = at(from + layer.offsets[k] + p * step);
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p) sum[r][p] += across[r] * met[p];
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) at(to + r * positions + p * LANES) = sum[r][p];
}

template <int R, int P>
void meet_row(const Operation& layer, int64_t columns, const float* from, const float* across, const float* bias, float* to) {
    for (; columns >= P; columns -= P, from += P * layer.stride[1] * LANES, to += P * LANES)
        meet<R, P>(layer, from, across, bias, to);
    if constexpr (P > 1)
        if (columns) meet_row<R, P - 1>(layer, columns, from, across, bias, to);
}

template <int R = OUTPUTS>
void convolve(const Operation& layer, const float* from, const float* across, const float* bias, float* to, int64_t first = 0) {
    for (; first + R <= layer.outputs; first += R)
        for (int64_t row = 0; row < layer.rows; ++row)
            meet_row<R, POSITIONS>(layer, layer.columns, from + layer.patch(row, 0), across + first,
                                   bias ? bias + first : nullptr,
                                   to + (first * layer.positions() + row * layer.columns) * LANES);
    if constexpr (R > 1)
        if (first < layer.outputs) convolve<R / 2>(layer, from, across, bias, to, first);
}

// Adds to the weight's gradient, for R outputs from the first and T entries of the kernel.
template <int R, int T>
void weigh(const Operation& layer, int64_t first, int64_t entry, const float* from, const float* change, float* gradient) {
    const int64_t positions = layer.positions() * LANES, *offsets = layer.offsets.data() + entry;
    vec sum[R][T] = {};
    change += first * positions;
    for (int64_t row = 0; row < layer.rows; ++row)
        for (int64_t column = 0; column < layer.columns; ++column, change += LANES) {
            const float* patch = from + layer.patch(row, column);
            vec met[T];
            for (int t = 0; t < T; ++t) met[t] = at(patch + offsets[t]);
            for (int r = 0; r < R; ++r) {
                const vec by = at(change + r * positions);
                for (int t = 0; t < T; ++t) sum[r][t] += by * met[t];
            }
        }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) gradient[(first + r) * layer.entries + entry + t] += total(sum[r][t]);
}

template <int R, int T>
void weigh_entries(const Operation& layer, int64_t first, int64_t entry, const float* from, const float* change, float* gradient) {
    for (; entry + T <= layer.entries; entry += T) weigh<R, T>(layer, first, entry, from, change, gradient);
    if constexpr (T > 1)
        if (entry < layer.entries) weigh_entries<R, T - 1>(layer, first, entry, from, change, gradient);
}

template <int R = OUTPUTS>
void weigh_all(const Operation& layer, const float* from, const float* change, float* gradient, int64_t first = 0) {
    for (; first + R <= layer.outputs; first += R) weigh_entries<R, ENTRIES>(layer, first, 0, from, change, gradient);
    if constexpr (R > 1)
        if (first < layer.outputs) weigh_all<R / 2>(layer, from, change, gradient, first);
}

// Adds to the padded input's gradient what outputs tell it, R at a time.
template <int R = OUTPUTS>
void spread(const Operation& layer, const float* change, const float* across, float* to, int64_t first = 0) {
    const int64_t positions = layer.positions() * LANES;
    for (; first + R <= layer.outputs; first += R) {
        const float* here = change + first * positions;
        for (int64_t row = 0; row < layer.rows; ++row)
            for (int64_t column = 0; column < layer.columns; ++column, here += LANES) {
                const float* weight = across + first;
                float* patch = to + layer.patch(row, column);
                vec by[R];
                for (int r = 0; r < R; ++r) by[r] = at(here + r * positions);
                for (int64_t k = 0; k < layer.entries; ++k, weight += layer.outputs) {
                    vec sum = at(patch + layer.offsets[k]);
                    for (int r = 0; r < R; ++r) sum += weight[r] * by[r];
                    at(patch + layer.offsets[k]) = sum;
                }
            }
    }
    if constexpr (R > 1)
        if (first < layer.outputs) spread<R / 2>(layer, change, across, to, first);
}

// Maxima of windows; ties go to the first of them and whatever is no number is the largest, as in torch.
void pool(const Operation& layer, const float* from, float* values, int32_t* largest) {
    for (int64_t c = 0; c < layer.channels; ++c)
        for (int64_t row = 0; row < layer.rows; ++row)
            for (int64_t column = 0; column < layer.columns; ++column, values += LANES, largest += LANES) {
                const float* window = from + c * layer.height * layer.width * LANES + layer.patch(row, column);
                std::memcpy(values, window, LANES * 4);
                std::fill(largest, largest + LANES, 0);
                for (int64_t j = 1; j < layer.kernel[0] * layer.kernel[1]; ++j) {
                    const float* other = window + (j / layer.kernel[1] * layer.width + j % layer.kernel[1]) * LANES;
#pragma omp simd
                    for (int i = 0; i < LANES; ++i) {
                        const bool larger = other[i] > values[i] || other[i] != other[i];
                        values[i] = larger ? other[i] : values[i];
                        largest[i] = larger ? (int32_t)j : largest[i];
                    }
                }
            }
}

void unpool(const Operation& layer, const float* change, const int32_t* largest, float* to) {
    for (int64_t c = 0; c < layer.channels; ++c)
        for (int64_t row = 0; row < layer.rows; ++row)
            for (int64_t column = 0; column < layer.columns; ++column, change += LANES, largest += LANES) {
                float* window = to + c * layer.height * layer.width * LANES + layer.patch(row, column);
                for (int64_t j = 0; j < layer.kernel[0] * layer.kernel[1]; ++j) {
                    float* other = window + (j / layer.kernel[1] * layer.width + j % layer.kernel[1]) * LANES;
#pragma omp simd
                    for (int i = 0; i < LANES; ++i) other[i] += largest[i] == (int32_t)j ? change[i] : 0.0f;
                }
            }
}

int64_t largest_padded(const Network& network) {
    int64_t most = 0;
    for (const Operation& layer : network) most = std::max(most, layer.pads() ? layer.padded() : 0);
    return most;
}

// How many vectors of examples go through a network together.
int64_t vectors_of(const Network& network, int64_t batch) {
    for (const Operation& layer : network)
        if (layer.kind == NORMALIZE) return (batch + LANES - 1) / LANES;
    return 1;
}

// What a batch norm works with, each a number for every channel.
struct Norm {
    std::vector<float> means, rates, factors, offsets, running_means, running_variances;

    explicit Norm(int64_t channels)
        : means(channels), rates(channels), factors(channels), offsets(channels), running_means(channels),
          running_variances(channels) {}
};

// One thread's work on networks of one kind.
struct Trainer {
    const Sizes& sizes;
    const Network& network;
    const float* inputs;
    const void* targets;
    int64_t features, outputs, vectors;
    Lines gradient, classes, spread_out;
    std::vector<Lines> own_values, own_changes, padded, slopes, across;
    std::vector<float*> values, changes;  // a value and its gradient, vector by vector
    std::vector<std::vector<int32_t>> largest;
    std::vector<Norm> norms;

    Trainer(const Sizes& sizes, const Network& network, const float* inputs, const void* targets)
        : sizes(sizes), network(network), inputs(inputs), targets(targets), features(network[0].inputs() / LANES),
          outputs(network.back().outputs), vectors(vectors_of(network, sizes.batch)), gradient(state_size(network)),
          classes(2 * LANES), spread_out(largest_padded(network)) {
        add_value(network[0].inputs());
        for (const Operation& layer : network) {
            if (layer.kind == ACTIVATE) {  // in place: nothing else reads what it changes
                values.push_back(values[layer.from]);
                changes.push_back(changes[layer.from]);
            } else
                add_value(layer.values());
            padded.emplace_back(layer.pads() ? vectors * layer.padded() : 0);
            slopes.emplace_back(layer.kind == ACTIVATE ? vectors * layer.values() : 0);
            across.emplace_back(layer.kind == CONVOLVE ? layer.outputs * layer.entries : 0);
            largest.emplace_back(layer.kind == POOL ? vectors * layer.values() : 0);
            norms.emplace_back(layer.kind == NORMALIZE ? layer.channels : 0);
        }
    }

    void add_value(int64_t numbers) {
        own_values.emplace_back(vectors * numbers);
        own_changes.emplace_back(vectors * numbers);
        values.push_back(own_values.back());
        changes.push_back(own_changes.back());
    }

    // For examples that are missing from the last vector of a batch its first stands in, of which nothing is told: values
    // that are as finite as its own.
    void gather(int64_t v, const int64_t* order, int64_t count) {
        float* to = values[0] + v * features * LANES;
        for (int i = 0; i < LANES; ++i) {
            const float* example = inputs + order[i < count ? i : 0] * features;
            for (int64_t f = 0; f < features; ++f) to[f * LANES + i] = example[f];
        }
    }

    // What a convolution meets of a vector.
    const float* met(size_t l, int64_t v) const {
        const Operation& layer = network[l];
        return layer.pads() ? padded[l] + v * layer.padded() : values[layer.from] + v * layer.inputs();
    }

    void forward(size_t l, int64_t v, const float* weights) {
        const Operation& layer = network[l];
        const float *from = values[layer.from] + v * layer.inputs(), *other = values[layer.other] + v * layer.inputs();
        float* to = values[l + 1] + v * layer.values();
        switch (layer.kind) {
            case CONVOLVE:
                if (layer.pads())
                    for (int64_t row = 0; row < layer.channels * layer.height; ++row)
                        std::memcpy(padded[l] + v * layer.padded() + layer.pixels(row / layer.height, row % layer.height),
                                    from + row * layer.width * LANES, layer.width * LANES * 4);
                return convolve(layer, met(l, v), across[l], layer.bias < 0 ? nullptr : weights + layer.bias, to);
            case POOL:
                return pool(layer, from, to, largest[l].data() + v * layer.values());
            case ACTIVATE:
                return activate(layer.activation, layer.values(), to, slopes[l] + v * layer.values());
            case NORMALIZE:
                for (int64_t p = 0; p < layer.channels * layer.positions(); ++p) {
                    const int64_t c = p / layer.positions();
                    at(to + p * LANES) = norms[l].offsets[c] + at(from + p * LANES) * norms[l].factors[c];
                }
                return;
            case ADD:
                for (int64_t p = 0; p < layer.values(); p += LANES) at(to + p) = at(from + p) + at(other + p);
                return;
            case AVERAGE:
                const int64_t all = layer.height * layer.width;
                for (int64_t c = 0; c < layer.channels; ++c) {
                    vec sum = {};
                    for (int64_t p = 0; p < all; ++p) sum += at(from + (c * all + p) * LANES);
                    at(to + c * LANES) = sum / (float)all;
                }
        }
    }

    void backward(size_t l, int64_t v) {
        const Operation& layer = network[l];
        const float* told = changes[l + 1] + v * layer.values();
        float *from = changes[layer.from] + v * layer.inputs(), *other = changes[layer.other] + v * layer.inputs();
        switch (layer.kind) {
            case CONVOLVE:
                weigh_all(layer, met(l, v), told, gradient + layer.weight);
                if (layer.bias >= 0)
                    for (int64_t o = 0; o < layer.outputs; ++o) {
                        vec sum = {};
                        for (int64_t p = 0; p < layer.positions(); ++p) sum += at(told + (o * layer.positions() + p) * LANES);
                        gradient[layer.bias + o] += total(sum);
                    }
                if (!layer.from) return;
                if (!layer.pads()) return spread(layer, told, across[l], from);
                std::fill(spread_out + 0, spread_out + layer.padded(), 0.0f);
                spread(layer, told, across[l], spread_out);
                for (int64_t row = 0; row < layer.channels * layer.height; ++row) {
                    const float* pixels = spread_out + layer.pixels(row / layer.height, row % layer.height);
                    for (int64_t x = 0; x < layer.width; ++x, from += LANES) at(from) += at(pixels + x * LANES);
                }
                return;
            case POOL:
                return unpool(layer, told, largest[l].data() + v * layer.values(), from);
            case ACTIVATE:
                return slope_down(layer.activation, layer.values(), slopes[l] + v * layer.values(), from);
            case ADD:
                for (int64_t p = 0; p < layer.values(); p += LANES) at(from + p) += at(told + p), at(other + p) += at(told + p);
                return;
            case AVERAGE:
                const int64_t all = layer.height * layer.width;
                for (int64_t p = 0; p < layer.channels * all; ++p)
                    at(from + p * LANES) += at(told + p / all * LANES) / (float)all;
        }
    }

    // Sum over a channel's positions and so many examples, of what is at a place in all vectors.
    template <class Function>
    static double over(const Operation& layer, int64_t channel, int64_t examples, Function function) {
        double found = 0;
        for (int64_t v = 0; v * LANES < examples; ++v) {
            const int64_t first = v * layer.values() + channel * layer.positions() * LANES;
            vec sum = {};
            for (int64_t p = 0; p < layer.positions(); ++p) sum += function(first + p * LANES);
            for (int64_t i = 0; i < std::min<int64_t>(LANES, examples - v * LANES); ++i) found += sum[i];
        }
        return found;
    }

    // Moments of a batch, what a norm makes of them, and running statistics after the step.
    void measure(size_t l, const float* weights, int64_t examples) {
        const Operation& layer = network[l];
        const float* x = values[layer.from];
        const double count = (double)layer.positions() * examples;
        Norm& norm = norms[l];
        for (int64_t c = 0; c < layer.channels; ++c) {
            const float mean = over(layer, c, examples, [&](int64_t place) { return at(x + place); }) / count;
            const float variance = over(layer, c, examples, [&](int64_t place) {
                const vec apart = at(x + place) - mean;
                return apart * apart;
            }) / count;
            norm.means[c] = mean, norm.rates[c] = 1 / std::sqrt(variance + (float)layer.epsilon);
            norm.factors[c] = norm.rates[c] * (layer.weight < 0 ? 1 : weights[layer.weight + c]);
            norm.offsets[c] = (layer.bias < 0 ? 0 : weights[layer.bias + c]) - mean * norm.factors[c];
            const float *means = weights + layer.mean, *variances = weights + layer.variance;
            const float unbiased = variance * (count / std::max(count - 1, 1.0));
            norm.running_means[c] = means[c] + MOMENTUM * (mean - means[c]);
            norm.running_variances[c] = variances[c] + MOMENTUM * (unbiased - variances[c]);
        }
    }

    // A batch norm's gradients, of which those at its inputs come by the moments, too.
    void unmeasure(size_t l, int64_t examples) {
        const Operation& layer = network[l];
        const float *x = values[layer.from], *told = changes[l + 1];
        const double count = (double)layer.positions() * examples;
        const Norm& norm = norms[l];
        for (int64_t c = 0; c < layer.channels; ++c) {
            const float mean = norm.means[c], rate = norm.rates[c];
            const auto normal = [&](int64_t place) { return (at(x + place) - mean) * rate; };
            const float sum = over(layer, c, examples, [&](int64_t place) { return at(told + place); });
            const float product = over(layer, c, examples, [&](int64_t place) { return at(told + place) * normal(place); });
            if (layer.weight >= 0) gradient[layer.weight + c] += product;
            if (layer.bias >= 0) gradient[layer.bias + c] += sum;
            const float less = sum / count, along = product / count;
            for (int64_t v = 0; v * LANES < examples; ++v)
                for (int64_t p = 0; p < layer.positions(); ++p) {
                    const int64_t place = v * layer.values() + (c * layer.positions() + p) * LANES;
                    const vec change = norm.factors[c] * (at(told + place) - less - normal(place) * along);
                    for (int64_t i = 0; i < std::min<int64_t>(LANES, examples - v * LANES); ++i)
                        changes[layer.from][place + i] += change[i];
                }
        }
    }

    // Sum of a vector's losses; the gradient of their mean over the batch goes to the outputs' place.
    float loss(int64_t v, const int64_t* order, int64_t count) {
        const float *found = values.back() + v * outputs * LANES, scale = 1.0f / sizes.batch;
        float sum = 0, *change = changes.back() + v * outputs * LANES;
        std::memcpy(change, found, outputs * LANES * 4);
        if (sizes.classify)
            sum = class_losses(outputs, LANES, count, change, classes, classes + LANES, (const int64_t*)targets, order, scale);
        else
            for (int64_t c = 0; c < outputs; ++c)
                for (int64_t i = 0; i < count; ++i) {
                    const float difference = found[c * LANES + i] - ((const float*)targets)[order[i] * outputs + c];
                    sum += 0.5f * difference * difference / outputs;
                    change[c * LANES + i] = difference * (scale / outputs);
                }
        for (int64_t c = 0; c < outputs; ++c) std::fill(change + c * LANES + count, change + (c + 1) * LANES, 0.0f);
        return sum;
    }

    // Sum of losses of examples that go through the network together, whose gradient is added.
    float run(const float* weights, const int64_t* order, int64_t examples) {
        const int64_t used = (examples + LANES - 1) / LANES;
        const auto count = [&](int64_t v) { return std::min<int64_t>(LANES, examples - v * LANES); };
        for (int64_t v = 0; v < used; ++v) gather(v, order + v * LANES, count(v));
        for (size_t l = 0; l < network.size(); ++l) {
            if (network[l].kind == NORMALIZE) measure(l, weights, examples);
            for (int64_t v = 0; v < used; ++v) forward(l, v, weights);
        }
        for (size_t l = 0; l < network.size(); ++l)
            if (network[l].kind != ACTIVATE) std::fill(changes[l + 1], changes[l + 1] + used * network[l].values(), 0.0f);
        float sum = 0;
        for (int64_t v = 0; v < used; ++v) sum += loss(v, order + v * LANES, count(v));
        for (size_t l = network.size(); l-- > 0;)
            if (network[l].kind == NORMALIZE)
                unmeasure(l, examples);
            else
                for (int64_t v = 0; v < used; ++v) backward(l, v);
        return sum;
    }

    float step(const float* weights, const int64_t* order, const int64_t*) {
        for (size_t l = 0; l < network.size(); ++l)
            if (network[l].kind == CONVOLVE)
                for (int64_t o = 0; o < network[l].outputs; ++o)
                    for (int64_t k = 0; k < network[l].entries; ++k)
                        across[l][k * network[l].outputs + o] = weights[network[l].weight + o * network[l].entries + k];
        std::fill(gradient + 0, gradient + state_size(network), 0.0f);
        float sum = 0;
        for (int64_t first = 0; first < sizes.batch; first += vectors * LANES)
            sum += run(weights, order + first, std::min(vectors * LANES, sizes.batch - first));
        return sum / sizes.batch;
    }

    // Running statistics are measured, not learned, whatever the optimizer has made of them.
    void settle(float* weights) const {
        for (size_t l = 0; l < network.size(); ++l)
            if (network[l].kind == NORMALIZE) {
                std::copy(norms[l].running_means.begin(), norms[l].running_means.end(), weights + network[l].mean);
                std::copy(norms[l].running_variances.begin(), norms[l].running_variances.end(), weights + network[l].variance);
            }
    }

    void keep(const float* weights, float* kept) const { std::memcpy(kept, weights, sizes.dimension * 4); }
};

}  // namespace

extern "C" {

// Numbers of one network's weights as a network's state holds them: a flat network's, padded.
int64_t state_numbers(int64_t count, const int64_t* given) { return state_size(network_of(count, (const Given*)given)); }

// Flat networks (networks, dimension) → states (networks, slots, numbers), whose other slots are left.
void pack(int64_t networks, int64_t count, int64_t dimension, int64_t slots, const int64_t* given, const float* flat,
          float* states) {
    const int64_t numbers = state_numbers(count, given);
    for (int64_t n = 0; n < networks; ++n) std::memcpy(states + n * slots * numbers, flat + n * dimension, dimension * 4);
}

// As in perceptrons.cpp; so is the next.
void train(const Sizes* sizes, const Recipe* recipe, const int64_t* given, const float* inputs, const void* targets,
           const int64_t* shared, const int64_t* places, float* states, float* flat, float* losses) {
    const Network network = network_of(sizes->layers, (const Given*)given);
    train_networks(*sizes, *recipe, state_size(network), shared, places, states, flat, losses,
                   [=, &network] { return Trainer(*sizes, network, inputs, targets); });
}

void gradients(const Sizes* sizes, const int64_t* given, const float* inputs, const void* targets, float* states, float* flat,
               float* losses) {
    const Network network = network_of(sizes->layers, (const Given*)given);
    find_gradients(*sizes, state_size(network), states, flat, losses,
                   [=, &network] { return Trainer(*sizes, network, inputs, targets); });
}

}  // extern "C"
