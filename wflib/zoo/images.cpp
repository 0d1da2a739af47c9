// Training of small networks of images in single precision, one after another: what compiled_training.py calls.
//
// A network is a list of operations on values, of which the first are its inputs and each operation makes one more. Values lie as
// (channels, rows, columns, examples), as many examples as a vector has numbers: a step takes a batch vector by vector, or where
// batch norms need them all in one go, and what so few examples need stays in a core's cache. An affine map is a convolution
// whose kernel covers its input, or one of its positions if these are tokens.

#include "attention.h"
#include "convolution.h"

namespace {

constexpr float MOMENTUM = 0.1f;  // of running statistics, as in torch

typedef std::vector<Operation> Network;

Network network_of(int64_t count, const Given* given) { return Network(given, given + count); }

int64_t state_size(const Network& network) {
    int64_t end = 0;
    for (const Operation& operation : network) {
        end = std::max(end, operation.weight + operation.weights());
        for (int64_t place : {operation.bias, operation.mean, operation.variance})
            end = std::max(end, place + operation.outputs);
    }
    return (end + 15) / 16 * 16;
}

int64_t largest_padded(const Network& network) {
    int64_t most = 0;
    for (const Operation& layer : network) most = std::max(most, layer.pads() ? layer.padded() : 0);
    return most;
}

// Numbers of the largest channel.
int64_t largest_channel(const Network& network) {
    int64_t most = 0;
    for (const Operation& layer : network) most = std::max(most, layer.positions() * LANES);
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
    Lines gradient, some, spread_out;
    std::vector<Lines> own_values, own_changes, padded, kept, across;
    std::vector<float*> values, changes;  // a value and its gradient, vector by vector
    std::vector<std::vector<int32_t>> largest;
    std::vector<Norm> norms;

    Trainer(const Sizes& sizes, const Network& network, const float* inputs, const void* targets)
        : sizes(sizes), network(network), inputs(inputs), targets(targets), features(network[0].inputs() / LANES),
          outputs(network.back().outputs), vectors(vectors_of(network, sizes.batch)), gradient(state_size(network)),
          some(2 * largest_channel(network)), spread_out(largest_padded(network)) {
        add_value(network[0].inputs());
        for (const Operation& layer : network) {
            if (layer.kind == ACTIVATE) {  // in place: nothing else reads what it changes
                values.push_back(values[layer.from]);
                changes.push_back(changes[layer.from]);
            } else
                add_value(layer.values());
            padded.emplace_back(layer.pads() ? vectors * layer.padded() : 0);
            kept.emplace_back(vectors * layer.kept());
            across.emplace_back(layer.kind == CONVOLVE ? layer.weights() : 0);
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
        const float *from = values[layer.from] + v * layer.inputs(), *other = values[layer.other] + v * layer.others();
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
                return activate(layer.activation, layer.values(), to, kept[l] + v * layer.kept());
            case NORMALIZE:
                for (int64_t p = 0; p < layer.channels * layer.positions(); ++p) {
                    const int64_t c = p / layer.positions();
                    at(to + p * LANES) = norms[l].offsets[c] + at(from + p * LANES) * norms[l].factors[c];
                }
                return;
            case ADD:
                for (int64_t p = 0; p < layer.values(); p += LANES) at(to + p) = at(from + p) + at(other + p);
                return;
            case AVERAGE: {
                const int64_t all = layer.height * layer.width;
                for (int64_t c = 0; c < layer.channels; ++c) {
                    vec sum = {};
                    for (int64_t p = 0; p < all; ++p) sum += at(from + (c * all + p) * LANES);
                    at(to + c * LANES) = sum / (float)all;
                }
                return;
            }
            case NORMALIZE_FEATURES:
                return layer_norm(layer, weights, from, to, kept[l] + v * layer.kept());
            case PLACE:
                return place(layer, weights, from, to);
            case LOGITS:
                return attention_logits(layer, from, other, to);
            case SOFTMAX:
                return softmax(layer, from, to, some);
            case MIX:
                return mix(layer, from, other, to);
        }
    }

    void backward(size_t l, int64_t v, const float* weights) {
        const Operation& layer = network[l];
        const float *x = values[layer.from] + v * layer.inputs(), *y = values[layer.other] + v * layer.others();
        const float* told = changes[l + 1] + v * layer.values();
        float *from = changes[layer.from] + v * layer.inputs(), *other = changes[layer.other] + v * layer.others();
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
                return slope_down(layer.activation, layer.values(), kept[l] + v * layer.kept(), from);
            case ADD:
                for (int64_t p = 0; p < layer.values(); p += LANES) at(from + p) += at(told + p), at(other + p) += at(told + p);
                return;
            case AVERAGE: {
                const int64_t all = layer.height * layer.width;
                for (int64_t p = 0; p < layer.channels * all; ++p)
                    at(from + p * LANES) += at(told + p / all * LANES) / (float)all;
                return;
            }
            case NORMALIZE_FEATURES:
                return layer_norm_back(layer, weights, x, kept[l] + v * layer.kept(), told, from, gradient, some);
            case PLACE:
                return place_back(layer, told, from, gradient);
            case LOGITS:
                return attention_logits_back(layer, x, y, told, from, other);
            case SOFTMAX:
                return softmax_back(layer, values[l + 1] + v * layer.values(), told, from, some);
            case MIX:
                return mix_back(layer, x, y, told, from, other);
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
            norm.means[c] = mean, norm.rates[c] = 1 / std::sqrt(variance + (float)layer.number);
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
            sum = class_losses(outputs, LANES, count, change, some, some + LANES, (const int64_t*)targets, order, scale);
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
                for (int64_t v = 0; v < used; ++v) backward(l, v, weights);
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
