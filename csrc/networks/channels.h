// What normalisations do with tables [S, N, C] of features, channels last: moments and sums of products of each channel of
// each shape, and linear functions of the features with factors of their own for each. On the CPU only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/parallel.h"

namespace pyimplicit {

// Tables are worked on in pieces of rows of one shape, the same whatever the threads.
struct ChannelTable {
  int64_t shapes, rows, channels;

  int64_t rows_each() const { return std::max<int64_t>(1, (int64_t(1) << 16) / channels); }
  int64_t pieces_each() const { return (rows + rows_each() - 1) / rows_each(); }
  int64_t pieces() const { return shapes * pieces_each(); }

  struct Piece {
    int64_t shape, first, count;  // rows of it
  };
  Piece piece(int64_t index) const {
    const int64_t shape = index / pieces_each(), first = index % pieces_each() * rows_each();
    return {shape, first, std::min(rows_each(), rows - first)};
  }

  // Short rows are taken several at a time, as one line with repeated factors.
  int64_t together() const {
    int64_t several = 1;
    while (several * channels < 64) several *= 2;
    return several;
  }
};

// Mean and variance of each channel of each shape, of what a ReLU lets through if `relu`.
template <typename T>
struct ChannelMoments {
  ChannelTable table;
  const T* values;  // [S, N, C]
  bool relu;
  // outputs
  double* mean;      // [S, C]
  double* variance;  // [S, C]
};

// Sums of gradients, and of gradients times (value - center). Where `gate` is given, gradients count where it is above 0.
template <typename T>
struct ChannelProducts {
  ChannelTable table;
  const T* gradients;  // [S, N, C]
  const T* values;     // [S, N, C]
  const T* center;     // [S, C]
  const T* gate;       // [S, N, C], or null
  bool relu;           // of the values
  // outputs
  double* sums;      // [S, C]
  double* products;  // [S, C]
};

// scale * value + shift
template <typename T>
struct ChannelAffine {
  ChannelTable table;
  const T* values;  // [S, N, C]
  const T* scale;   // [S, C]
  const T* shift;   // [S, C]
  bool relu;         // of the values
  bool relu_result;
  // outputs
  T* results;  // [S, N, C]
};

// scale * gradient + slope * value + shift; 0 where `relu` and the value is not above 0, gradients as `gate` has them.
template <typename T>
struct ChannelAffineGradient {
  ChannelTable table;
  const T* gradients;  // [S, N, C]
  const T* values;     // [S, N, C]
  const T* gate;       // [S, N, C], or null
  const T* scale;      // [S, C]
  const T* slope;      // [S, C]
  const T* shift;      // [S, C]
  bool relu;
  // outputs
  T* results;  // [S, N, C]
};

// In channels_cpu.cpp, for float and double. `plain`: for every processor, not for the best that this one has; the tests
// compare the two.
template <typename T>
void run_channels(const ChannelMoments<T>& kernel, bool plain, Executor executor);
template <typename T>
void run_channels(const ChannelProducts<T>& kernel, bool plain, Executor executor);
template <typename T>
void run_channels(const ChannelAffine<T>& kernel, bool plain, Executor executor);
template <typename T>
void run_channels(const ChannelAffineGradient<T>& kernel, bool plain, Executor executor);

}  // namespace pyimplicit
