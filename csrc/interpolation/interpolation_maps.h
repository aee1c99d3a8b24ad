// What interpolation reads and writes: maps of features, the cell of a map that a point lies in with the weights of its
// nodes, and the rows of the points. Coordinates, corners and padding follow torch.nn.functional.grid_sample:
// coordinates in [-1, 1], x along the last axis.
#pragma once

#include "base/half_types.h"
#include "base/host_device.h"

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

  int64_t nodes() const {
    int64_t count = 1;
    for (int axis = 0; axis < D; ++axis) count *= size[axis];
    return count;
  }
  // Whether the channels of a node lie next to each other in memory.
  bool in_rows() const { return channel_stride == 1 || channels <= 1; }
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

  // Corners of all copies of a batch item's points, on each map.
  int64_t visits() const { return point_count * offset_count << D; }

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

}  // namespace pyimplicit
