// Training of small convolutional networks in single precision, one after another: what compiled_training.py calls.
//
// Values lie as (channels, rows, columns, examples), as many examples as a vector has numbers: a step takes a batch vector by
// vector, and what so few examples need stays in a core's cache. A layer is a convolution, an activation, and max pooling
// before or behind it; an affine map is a convolution whose kernel covers its input.

#include "training.h"

namespace {

constexpr int OUTPUTS = REGISTERS == 16 ? 4 : 8;  // of a tile, beside so many positions or entries of the kernel
constexpr int POSITIONS = REGISTERS == 16 ? 2 : 3;
constexpr int ENTRIES = REGISTERS == 16 ? 2 : 3;
constexpr int FIELDS = 16;

struct Layer {
    int64_t channels, outputs, activation, weight, bias;  // the last two: places in a flat network; -1 is no bias
    int64_t height, width, kernel[2], stride[2], padding[2], pool[2], pooled_first;  // then activated
    int64_t padded_height, padded_width, rows, columns, pooled_rows, pooled_columns, entries;
    std::vector<int64_t> offsets;  // from a position in the padded input to what each entry of the kernel meets

    explicit Layer(const int64_t* given)
        : channels(given[0]), outputs(given[1]), activation(given[2]), weight(given[3]), bias(given[4]), height(given[5]),
          width(given[6]), kernel{given[7], given[8]}, stride{given[9], given[10]}, padding{given[11], given[12]},
          pool{given[13], given[14]}, pooled_first(given[15]), padded_height(height + 2 * padding[0]),
          padded_width(width + 2 * padding[1]),
          rows((padded_height - kernel[0]) / stride[0] + 1), columns((padded_width - kernel[1]) / stride[1] + 1),
          pooled_rows(rows / pool[0]), pooled_columns(columns / pool[1]), entries(channels * kernel[0] * kernel[1]) {
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t y = 0; y < kernel[0]; ++y)
                for (int64_t x = 0; x < kernel[1]; ++x)
                    offsets.push_back(((c * padded_height + y) * padded_width + x) * LANES);
    }
    bool pools() const { return pool[0] * pool[1] > 1; }
    bool pads() const { return padding[0] + padding[1] > 0; }
    int64_t positions() const { return rows * columns; }
    int64_t inputs() const { return channels * padded_height * padded_width * LANES; }
    int64_t found() const { return outputs * positions() * LANES; }
    int64_t values() const { return outputs * pooled_rows * pooled_columns * LANES; }
    int64_t activated() const { return pooled_first ? values() : found(); }
    // Where in the padded input a position's patch begins.
    int64_t patch(int64_t row, int64_t column) const {
        return (row * stride[0] * padded_width + column * stride[1]) * LANES;
    }
    // Of a row of a channel's own pixels in the padded input.
    int64_t pixels(int64_t channel, int64_t row) const {
        return ((channel * padded_height + row + padding[0]) * padded_width + padding[1]) * LANES;
    }
};

std::vector<Layer> layers_of(int64_t count, const int64_t* given) {
    std::vector<Layer> layers;
    for (int64_t l = 0; l < count; ++l) layers.emplace_back(given + FIELDS * l);
    return layers;
}

int64_t state_size(const std::vector<Layer>& layers) {
    int64_t end = 0;
    for (const Layer& layer : layers)
        end = std::max({end, layer.weight + layer.outputs * layer.entries, layer.bias + layer.outputs});
    return (end + 15) / 16 * 16;
}

inline vec& at(float* place) { return *(vec*)place; }
inline const vec& at(const float* place) { return *(const vec*)place; }

