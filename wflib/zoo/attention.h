// What networks of tokens add to convolutions, of so many examples side by side, each a lane of a vector: attention, layer norms
// and learned positions. A value of tokens lies as (features, tokens, lanes), attention's weights as (heads, keys, queries, lanes).
#pragma once

#include "operation.h"

namespace {

constexpr int SIDE = REGISTERS == 16 ? 2 : 4;  // rows of a tile, beside four columns

// A matrix in every lane, whose entry (i, j) is data + (i * row + j * column) vectors.
template <class Number>
struct Lanewise {
    Number* data;
    int64_t row, column;
    auto& operator()(int64_t i, int64_t j) const { return at(data + (i * row + j * column) * LANES); }
};
typedef Lanewise<const float> Read;
typedef Lanewise<float> Written;

template <int R, int C>
inline void product(int64_t i, int64_t j, int64_t depth, float factor, Read a, Read b, Written c) {
    vec sum[R][C] = {};
    for (int64_t k = 0; k < depth; ++k) {
        vec right[C];
        for (int s = 0; s < C; ++s) right[s] = b(k, j + s);
        for (int r = 0; r < R; ++r) {
            const vec left = a(i + r, k);
            for (int s = 0; s < C; ++s) sum[r][s] += left * right[s];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int s = 0; s < C; ++s) c(i + r, j + s) += factor * sum[r][s];
}

template <int R>
void product_rows(int64_t i, int64_t columns, int64_t depth, float factor, Read a, Read b, Written c) {
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) product<R, 4>(i, j, depth, factor, a, b, c);
    for (; j < columns; ++j) product<R, 1>(i, j, depth, factor, a, b, c);
}

// C (rows, columns) += factor A (rows, depth) B (depth, columns), in every lane.
void add_product(int64_t rows, int64_t columns, int64_t depth, float factor, Read a, Read b, Written c) {
    int64_t i = 0;
    for (; i + SIDE <= rows; i += SIDE) product_rows<SIDE>(i, columns, depth, factor, a, b, c);
    for (; i < rows; ++i) product_rows<1>(i, columns, depth, factor, a, b, c);
}

// logits[key, query] = factor Σ keys[w, key] queries[w, query] of every head.
void attention_logits(const Operation& layer, const float* queries, const float* keys, float* to) {
    const int64_t tokens = layer.positions(), width = layer.channels / layer.heads, head = width * tokens * LANES;
    std::fill(to, to + layer.values(), 0.0f);
    for (int64_t h = 0; h < layer.heads; ++h, queries += head, keys += head, to += tokens * tokens * LANES)
        add_product(tokens, tokens, width, layer.number, Read{keys, 1, tokens}, Read{queries, tokens, 1}, Written{to, tokens, 1});
}

void attention_logits_back(const Operation& layer, const float* queries, const float* keys, const float* told, float* to_queries,
                           float* to_keys) {
    const int64_t tokens = layer.positions(), width = layer.channels / layer.heads, head = width * tokens * LANES;
    for (int64_t h = 0; h < layer.heads; ++h, queries += head, keys += head, to_queries += head, to_keys += head) {
        add_product(width, tokens, tokens, layer.number, Read{keys, tokens, 1}, Read{told, tokens, 1}, Written{to_queries, tokens, 1});
        add_product(width, tokens, tokens, layer.number, Read{queries, tokens, 1}, Read{told, 1, tokens}, Written{to_keys, tokens, 1});
        told += tokens * tokens * LANES;
    }
}

// mixed[w, query] = Σ values[w, key] weights[key, query] of every head.
void mix(const Operation& layer, const float* values, const float* weights, float* to) {
    const int64_t tokens = layer.positions(), width = layer.channels / layer.heads, head = width * tokens * LANES;
    std::fill(to, to + layer.values(), 0.0f);
    for (int64_t h = 0; h < layer.heads; ++h, values += head, to += head, weights += tokens * tokens * LANES)
        add_product(width, tokens, tokens, 1, Read{values, tokens, 1}, Read{weights, tokens, 1}, Written{to, tokens, 1});
}

void mix_back(const Operation& layer, const float* values, const float* weights, const float* told, float* to_values,
              float* to_weights) {
    const int64_t tokens = layer.positions(), width = layer.channels / layer.heads, head = width * tokens * LANES;
    for (int64_t h = 0; h < layer.heads; ++h, values += head, told += head, to_values += head) {
        add_product(width, tokens, tokens, 1, Read{told, tokens, 1}, Read{weights, 1, tokens}, Written{to_values, tokens, 1});
        add_product(tokens, tokens, width, 1, Read{values, 1, tokens}, Read{told, tokens, 1}, Written{to_weights, tokens, 1});
        weights += tokens * tokens * LANES, to_weights += tokens * tokens * LANES;
    }
}

// Over keys, of every head and query, of logits times a factor; some is for its own use, twice the numbers of a key.
void softmax(const Operation& layer, const float* from, float* to, float* some) {
    const int64_t keys = layer.channels / layer.heads, numbers = layer.positions() * LANES;
    const float factor = layer.number;
    float *highest = some, *sum = some + numbers;
    for (int64_t h = 0; h < layer.heads; ++h, from += keys * numbers, to += keys * numbers) {
        for (int64_t i = 0; i < keys * numbers; ++i) to[i] = factor * from[i];
        std::memcpy(highest, to, numbers * 4);
        std::fill(sum, sum + numbers, 0.0f);
        for (int64_t k = 1; k < keys; ++k)
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i) highest[i] = std::max(highest[i], to[k * numbers + i]);
        for (int64_t k = 0; k < keys; ++k)
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i) sum[i] += to[k * numbers + i] = exponential(to[k * numbers + i] - highest[i]);
        for (int64_t k = 0; k < keys; ++k)
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i) to[k * numbers + i] /= sum[i];
    }
}

