// Linear interpolation of feature grids (D = 3, trilinear) and feature planes (D = 2, bilinear) at query points, and
// its backward pass. Coordinates, corners and padding follow torch.nn.functional.grid_sample: coordinates in [-1, 1],
// x along the last axis.
#pragma once

#include <cmath>

#include "host_device.h"

namespace pyimplicit {

enum class Padding : int { kZeros = 0, kBorder = 1 };

// A feature tensor [B, C, (depth,) height, width] of any memory layout. Axis 0 is x, the last of the tensor.
template <int D>
struct FeatureLayout {
  int64_t batch_stride, channel_stride;
  int64_t stride[D];
  int64_t size[D];
};

// The 2^D neighbours of one point: per axis the lower node, the fraction and whether the coordinate was clamped.
template <typename T, int D>
struct Cell {
  int64_t low[D];
  T fraction[D];
  T scale[D];  // nodes per unit of coordinate; 0 where clamping makes the value constant
  bool finite;

  // `point` and `offset` in [-1, 1] coordinates; align_corners: -1 and 1 are the first and last node, else the edges
  // of the first and last cell.
  PIM_HOST_DEVICE Cell(const T* point, const T* offset, const FeatureLayout<D>& layout, bool align_corners,
                       Padding padding)
      : finite(true) {
    for (int axis = 0; axis < D; ++axis) {
      const T size = T(layout.size[axis]);
      const T coordinate = offset != nullptr ? point[axis] + offset[axis] : point[axis];
      scale[axis] = align_corners ? (size - 1) / 2 : size / 2;
      T node = align_corners ? (coordinate + 1) * scale[axis] : (coordinate + 1) * scale[axis] - T(0.5);
      if (padding == Padding::kBorder && !(node > 0 && node < size - 1)) {
        // Written so that NaN is neither below nor above and stays NaN.
        if (node <= 0 || node >= size - 1) scale[axis] = 0;
        node = node < 0 ? T(0) : node > size - 1 ? size - 1 : node;
      }
      if (!(node > T(-4) && node < size + T(4))) {
        // Out of reach of every node (zeros padding) or NaN: kept out of the integer conversion.
        finite = finite && node == node;
        node = T(-4);
      }
      const T lower = std::floor(node);
      low[axis] = int64_t(lower);
      fraction[axis] = node - lower;
    }
  }

  // Calls visit(position, weight) for each neighbour inside the grid; position counts elements from the batch item.
  template <typename Visit>
  PIM_HOST_DEVICE void neighbours(const FeatureLayout<D>& layout, const Visit& visit) const {
    for (int corner = 0; corner < (1 << D); ++corner) {
      int64_t position = 0;
      T weight = 1;
      bool inside = true;
      for (int axis = 0; axis < D; ++axis) {
        const int upper = (corner >> axis) & 1;
        const int64_t node = low[axis] + upper;
        inside = inside && node >= 0 && node < layout.size[axis];
        position += node * layout.stride[axis];
        weight *= upper ? fraction[axis] : 1 - fraction[axis];
      }
      if (inside) visit(corner, position, weight);
    }
  }
};

// Gathers features at points: out[b, n, k, c] (strides free) for each displaced copy k of each point.
template <typename T, int D>
struct SampleFeatures {
  const T* features;
  FeatureLayout<D> layout;
  int64_t channels;
  const T* points;   // [B, N, D], items of a batch point_stride apart
  const T* offsets;  // [K, D] or null
  int64_t point_count, point_stride, offset_count;
  bool align_corners;
  Padding padding;
  bool accumulate;  // adds to `out` instead of setting it
  // outputs
  T* out;
  int64_t out_batch_stride, out_point_stride, out_offset_stride, out_channel_stride;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t k = i % offset_count, n = i / offset_count % point_count, b = i / offset_count / point_count;
    const Cell<T, D> cell(points + b * point_stride + n * D, offsets != nullptr ? offsets + k * D : nullptr, layout,
                          align_corners, padding);
    T* row = out + b * out_batch_stride + n * out_point_stride + k * out_offset_stride;
    if (!cell.finite) {
      for (int64_t c = 0; c < channels; ++c) row[c * out_channel_stride] = T(NAN);
      return;
    }
    if (!accumulate) {
      for (int64_t c = 0; c < channels; ++c) row[c * out_channel_stride] = 0;
    }
    const T* item = features + b * layout.batch_stride;
    cell.neighbours(layout, [&](int, int64_t position, T weight) {
      const T* from = item + position;
      for (int64_t c = 0; c < channels; ++c) row[c * out_channel_stride] += weight * from[c * layout.channel_stride];
    });
  }
};