// Outputs of a convolution, R of them at P positions of one row; across is the weight as (entries, outputs).
template <int R, int P>
inline void meet(const Layer& layer, const float* from, const float* across, const float* bias, float* to) {
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
void meet_row(const Layer& layer, int64_t columns, const float* from, const float* across, const float* bias, float* to) {
    for (; columns >= P; columns -= P, from += P * layer.stride[1] * LANES, to += P * LANES)
        meet<R, P>(layer, from, across, bias, to);
    if constexpr (P > 1)
        if (columns) meet_row<R, P - 1>(layer, columns, from, across, bias, to);
}

template <int R = OUTPUTS>
void convolve(const Layer& layer, const float* from, const float* across, const float* bias, float* to, int64_t first = 0) {
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
void weigh(const Layer& layer, int64_t first, int64_t entry, const float* from, const float* change, float* gradient) {
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
void weigh_entries(const Layer& layer, int64_t first, int64_t entry, const float* from, const float* change, float* gradient) {
    for (; entry + T <= layer.entries; entry += T) weigh<R, T>(layer, first, entry, from, change, gradient);
    if constexpr (T > 1)
        if (entry < layer.entries) weigh_entries<R, T - 1>(layer, first, entry, from, change, gradient);
}

template <int R = OUTPUTS>
void weigh_all(const Layer& layer, const float* from, const float* change, float* gradient, int64_t first = 0) {
    for (; first + R <= layer.outputs; first += R) weigh_entries<R, ENTRIES>(layer, first, 0, from, change, gradient);
    if constexpr (R > 1)
        if (first < layer.outputs) weigh_all<R / 2>(layer, from, change, gradient, first);
}

// Adds to the padded input's gradient what outputs tell it, R at a time.
template <int R = OUTPUTS>
void spread(const Layer& layer, const float* change, const float* across, float* to, int64_t first = 0) {
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

// What a layer computes for a vector of examples. Where nothing is padded or pooled, buffers are those of its neighbours.
struct Workspace {
    Lines input, found, values, slopes, across;
    std::vector<int32_t> largest;  // which of a window's values it is

    Workspace(const Layer& layer, bool first)
        : input(first || layer.pads() ? layer.inputs() : 0), found(layer.pools() ? layer.found() : 0),
          values(layer.values()), slopes(layer.activated()), across(layer.outputs * layer.entries),
          largest(layer.pools() ? layer.values() : 0) {}
};

// Maxima of windows; ties go to the first of them and whatever is no number is the largest, as in torch.
void pool(const Layer& layer, const float* found, float* values, int32_t* largest) {
    for (int64_t o = 0; o < layer.outputs; ++o)
        for (int64_t row = 0; row < layer.pooled_rows; ++row)
            for (int64_t column = 0; column < layer.pooled_columns; ++column, values += LANES, largest += LANES) {
                const float* window =
                    found + ((o * layer.rows + row * layer.pool[0]) * layer.columns + column * layer.pool[1]) * LANES;
                std::memcpy(values, window, LANES * 4);
                std::fill(largest, largest + LANES, 0);
                for (int64_t j = 1; j < layer.pool[0] * layer.pool[1]; ++j) {
                    const float* other = window + (j / layer.pool[1] * layer.columns + j % layer.pool[1]) * LANES;
#pragma omp simd
                    for (int i = 0; i < LANES; ++i) {
                        const bool larger = other[i] > values[i] || other[i] != other[i];
                        values[i] = larger ? other[i] : values[i];
                        largest[i] = larger ? (int32_t)j : largest[i];
                    }
                }
            }
}

void unpool(const Layer& layer, const float* change, const int32_t* largest, float* to) {
    std::fill(to, to + layer.found(), 0.0f);
    for (int64_t o = 0; o < layer.outputs; ++o)
        for (int64_t row = 0; row < layer.pooled_rows; ++row)
            for (int64_t column = 0; column < layer.pooled_columns; ++column, change += LANES, largest += LANES) {
                float* window =
                    to + ((o * layer.rows + row * layer.pool[0]) * layer.columns + column * layer.pool[1]) * LANES;
                for (int64_t j = 0; j < layer.pool[0] * layer.pool[1]; ++j) {
                    float* other = window + (j / layer.pool[1] * layer.columns + j % layer.pool[1]) * LANES;
#pragma omp simd
                    for (int i = 0; i < LANES; ++i) other[i] = largest[i] == (int32_t)j ? change[i] : 0.0f;
                }
            }
}

// One thread's work on networks of one kind.
struct Trainer {
    const Sizes& sizes;
    const std::vector<Layer>& layers;
    const float* inputs;
    const void* targets;
    int64_t features, outputs;
    std::vector<Workspace> spaces;
    Lines gradient, change, next, unpooled, classes;

    Trainer(const Sizes& sizes, const std::vector<Layer>& layers, const float* inputs, const void* targets, int64_t most)
        : sizes(sizes), layers(layers), inputs(inputs), targets(targets),
          features(layers[0].channels * layers[0].height * layers[0].width), outputs(layers.back().outputs),
          gradient(state_size(layers)), change(most), next(most), unpooled(most), classes(2 * LANES) {
        for (const Layer& layer : layers) spaces.emplace_back(layer, &layer == &layers.front());
    }

    float* input(size_t l) { return l && !layers[l].pads() ? spaces[l - 1].values : spaces[l].input; }
    float* found(size_t l) { return layers[l].pools() ? spaces[l].found : spaces[l].values; }

    // For examples that are missing from the last vector of a batch its first stands in, of which nothing is told: values
    // that are as finite as its own.
    void gather(const int64_t* order, int64_t count) {
        const Layer& layer = layers[0];
        float* to = spaces[0].input;
        for (int64_t c = 0, f = 0; c < layer.channels; ++c)
            for (int64_t row = 0; row < layer.height; ++row, f += layer.width)
                for (int i = 0; i < LANES; ++i) {
                    float* pixel = to + layer.pixels(c, row) + i;
                    const float* example = inputs + order[i < count ? i : 0] * features + f;
                    for (int64_t x = 0; x < layer.width; ++x) pixel[x * LANES] = example[x];
                }
    }

    void forward(const float* weights) {
        for (size_t l = 0; l < layers.size(); ++l) {
            const Layer& layer = layers[l];
            if (l && layer.pads())
                for (int64_t c = 0; c < layer.channels; ++c)
                    for (int64_t row = 0; row < layer.height; ++row)
                        std::memcpy(input(l) + layer.pixels(c, row),
                                    spaces[l - 1].values + (c * layer.height + row) * layer.width * LANES,
                                    layer.width * LANES * 4);
            convolve(layer, input(l), spaces[l].across, layer.bias < 0 ? nullptr : weights + layer.bias, found(l));
            const auto act = [&](float* x) { activate(layer.activation, layer.activated(), x, spaces[l].slopes); };
            if (!layer.pooled_first) act(found(l));
            if (layer.pools()) pool(layer, found(l), spaces[l].values, spaces[l].largest.data());
            if (layer.pooled_first) act(spaces[l].values);
        }
    }

    // Sum of losses; the gradient of their mean over the batch at the outputs goes to change.
    float loss(const int64_t* order, int64_t count) {
        const float* found = spaces.back().values;
        const float scale = 1.0f / sizes.batch;
        std::memcpy(change, found, outputs * LANES * 4);
        float sum = 0;
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

    void backward() {
        for (int64_t l = layers.size() - 1; l >= 0; --l) {
            const Layer& layer = layers[l];
            float* told = layer.pools() ? unpooled : change;
            if (layer.pooled_first) slope_down(layer.activation, layer.activated(), spaces[l].slopes, change);
            if (layer.pools()) unpool(layer, change, spaces[l].largest.data(), told);
            if (!layer.pooled_first) slope_down(layer.activation, layer.activated(), spaces[l].slopes, told);
            weigh_all(layer, input(l), told, gradient + layer.weight);
            if (layer.bias >= 0)
                for (int64_t o = 0; o < layer.outputs; ++o) {
                    vec sum = {};
                    for (int64_t p = 0; p < layer.positions(); ++p) sum += at(told + (o * layer.positions() + p) * LANES);
                    gradient[layer.bias + o] += total(sum);
                }
            if (!l) break;
            std::fill(next + 0, next + layer.inputs(), 0.0f);
            spread(layer, told, spaces[l].across, next);
            for (int64_t c = 0; c < layer.channels; ++c)
                for (int64_t row = 0; row < layer.height; ++row)
                    std::memcpy(change + (c * layer.height + row) * layer.width * LANES, next + layer.pixels(c, row),
                                layer.width * LANES * 4);
        }
    }

    float step(const float* weights, const int64_t* order, const int64_t*) {
        for (size_t l = 0; l < layers.size(); ++l)
            for (int64_t o = 0; o < layers[l].outputs; ++o)
                for (int64_t k = 0; k < layers[l].entries; ++k)
                    spaces[l].across[k * layers[l].outputs + o] = weights[layers[l].weight + o * layers[l].entries + k];
        std::fill(gradient + 0, gradient + state_size(layers), 0.0f);
        float sum = 0;
        for (int64_t first = 0; first < sizes.batch; first += LANES) {
            const int64_t count = std::min<int64_t>(LANES, sizes.batch - first);
            gather(order + first, count);
            forward(weights);
            sum += loss(order + first, count);
            backward();
        }
        return sum / sizes.batch;
    }

    void keep(const float* weights, float* kept) const { std::memcpy(kept, weights, sizes.dimension * 4); }
};

}  // namespace

extern "C" {

// Numbers of one network's weights as a network's state holds them: a flat network's, padded.
int64_t state_numbers(int64_t count, const int64_t* given) { return state_size(layers_of(count, given)); }

// Flat networks (networks, dimension) → states (networks, slots, numbers), whose other slots are left.
void pack(int64_t networks, int64_t count, int64_t dimension, int64_t slots, const int64_t* given, const float* flat,
          float* states) {
    const int64_t numbers = state_numbers(count, given);
    for (int64_t n = 0; n < networks; ++n) std::memcpy(states + n * slots * numbers, flat + n * dimension, dimension * 4);
}

// As in perceptrons.cpp.
void train(const Sizes* sizes, const Recipe* recipe, const int64_t* given, const float* inputs, const void* targets,
           const int64_t* places, float* states, float* flat, float* losses) {
    const auto layers = layers_of(sizes->layers, given);
    int64_t most = 0;
    for (const Layer& layer : layers) most = std::max({most, layer.inputs(), layer.found(), layer.values()});
    train_networks(*sizes, *recipe, state_size(layers), places, states, flat, losses,
                   [=, &layers] { return Trainer(*sizes, layers, inputs, targets, most); });
}

}  // extern "C"
