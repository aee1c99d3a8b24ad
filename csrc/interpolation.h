// Linear interpolation of feature grids (D = 3, trilinear) and feature planes (D = 2, bilinear) at query points, its
// derivatives, and theirs. Coordinates, corners and padding follow torch.nn.functional.grid_sample: coordinates in
// [-1, 1], x along the last axis.
//
// Three kernels are all there is: features gathered at points, rows scattered to features, and the slope along the
// points. Each takes an optional tangent of the points; the weights of the nodes are then replaced by their
// derivative along it. The derivatives of the three are the three again, which is how second derivatives are had.
#pragma once

#include <cmath>

#include "half_types.h"
#include "host_device.h"

namespace pyimplicit {

enum class Padding : int { kZeros = 0, kBorder = 1 };

// Features [B, C, (depth,) height, width] of any memory layout. Axis 0 is x, the last of the tensor.
template <typename M, int D>
struct FeatureMap {
  M* data;
  int64_t channels, batch_stride, channel_stride;
  int64_t size[D];
  int64_t stride[D];
  int64_t start;  // channels before this map's in a row
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
  PIM_HOST_DEVICE Cell(const T* point, const T* offset, const int64_t* sizes, bool align_corners, Padding padding)
      : finite(true) {
    for (int axis = 0; axis < D; ++axis) {
      const T size = T(sizes[axis]);
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
      low[axis] = int64_t(node + 4) - 4;  // the floor, because node + 4 is not negative
      if (T(low[axis]) > node) --low[axis];  // where the addition rounded up
      fraction[axis] = node - T(low[axis]);
    }
  }

  PIM_HOST_DEVICE T factor(int corner, int axis) const {
    return ((corner >> axis) & 1) ? fraction[axis] : 1 - fraction[axis];
  }

  // Derivative of a corner's weight along one axis of the point.
  PIM_HOST_DEVICE T slope(int corner, int axis) const {
    T slope = ((corner >> axis) & 1) ? scale[axis] : -scale[axis];
    for (int other = 0; other < D; ++other) {
      if (other != axis) slope *= factor(corner, other);
    }
    return slope;
  }

  // Weight of a corner; with a tangent, the weight's derivative along it.
  PIM_HOST_DEVICE T weight(int corner, const T* tangent) const {
    if (tangent == nullptr) {
      T weight = 1;
      for (int axis = 0; axis < D; ++axis) weight *= factor(corner, axis);
      return weight;
    }
    T weight = 0;
    for (int axis = 0; axis < D; ++axis) weight += tangent[axis] * slope(corner, axis);
    return weight;
  }

  // Derivative of `weight` along one axis of the point.
  PIM_HOST_DEVICE T weight_slope(int corner, int axis, const T* tangent) const {
    if (tangent == nullptr) return slope(corner, axis);
    T sum = 0;  // a weight is linear in each coordinate: no second derivative along one and the same axis
    for (int other = 0; other < D; ++other) {
      if (other == axis) continue;
      T both = ((corner >> axis) & 1) ? scale[axis] : -scale[axis];
      both *= ((corner >> other) & 1) ? scale[other] : -scale[other];
      for (int third = 0; third < D; ++third) {
        if (third != axis && third != other) both *= factor(corner, third);
      }
      sum += tangent[other] * both;
    }
    return sum;
  }

  // Whether a corner is a node of the map, and how many elements it is from the batch item's first.
  PIM_HOST_DEVICE bool inside(int corner, const int64_t* sizes, const int64_t* strides, int64_t* position) const {
    int64_t at = 0;
    bool inside = true;
    for (int axis = 0; axis < D; ++axis) {
      const int64_t node = low[axis] + ((corner >> axis) & 1);
      inside = inside && node >= 0 && node < sizes[axis];
      at += node * strides[axis];
    }
    *position = at;
    return inside;
  }
};

// Some maps, the points to look at them, and a row of features for each displaced copy of each point. M: what the maps
// are stored as; R: what the rows are stored as. A row holds the maps' channels one after the other, or with `sum`
// their sum.
template <typename M, typename R, int D>
struct Sampling {
  using T = typename AccumulatorOf<R>::Type;
  static constexpr int kMostMaps = 16;
  static constexpr int64_t kChannelBlock = 4;  // 16 bytes of float32: what a GPU's thread reads at once

  FeatureMap<M, D> maps[kMostMaps];
  int map_count;
  const T* points;   // [B, N, D], or [B, maps, N, D]
  const T* tangent;  // laid out as the points, or null
  const T* offsets;  // [K, D] or null
  int64_t point_count, point_batch_stride, point_map_stride, offset_count;
  bool align_corners, sum;
  Padding padding;
  R* rows;
  int64_t row_batch_stride, row_point_stride, row_offset_stride, row_channel_stride;

  PIM_HOST_DEVICE int64_t place(int map, int64_t b, int64_t n) const {
    return b * point_batch_stride + map * point_map_stride + n * D;
  }
  PIM_HOST_DEVICE Cell<T, D> cell(int map, int64_t b, int64_t n, int64_t k) const {
    return Cell<T, D>(points + place(map, b, n), offsets != nullptr ? offsets + k * D : nullptr, maps[map].size,
                      align_corners, padding);
  }
  PIM_HOST_DEVICE const T* tangent_at(int map, int64_t b, int64_t n) const {
    return tangent != nullptr ? tangent + place(map, b, n) : nullptr;
  }
  PIM_HOST_DEVICE R* row(int64_t b, int64_t n, int64_t k) const {
    return rows + b * row_batch_stride + n * row_point_stride + k * row_offset_stride;
  }

  // Blocks of channels, counted over all maps or, for gathering a sum, over one.
  PIM_HOST_DEVICE int64_t blocks(bool of_sum, int64_t block_size = kChannelBlock) const {
    int64_t count = 0;
    for (int m = 0; m < (of_sum ? 1 : map_count); ++m) count += (maps[m].channels + block_size - 1) / block_size;
    return count;
  }
  PIM_HOST_DEVICE void locate(int64_t block, int64_t block_size, int* map, int64_t* first, int64_t* last) const {
    int m = 0;
    for (; m < map_count - 1; ++m) {
      const int64_t own = (maps[m].channels + block_size - 1) / block_size;
      if (block < own) break;
      block -= own;
    }
    *map = m;
    *first = block * block_size;
    *last = *first + block_size < maps[m].channels ? *first + block_size : maps[m].channels;
  }
};

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
