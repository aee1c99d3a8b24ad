// Convolution of feature grids with 3x3x3 kernels and zeros around them, on the CPU.
//
// Winograd's minimal filtering F(2x2x2, 3x3x3): the grid is cut into tiles of 2x2x2 results. A tile's 4x4x4 inputs, its
// gradients and the kernels are each turned into 64 numbers a channel; there the convolution is a product, 64 for eight
// results instead of 216.
// Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"

namespace pyimplicit {

constexpr int64_t kTurned = 64;  // numbers that a tile or a kernel is turned into

struct GridSize {
  int64_t d, h, w;

  int64_t cell(int64_t grid, int64_t a, int64_t b, int64_t c) const { return ((grid * d + a) * h + b) * w + c; }
  bool has(int64_t a, int64_t b, int64_t c) const {
    return a >= 0 && a < d && b >= 0 && b < h && c >= 0 && c < w;
  }
};

// The first result of a tile.
struct WinogradTile {
  int64_t grid, d, h, w;
};

struct TiledGrids {
  int64_t batch;
  GridSize size;
  int64_t in, out;  // channels, multiples of 16

  int64_t tiles() const { return batch * ((size.d + 1) / 2) * ((size.h + 1) / 2) * ((size.w + 1) / 2); }

  WinogradTile tile(int64_t index) const {
    const int64_t w = (size.w + 1) / 2, h = (size.h + 1) / 2, d = (size.d + 1) / 2;
    return {index / (w * h * d), index / (w * h) % d * 2, index / w % h * 2, index % w * 2};
  }

  // Tiles that go through all steps together: few enough to stay in the nearer caches, and enough for one reading of
  // the kernels.
  int64_t together() const {
    constexpr int64_t kKept = int64_t(1) << 20;  // bytes
    return std::min<int64_t>(48, std::max<int64_t>(32, kKept / (kTurned * (in + out) * 4) / 8 * 8));
  }

  int64_t pieces() const { return (tiles() + together() - 1) / together(); }

  // From one of the 64 numbers of a piece's tiles to the next. Not a power of two, or all of them would fall to the same
  // few lines of the nearest cache.
  int64_t stride(int64_t channels) const { return together() * channels + 16; }

  int64_t work_size() const { return kTurned * (stride(in) + stride(out)) + out; }
};

struct ConvolveGrids {
  TiledGrids shape;
  const float* grids;    // [B, D, H, W, in]
  const float* kernels;  // [64, in, out], turned
  const float* bias;     // [out], or null
  // outputs
  float* results;  // [B, D, H, W, out]
};

// Gradients of the kernels and of the bias, summed over all tiles.
struct ConvolutionGradients {
  // Tiles are summed up in so many parts, whatever the threads, so that the sum never depends on these.
  int64_t parts() const {
    constexpr int64_t kMemory = int64_t(1) << 25;  // bytes
    return std::min(shape.pieces(), std::min<int64_t>(32, std::max<int64_t>(4, kMemory / (4 * part_size()))));
  }

  int64_t part_size() const { return (kTurned * shape.in + 1) * shape.out; }

  TiledGrids shape;
  const float* grids;      // [B, D, H, W, in]
  const float* gradients;  // [B, D, H, W, out]
  // outputs
  float* kernels;  // [64, in, out], of the turned kernels
  float* bias;     // [out]: the sums of the gradients
};

// In convolution_cpu.cpp. `lanes`: 16 for AVX-512, 8 for AVX2, 4 for what every processor has, 0 for the most it has.
void run_convolution(const ConvolveGrids& kernel, int lanes, Executor executor);
void run_convolution(const ConvolutionGradients& kernel, int lanes, Executor executor);

}  // namespace pyimplicit
