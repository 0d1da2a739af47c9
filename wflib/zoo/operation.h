// One operation of a network of images, as compiled_layers.py tells of it.
#pragma once

#include "training.h"

namespace {

enum Kind : int64_t {
    CONVOLVE, POOL, ACTIVATE, NORMALIZE, ADD, AVERAGE,  // of images
    NORMALIZE_FEATURES, PLACE, LOGITS, SOFTMAX, MIX,    // of tokens, which are positions
};

// Tensors are places in a flat network, -1 for none. The number is a norm's epsilon, or what a softmax or its logits multiply.
struct Given {
    int64_t kind, from, other, activation, weight, bias, mean, variance;
    int64_t channels, height, width, outputs, kernel[2], stride[2], padding[2], heads;
    double number;
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
    // Numbers of the other value: attention's weights, or as many as inputs.
    int64_t others() const { return kind == MIX ? heads * positions() * positions() * LANES : inputs(); }
    int64_t values() const { return outputs * positions() * LANES; }
    // Numbers of its weight.
    int64_t weights() const {
        return outputs * (kind == CONVOLVE ? entries : kind == PLACE ? positions() : 1);
    }
    // What it keeps of a vector for its gradient: slopes, or moments.
    int64_t kept() const { return kind == ACTIVATE ? values() : kind == NORMALIZE_FEATURES ? 2 * positions() * LANES : 0; }
    // Where in the padded input a position's patch begins.
    int64_t patch(int64_t row, int64_t column) const {
        return (row * stride[0] * padded_width + column * stride[1]) * LANES;
    }
    // Of a row of a channel's own pixels in the padded input.
    int64_t pixels(int64_t channel, int64_t row) const {
        return ((channel * padded_height + row + padding[0]) * padded_width + padding[1]) * LANES;
    }
};

inline vec& at(float* place) { return *(vec*)place; }
inline const vec& at(const float* place) { return *(const vec*)place; }

}  // namespace
