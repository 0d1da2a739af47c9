// Training of perceptrons in single precision, one network after another: what compiled_training.py calls.
//
// Whatever a network needs for a step stays in a core's cache. Rows of matrices are padded with zeros to whole vectors. A
// layer's weight lies as (inputs, outputs), or as (outputs, inputs) where that wastes less on padding, its bias behind it.

// Narrow layers waste less of short vectors. Processors with SSE4A, AMD's, take two of eight numbers as fast as one of sixteen.
#if defined(__SSE4A__)
#define SHORT_VECTORS
#endif
#include "training.h"

namespace {

int64_t padded(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

// A layer, and where it lies in the flat vector and in a network's state. No bias has the place -1 in the flat vector.
struct Layer {
    int64_t inputs, outputs, activation, weight, bias;
    int64_t width, place;  // outputs, padded; of the weight in the state
    bool by_outputs;       // (outputs, inputs)

    Layer(const int64_t* given, int64_t place)
        : inputs(given[0]), outputs(given[1]), activation(given[2]), weight(given[3]), bias(given[4]),
          width(padded(given[1])), place(place) {
        const int64_t vectors = padded(inputs) / LANES, sums = 12;  // what adding up a vector costs, in vectors
        by_outputs = outputs * (vectors + sums) < inputs * width / LANES;
    }
    int64_t row() const { return by_outputs ? padded(inputs) : width; }
    int64_t at(int64_t i, int64_t o) const { return place + (by_outputs ? o * row() + i : i * row() + o); }
    int64_t bias_place() const { return place + (by_outputs ? outputs : inputs) * row(); }
    int64_t end() const { return bias_place() + width; }
};

std::vector<Layer> layers_of(int64_t count, const int64_t* given) {
    std::vector<Layer> layers;
    for (int64_t l = 0; l < count; ++l) layers.emplace_back(given + 5 * l, l ? layers.back().end() : 0);
    return layers;
}

int64_t state_size(const std::vector<Layer>& layers) { return (layers.back().end() + 15) / 16 * 16; }

// Rows of a tile of so many vectors: as many as leave registers for what is multiplied.
constexpr int PANEL = 3;
constexpr int64_t DEPTH = 128;  // rows of what is multiplied that stay in the nearest cache
constexpr int rows_of(int vectors) {
    return REGISTERS == 16 ? (vectors == 1 ? 8 : vectors == 2 ? 6 : 4) : (vectors == 1 ? 12 : 8);
}

// Examples of the next batch, brought into the cache line by line while products of this one are computed.
struct Ahead {
    const float* inputs;
    int64_t features;
    const int64_t *order, *end;
    int64_t line = 0;

    void advance() {
        for (int64_t lines = 48; lines > 0 && order < end; --lines) {
            __builtin_prefetch(inputs + *order * features + line, 0, 2);
            line += 16;
            if (line >= features) line = 0, ++order;
        }
    }
};

template <int R, int V>
void panel(int64_t rows, int64_t depth, Left a, const float* b, int64_t b_row, float* c, bool add, Ahead* ahead) {
    for (; rows >= R; rows -= R, a.data += R * a.row, c += R * b_row) {
        if (ahead) ahead->advance();
        tile<R, V>(depth, a, b, b_row, c, b_row, add);
    }
    if constexpr (R > 1)
        if (rows) panel<R / 2, V>(rows, depth, a, b, b_row, c, add, ahead);
}

// C (rows, columns) = A B, or C += A B; B (depth, columns) and C are dense, columns whole vectors.
template <int V = PANEL>
void multiply(int64_t rows, int64_t depth, Left a, const float* b, float* c, int64_t columns, bool add,
              Ahead* ahead = nullptr, int64_t first = 0) {
    for (; first + V * LANES <= columns; first += V * LANES)
        for (int64_t k = 0; k < depth; k += DEPTH)
            panel<rows_of(V), V>(rows, std::min(DEPTH, depth - k), {a.data + k * a.column, a.row, a.column},
                                 b + k * columns + first, columns, c + first, add || k, ahead);
    if constexpr (V > 1)
        if (first < columns) multiply<V - 1>(rows, depth, a, b, c, columns, add, ahead, first);
}

// C (R, O) += A Bᵀ, whose rows are so many numbers long, whole vectors.
template <int R, int O>
inline void dots(int64_t length, const float* a, int64_t a_row, const float* b, float* c, int64_t c_row) {
    vec sum[R][O] = {};
    for (int64_t k = 0; k < length; k += LANES)
        for (int r = 0; r < R; ++r)
            for (int o = 0; o < O; ++o) sum[r][o] += *(const vec*)(a + r * a_row + k) * *(const vec*)(b + o * length + k);
    for (int r = 0; r < R; ++r)
        for (int o = 0; o < O; ++o) c[r * c_row + o] += total(sum[r][o]);
}

// The same for any number of rows and columns.
template <int O>
void multiply_by_outputs(int64_t rows, int64_t columns, int64_t length, const float* a, int64_t a_row, const float* b,
                         float* c, int64_t c_row, Ahead* ahead) {
    constexpr int R = REGISTERS == 16 ? 2 : 4;
    for (; columns >= O; columns -= O, b += O * length, c += O) {
        int64_t m = 0;
        for (; m + R <= rows; m += R) {
            if (ahead) ahead->advance();
            dots<R, O>(length, a + m * a_row, a_row, b, c + m * c_row, c_row);
        }
        for (; m < rows; ++m) dots<1, O>(length, a + m * a_row, a_row, b, c + m * c_row, c_row);
    }
    if constexpr (O > 1)
        if (columns) multiply_by_outputs<1>(rows, columns, length, a, a_row, b, c, c_row, ahead);
}

int64_t widest(const std::vector<Layer>& layers) {
    int64_t most = 0;
    for (const Layer& layer : layers) most = std::max(most, layer.width);
    return most;
}

// Numbers of the largest weight behind the first layer's.
int64_t largest(const std::vector<Layer>& layers) {
    int64_t most = 1;
    for (size_t l = 1; l < layers.size(); ++l) most = std::max(most, layers[l].outputs * layers[l - 1].width);
    return most;
}

// One thread's work on networks of one kind.
struct Trainer {
    const Sizes& sizes;
    const std::vector<Layer>& layers;
    const float* inputs;
    const void* targets;
    int64_t features, row, outputs, rows;
    Lines batch, gradient, across, classes;
    Lines changes[2];
    std::vector<Lines> values, slopes;

    Trainer(const Sizes& sizes, const std::vector<Layer>& layers, const float* inputs, const void* targets)
        : sizes(sizes), layers(layers), inputs(inputs), targets(targets), features(layers[0].inputs),
          row(padded(features)), outputs(layers.back().outputs), rows(padded(sizes.batch)), batch(sizes.batch * row),
          gradient(state_size(layers)), across(largest(layers)), classes((outputs + 2) * rows),
          changes{Lines(sizes.batch * widest(layers)), Lines(sizes.batch * widest(layers))} {
        for (const Layer& layer : layers) {
            values.emplace_back(sizes.batch * layer.width);
            slopes.emplace_back(sizes.batch * layer.width);
        }
    }

    void gather(const int64_t* order) {
        for (int64_t m = 0; m < sizes.batch; ++m)
            std::memcpy(batch + m * row, inputs + order[m] * features, features * 4);
    }

    void forward(const float* weights, Ahead& ahead) {
        Left from{batch, row, 1};
        for (size_t l = 0; l < layers.size(); ++l) {
            const Layer& layer = layers[l];
            const float *weight = weights + layer.place, *bias = weights + layer.bias_place();
            Ahead* next = l ? nullptr : &ahead;
            for (int64_t m = 0; m < sizes.batch; ++m) std::memcpy(values[l] + m * layer.width, bias, layer.width * 4);
            if (layer.by_outputs)
                multiply_by_outputs<5>(sizes.batch, layer.outputs, layer.row(), from.data, from.row, weight, values[l],
                                       layer.width, next);
            else
                multiply(sizes.batch, layer.inputs, from, weight, values[l], layer.width, true, next);
            activate(layer.activation, sizes.batch * layer.width, values[l], slopes[l]);
            from = {values[l], layer.width, 1};
        }
    }

    // Mean loss of the batch; its gradient at the outputs goes to changes[0].
    float loss(const int64_t* order) {
        const int64_t width = layers.back().width, count = sizes.batch;
        const float *found = values.back(), scale = 1.0f / count;
        float total = 0, *change = changes[0];
        std::fill(change, change + count * width, 0.0f);
        if (!sizes.classify) {
            const float* wanted = (const float*)targets;
            for (int64_t m = 0; m < count; ++m)
                for (int64_t c = 0; c < outputs; ++c) {
                    const float difference = found[m * width + c] - wanted[order[m] * outputs + c];
                    total += difference * difference;
                    change[m * width + c] = difference * (scale / outputs);
                }
            return 0.5f * total * scale / outputs;
        }
        // One row a class, so that vectors run along the examples.
        for (int64_t m = 0; m < count; ++m)
            for (int64_t c = 0; c < outputs; ++c) classes[c * rows + m] = found[m * width + c];
        float* highest = classes + outputs * rows;
        total = class_losses(outputs, rows, count, classes, highest, highest + rows, (const int64_t*)targets, order, scale);
        for (int64_t m = 0; m < count; ++m)
            for (int64_t c = 0; c < outputs; ++c) change[m * width + c] = classes[c * rows + m];
        return total * scale;
    }

    void backward(const float* weights, Ahead& ahead) {
        float *change = changes[0], *next = changes[1];
        for (int64_t l = layers.size() - 1; l >= 0; --l) {
            const Layer& layer = layers[l];
            const int64_t width = layer.width, count = sizes.batch;
            slope_down(layer.activation, count * width, slopes[l], change);
            float *to_weight = gradient + layer.place, *to_bias = gradient + layer.bias_place();
            const float* from = l ? values[l - 1] : batch;
            const int64_t before = l ? layers[l - 1].width : row;
            if (layer.by_outputs)
                multiply(layer.outputs, count, {change, 1, width}, from, to_weight, before, false, l ? nullptr : &ahead);
            else
                multiply(layer.inputs, count, {from, 1, before}, change, to_weight, width, false, l ? nullptr : &ahead);
            if (layer.bias >= 0) {
                static const float one = 1;
                multiply(1, count, {&one, 0, 0}, change, to_bias, width, false);
            }
            if (!l) break;
            const float* weight = weights + layer.place;
            if (!layer.by_outputs) {
                for (int64_t i = 0; i < layer.inputs; ++i)
                    for (int64_t o = 0; o < layer.outputs; ++o) across[o * before + i] = weight[i * width + o];
                for (int64_t o = 0; o < layer.outputs; ++o)
                    std::fill(across + o * before + layer.inputs, across + (o + 1) * before, 0.0f);
                weight = across;
            }
            multiply(count, layer.outputs, {change, width, 1}, weight, next, before, false);
            std::swap(change, next);
        }
    }

    float step(const float* weights, const int64_t* order, const int64_t* end) {
        const int64_t* next = order + sizes.batch;
        Ahead ahead{inputs, features, next, std::min(next + sizes.batch, end)};
        gather(order);
        forward(weights, ahead);
        const float found = loss(order);
        backward(weights, ahead);
        return found;
    }

    void settle(float*) const {}

    void keep(const float* weights, float* kept) const {
        for (const Layer& layer : layers)
            for (int64_t o = 0; o < layer.outputs; ++o) {
                for (int64_t i = 0; i < layer.inputs; ++i)
                    kept[layer.weight + o * layer.inputs + i] = weights[layer.at(i, o)];
                if (layer.bias >= 0) kept[layer.bias + o] = weights[layer.bias_place() + o];
            }
    }
};

}  // namespace

extern "C" {

// Numbers of one network's weights as a network's state holds them, padded.
int64_t state_numbers(int64_t count, const int64_t* given) { return state_size(layers_of(count, given)); }

// Flat networks (networks, dimension) → states (networks, slots, numbers), whose other slots are left.
void pack(int64_t networks, int64_t count, int64_t dimension, int64_t slots, const int64_t* given, const float* flat,
          float* states) {
    const auto layers = layers_of(count, given);
    const int64_t numbers = state_size(layers);
    for (int64_t n = 0; n < networks; ++n, flat += dimension, states += slots * numbers)
        for (const Layer& layer : layers)
            for (int64_t o = 0; o < layer.outputs; ++o) {
                for (int64_t i = 0; i < layer.inputs; ++i)
                    states[layer.at(i, o)] = flat[layer.weight + o * layer.inputs + i];
                if (layer.bias >= 0) states[layer.bias_place() + o] = flat[layer.bias + o];
            }
}

// One epoch, or the beginning of one. shared (steps × batch): an order of examples for all networks, or none; places (steps):
// where in flat (networks, kept, dimension) weights after a step go, or -1; losses (networks): of the last batch.
void train(const Sizes* sizes, const Recipe* recipe, const int64_t* given, const float* inputs, const void* targets,
           const int64_t* shared, const int64_t* places, float* states, float* flat, float* losses) {
    const auto layers = layers_of(sizes->layers, given);
    train_networks(*sizes, *recipe, state_size(layers), shared, places, states, flat, losses,
                   [=, &layers] { return Trainer(*sizes, layers, inputs, targets); });
}

// Gradients flat (networks, dimension) and losses (networks) of a batch that are all examples.
void gradients(const Sizes* sizes, const int64_t* given, const float* inputs, const void* targets, float* states, float* flat,
               float* losses) {
    const auto layers = layers_of(sizes->layers, given);
    find_gradients(*sizes, state_size(layers), states, flat, losses,
                   [=, &layers] { return Trainer(*sizes, layers, inputs, targets); });
}

}  // extern "C"
