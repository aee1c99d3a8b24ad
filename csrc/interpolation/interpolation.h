// Linear interpolation of feature grids (D = 3, trilinear) and feature planes (D = 2, bilinear) at query points, its
// derivatives, and theirs.
//
// Three kernels are all there is: features gathered at points, rows scattered to features, and the slope along the
// points. Each takes an optional tangent of the points; the weights of the nodes are then replaced by their
// derivative along it. The derivatives of the three are the three again, which is how second derivatives are had.
#pragma once

#include <cmath>

#include "base/host_device.h"
#include "interpolation/interpolation_maps.h"

namespace pyimplicit {

// Features at points. Index: a block of channels of a displaced copy of a point.
template <typename M, typename R, int D>
struct GatherFeatures {
  using T = typename Sampling<M, R, D>::T;
  Sampling<M, R, D> s;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t blocks = s.blocks(s.sum);
    const int64_t k = i / blocks % s.offset_count, n = i / blocks / s.offset_count % s.point_count;
    const int64_t b = i / blocks / s.offset_count / s.point_count;
    int64_t first, last;
    int map;
    s.locate(i % blocks, s.kChannelBlock, &map, &first, &last);
    const int end = s.sum ? s.map_count : map + 1;
    T sum[Sampling<M, R, D>::kChannelBlock] = {};
    for (int m = map; m < end; ++m) {
      const auto& features = s.maps[m];
      const Cell<T, D> cell = s.cell(m, b, n, k);
      const T* tangent = s.tangent_at(m, b, n);
      for (int corner = 0; corner < (1 << D); ++corner) {
        int64_t position;
        if (!cell.inside(corner, features.size, features.stride, &position)) continue;
        const T weight = cell.weight(corner, tangent);
        const M* from = features.data + b * features.batch_stride + position;
        for (int64_t c = first; c < last; ++c) sum[c - first] += weight * T(from[c * features.channel_stride]);
      }
      for (int64_t c = 0; !cell.finite && c < last - first; ++c) sum[c] = T(NAN);
    }
    R* row = s.row(b, n, k) + s.maps[map].start * s.row_channel_stride;
    for (int64_t c = first; c < last; ++c) row[c * s.row_channel_stride] = R(sum[c - first]);
  }
};

// Adds weight times rows to the maps, which are gradients here: zeroed by the caller and of the type that sums are
// kept in. Points that are NaN add nothing.
template <typename R, int D>
struct ScatterFeatures {
  using T = typename AccumulatorOf<R>::Type;
  Sampling<T, R, D> s;

  // One corner of one copy of one point.
  template <typename Add>
  PIM_HOST_DEVICE void add_corner(int map, int64_t b, int64_t n, int64_t k, const Cell<T, D>& cell, int corner,
                                  int64_t first, int64_t last, const Add& add) const {
    const auto& gradient = s.maps[map];
    int64_t position;
    if (!cell.finite || !cell.inside(corner, gradient.size, gradient.stride, &position)) return;
    const T weight = cell.weight(corner, s.tangent_at(map, b, n));
    T* to = gradient.data + b * gradient.batch_stride + position;
    const R* row = s.row(b, n, k) + gradient.start * s.row_channel_stride;
    for (int64_t c = first; c < last; ++c) {
      add(to + c * gradient.channel_stride, weight * T(row[c * s.row_channel_stride]));
    }
  }
};

// Index: a block of channels of a displaced copy of a point. Sums in no order: for GPUs.
template <typename R, int D>
struct ScatterAtomically {
  using T = typename AccumulatorOf<R>::Type;
  ScatterFeatures<R, D> scatter;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const auto& s = scatter.s;
    const int64_t blocks = s.blocks(false);
    const int64_t k = i / blocks % s.offset_count, n = i / blocks / s.offset_count % s.point_count;
    const int64_t b = i / blocks / s.offset_count / s.point_count;
    int64_t first, last;
    int map;
    s.locate(i % blocks, s.kChannelBlock, &map, &first, &last);
    const Cell<T, D> cell = s.cell(map, b, n, k);
    for (int corner = 0; corner < (1 << D); ++corner) {
      scatter.add_corner(map, b, n, k, cell, corner, first, last, [](T* to, T value) {
#if defined(__CUDA_ARCH__)
        atomicAdd(to, value);
#else
        *to += value;
#endif
      });
    }
  }
};

