// What kernels share: products of small matrices in tiles that fill a processor's registers, functions that compilers turn
// into vectors of them, and threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// Numbers of a vector; who includes this may ask for SHORT_VECTORS where there is a choice.
#if defined(__AVX512F__) && !defined(SHORT_VECTORS)
constexpr int LANES = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4;
#else
constexpr int LANES = 8;
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

// A matrix whose element (i, k) is data[i * row + k * column].
struct Left {
    const float* data;
    int64_t row, column;
};

// C (R, V vectors) = A B, or C += A B; rows of B (depth, …) and C are b_row and c_row apart.
template <int R, int V>
inline void tile(int64_t depth, Left a, const float* b, int64_t b_row, float* c, int64_t c_row, bool add) {
    vec sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = add ? *(const vec*)(c + r * c_row + v * LANES) : vec{};
    for (int64_t k = 0; k < depth; ++k) {
        vec right[V];
        for (int v = 0; v < V; ++v) right[v] = *(const vec*)(b + k * b_row + v * LANES);
        for (int r = 0; r < R; ++r) {
            const float left = a.data[r * a.row + k * a.column];
            for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) *(vec*)(c + r * c_row + v * LANES) = sum[r][v];
}

// e^x for x ≤ 0 to two units in the last place, by a polynomial after Cephes; 0 below -87.
inline float exponential(float given) {
    const float x = std::max(given, -87.0f);
    const float n = std::nearbyint(x * 1.44269504f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
    const int32_t exponent = ((int32_t)n + 127) << 23;
    float power;
    std::memcpy(&power, &exponent, 4);
    return given < -87.0f ? 0.0f : (p * r * r + r + 1) * power;
}

// x Φ(x) and its derivative Φ(x) + x φ(x), with erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
inline void gelu(float x, float& value, float& slope) {
    const float z = std::fabs(x) * 0.70710678f, t = 1 / (1 + 0.3275911f * z), density = exponential(-z * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f, p = p * t + 1.421413741f, p = p * t - 0.284496736f, p = p * t + 0.254829592f;
    const float tail = 0.5f * p * t * density, share = x < 0 ? tail : 1 - tail;
    value = x * share;
    slope = share + 0.39894228f * x * density;
}

// Whatever is asked of each network, shared among threads: work(first network, last network).
template <class Work>
void share_networks(int64_t networks, int64_t threads, Work work) {
    threads = std::max<int64_t>(1, std::min(threads, networks));
    std::vector<std::thread> others;
    others.reserve(threads);
    int64_t first = 0;
    for (int64_t i = 1; i < threads; ++i) {
        const int64_t last = networks * i / threads;
        try {
            others.emplace_back(work, first, last);
        } catch (const std::system_error&) {
            break;  // no more threads on this machine: what is left is done here
        }
        first = last;
    }
    work(first, networks);
    for (auto& thread : others) thread.join();
}

}  // namespace
