// Convolutions and pooling of so many examples side by side, each a lane of a vector: values lie as (channels, rows, columns, lanes).
#pragma once

#include "operation.h"

namespace {

constexpr int OUTPUTS = REGISTERS == 16 ? 4 : 8;  // of a tile, beside so many positions or entries of the kernel
constexpr int POSITIONS = REGISTERS == 16 ? 2 : 3;
constexpr int ENTRIES = REGISTERS == 16 ? 2 : 3;

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

}  // namespace