// Index: a block of channels of a batch item, over all its points in their order. Nobody else writes there.
template <typename R, int D>
struct ScatterInOrder {
  using T = typename AccumulatorOf<R>::Type;
  ScatterFeatures<R, D> scatter;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const auto& s = scatter.s;
    const int64_t blocks = s.blocks(false), b = i / blocks;
    int64_t first, last;
    int map;
    s.locate(i % blocks, s.kChannelBlock, &map, &first, &last);
    for (int64_t n = 0; n < s.point_count; ++n) {
      for (int64_t k = 0; k < s.offset_count; ++k) {
        const Cell<T, D> cell = s.cell(map, b, n, k);
        for (int corner = 0; corner < (1 << D); ++corner) {
          scatter.add_corner(map, b, n, k, cell, corner, first, last, [](T* to, T value) { *to += value; });
        }
      }
    }
  }
};

// The cell of one map that each copy of each point lies in, as a number; -1 for those that touch no node.
template <typename R, int D>
struct CellKeys {
  using T = typename AccumulatorOf<R>::Type;
  Sampling<T, R, D> s;
  int map;
  // outputs
  int64_t* keys;  // [B, N, K]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t k = i % s.offset_count, n = i / s.offset_count % s.point_count;
    const int64_t b = i / s.offset_count / s.point_count;
    const Cell<T, D> cell = s.cell(map, b, n, k);
    int64_t key = b;
    bool touches = cell.finite;
    for (int axis = D - 1; axis >= 0; --axis) {
      touches = touches && cell.low[axis] >= -1 && cell.low[axis] < s.maps[map].size[axis];
      key = key * (s.maps[map].size[axis] + 1) + cell.low[axis] + 1;
    }
    keys[i] = touches ? key : -1;
  }
};

// Index: a block of channels of a place in the order of cells; the first place of each cell adds up the whole cell, for
// one corner. In a pass for one corner no two cells write the same node, so the sum has an order: that of the points.
template <typename R, int D>
struct ScatterSegments {
  using T = typename AccumulatorOf<R>::Type;
  ScatterFeatures<R, D> scatter;
  int map, corner;
  const int64_t* keys;   // sorted
  const int64_t* order;  // copies of points in the order of keys
  int64_t count;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const auto& s = scatter.s;
    const int64_t block = s.kChannelBlock, blocks = (s.maps[map].channels + block - 1) / block, start = i / blocks;
    if (keys[start] < 0 || (start > 0 && keys[start - 1] == keys[start])) return;
    const int64_t first = i % blocks * block;
    const int64_t last = first + block < s.maps[map].channels ? first + block : s.maps[map].channels;
    for (int64_t at = start; at < count && keys[at] == keys[start]; ++at) {
      const int64_t k = order[at] % s.offset_count, n = order[at] / s.offset_count % s.point_count;
      const int64_t b = order[at] / s.offset_count / s.point_count;
      scatter.add_corner(map, b, n, k, s.cell(map, b, n, k), corner, first, last, [](T* to, T value) { *to += value; });
    }
  }
};

// Gradient with respect to the points, of rows times features; zero along an axis where border padding clamped the
// coordinate. Index: a point.
template <typename M, typename R, int D>
struct SlopeAtPoints {
  using T = typename Sampling<M, R, D>::T;
  Sampling<M, R, D> s;
  // outputs
  T* gradient;  // laid out as the points

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t n = i % s.point_count, b = i / s.point_count;
    T total[D] = {};
    for (int m = 0; m < s.map_count; ++m) {
      const auto& features = s.maps[m];
      const T* tangent = s.tangent_at(m, b, n);
      for (int64_t k = 0; k < s.offset_count; ++k) {
        const Cell<T, D> cell = s.cell(m, b, n, k);
        const R* row = s.row(b, n, k) + features.start * s.row_channel_stride;
        for (int corner = 0; corner < (1 << D); ++corner) {
          int64_t position;
          if (!cell.inside(corner, features.size, features.stride, &position)) continue;
          const M* from = features.data + b * features.batch_stride + position;
          T along = 0;
          for (int64_t c = 0; c < features.channels; ++c) {
            along += T(row[c * s.row_channel_stride]) * T(from[c * features.channel_stride]);
          }
          for (int axis = 0; axis < D; ++axis) total[axis] += along * cell.weight_slope(corner, axis, tangent);
        }
        for (int axis = 0; !cell.finite && axis < D; ++axis) total[axis] = T(NAN);
      }
      if (s.point_map_stride == 0 && m < s.map_count - 1) continue;
      for (int axis = 0; axis < D; ++axis) {
        gradient[s.place(m, b, n) + axis] = total[axis];
        total[axis] = 0;
      }
    }
  }
};

}  // namespace pyimplicit