void softmax_back(const Operation& layer, const float* found, const float* told, float* to, float* some) {
    const int64_t keys = layer.channels / layer.heads, numbers = layer.positions() * LANES;
    const float factor = layer.number;
    for (int64_t h = 0; h < layer.heads; ++h, found += keys * numbers, told += keys * numbers, to += keys * numbers) {
        std::fill(some, some + numbers, 0.0f);
        for (int64_t k = 0; k < keys; ++k)
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i) some[i] += found[k * numbers + i] * told[k * numbers + i];
        for (int64_t k = 0; k < keys; ++k)
#pragma omp simd
            for (int64_t i = 0; i < numbers; ++i)
                to[k * numbers + i] += factor * found[k * numbers + i] * (told[k * numbers + i] - some[i]);
    }
}

// A layer norm over features of every token; moments are kept, means before rates.
void layer_norm(const Operation& layer, const float* weights, const float* from, float* to, float* moments) {
    const int64_t numbers = layer.positions() * LANES;
    const float share = 1.0f / layer.channels, epsilon = layer.number;
    float *means = moments, *rates = moments + numbers;
    std::fill(moments, moments + 2 * numbers, 0.0f);
    for (int64_t c = 0; c < layer.channels; ++c)
#pragma omp simd
        for (int64_t i = 0; i < numbers; ++i) means[i] += share * from[c * numbers + i];
    for (int64_t c = 0; c < layer.channels; ++c)
#pragma omp simd
        for (int64_t i = 0; i < numbers; ++i) {
            const float apart = from[c * numbers + i] - means[i];
            rates[i] += share * apart * apart;
        }
#pragma omp simd
    for (int64_t i = 0; i < numbers; ++i) rates[i] = 1 / std::sqrt(rates[i] + epsilon);
    for (int64_t c = 0; c < layer.channels; ++c) {
        const float factor = layer.weight < 0 ? 1 : weights[layer.weight + c], offset = layer.bias < 0 ? 0 : weights[layer.bias + c];
#pragma omp simd
        for (int64_t i = 0; i < numbers; ++i)
            to[c * numbers + i] = (from[c * numbers + i] - means[i]) * rates[i] * factor + offset;
    }
}

void layer_norm_back(const Operation& layer, const float* weights, const float* from, const float* moments, const float* told,
                     float* to, float* gradient, float* some) {
    const int64_t numbers = layer.positions() * LANES;
    const float share = 1.0f / layer.channels, *means = moments, *rates = moments + numbers;
    float *less = some, *along = some + numbers;
    std::fill(some, some + 2 * numbers, 0.0f);
    for (int64_t c = 0; c < layer.channels; ++c) {
        const float factor = share * (layer.weight < 0 ? 1 : weights[layer.weight + c]);
        float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (int64_t i = 0; i < numbers; ++i) {
            const float change = told[c * numbers + i], normal = (from[c * numbers + i] - means[i]) * rates[i];
            sum += change, product += change * normal;
            less[i] += factor * change, along[i] += factor * change * normal;
        }
        if (layer.weight >= 0) gradient[layer.weight + c] += product;
        if (layer.bias >= 0) gradient[layer.bias + c] += sum;
    }
    for (int64_t c = 0; c < layer.channels; ++c) {
        const float factor = layer.weight < 0 ? 1 : weights[layer.weight + c];
#pragma omp simd
        for (int64_t i = 0; i < numbers; ++i) {
            const float normal = (from[c * numbers + i] - means[i]) * rates[i];
            to[c * numbers + i] += rates[i] * (factor * told[c * numbers + i] - less[i] - normal * along[i]);
        }
    }
}

// Adds a learned number to every feature of every token, (tokens, features) in the flat network.
void place(const Operation& layer, const float* weights, const float* from, float* to) {
    for (int64_t c = 0; c < layer.channels; ++c)
        for (int64_t p = 0; p < layer.positions(); ++p, from += LANES, to += LANES)
            at(to) = at(from) + weights[layer.weight + p * layer.channels + c];
}

void place_back(const Operation& layer, const float* told, float* to, float* gradient) {
    for (int64_t c = 0; c < layer.channels; ++c)
        for (int64_t p = 0; p < layer.positions(); ++p, told += LANES, to += LANES) {
            at(to) += at(told);
            gradient[layer.weight + p * layer.channels + c] += total(at(told));
        }
}

}  // namespace