// Gradient with respect to the features. Index i owns a block of channels of one batch item and walks over its
// points in order: no two indices write the same place, so the sum needs no atomics and never depends on the threads.
template <typename T, int D>
struct SampleFeaturesBackward {
  static constexpr int64_t kChannelBlock = 8;
  SampleFeatures<T, D> forward;  // `out` is the incoming gradient, read only
  // outputs
  T* grad_features;  // same layout as the features, zeroed by the caller

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const auto& f = forward;
    const int64_t blocks = (f.channels + kChannelBlock - 1) / kChannelBlock;
    const int64_t b = i / blocks, first = i % blocks * kChannelBlock;
    const int64_t last = first + kChannelBlock < f.channels ? first + kChannelBlock : f.channels;
    T* item = grad_features + b * f.layout.batch_stride;
    for (int64_t n = 0; n < f.point_count; ++n) {
      for (int64_t k = 0; k < f.offset_count; ++k) {
        const Cell<T, D> cell(f.points + b * f.point_stride + n * D, f.offsets != nullptr ? f.offsets + k * D : nullptr,
                              f.layout, f.align_corners, f.padding);
        if (!cell.finite) continue;
        const T* row = f.out + b * f.out_batch_stride + n * f.out_point_stride + k * f.out_offset_stride;
        cell.neighbours(f.layout, [&](int, int64_t position, T weight) {
          for (int64_t c = first; c < last; ++c) {
            item[position + c * f.layout.channel_stride] += weight * row[c * f.out_channel_stride];
          }
        });
      }
    }
  }
};

// Gradient with respect to the points; zero along an axis where border padding clamped the coordinate.
template <typename T, int D>
struct SampleFeaturesPointBackward {
  SampleFeatures<T, D> forward;  // `out` is the incoming gradient, read only
  // outputs
  T* grad_points;  // [B, N, D], items of a batch point_stride apart; added to

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const auto& f = forward;
    const int64_t n = i % f.point_count, b = i / f.point_count;
    const T* point = f.points + b * f.point_stride + n * D;
    T gradient[D] = {};
    for (int64_t k = 0; k < f.offset_count; ++k) {
      const Cell<T, D> cell(point, f.offsets != nullptr ? f.offsets + k * D : nullptr, f.layout, f.align_corners,
                            f.padding);
      if (!cell.finite) {
        for (int axis = 0; axis < D; ++axis) gradient[axis] = T(NAN);
        break;
      }
      const T* row = f.out + b * f.out_batch_stride + n * f.out_point_stride + k * f.out_offset_stride;
      const T* item = f.features + b * f.layout.batch_stride;
      cell.neighbours(f.layout, [&](int corner, int64_t position, T) {
        T along = 0;
        for (int64_t c = 0; c < f.channels; ++c) {
          along += row[c * f.out_channel_stride] * item[position + c * f.layout.channel_stride];
        }
        for (int axis = 0; axis < D; ++axis) {
          T slope = ((corner >> axis) & 1) ? cell.scale[axis] : -cell.scale[axis];
          for (int other = 0; other < D; ++other) {
            if (other == axis) continue;
            slope *= ((corner >> other) & 1) ? cell.fraction[other] : 1 - cell.fraction[other];
          }
          gradient[axis] += slope * along;
        }
      });
    }
    T* out = grad_points + b * f.point_stride + n * D;
    for (int axis = 0; axis < D; ++axis) out[axis] += gradient[axis];
  }
};

}  // namespace pyimplicit
