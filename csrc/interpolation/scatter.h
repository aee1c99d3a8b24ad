// Points gathered in cells: the mean or maximum of their features a cell, the maximum of each point's own cell, and
// the derivatives. Cells come grouped (GroupCells), so whoever writes a place finds all that goes into it: no atomics,
// and sums run in the order of the points.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/host_device.h"

namespace pyimplicit {

// K partitions of space, each of which puts every point of B clouds into one of its cells.
struct CellGroups {
  const int32_t* cells;  // [K, B, N] cell of each point
  const int32_t* order;  // [K, B, N] points, cell after cell, those of a cell in the cloud's order
  const int32_t* start;  // [K, B, cell_count + 1] where the points of each cell start in `order`
  int64_t partitions, batch, points, cell_count;

  struct Row {
    const int32_t* cells;
    const int32_t* order;
    const int32_t* start;
  };
  PIM_HOST_DEVICE Row row(int64_t k, int64_t b) const {
    const int64_t at = k * batch + b;
    return {cells + at * points, order + at * points, start + at * (cell_count + 1)};
  }
};

// Counting sort of one cloud's points, for the CPU: index i is a row of the K B.
struct GroupCells {
  const int32_t* cells;  // [K B, N]
  int64_t points, cell_count;
  // outputs
  int32_t* order;  // [K B, N]
  int32_t* start;  // [K B, cell_count + 1]

  void operator()(int64_t i) const {
    const int32_t* cell = cells + i * points;
    int32_t* const first = start + i * (cell_count + 1);
    for (int64_t c = 0; c <= cell_count; ++c) first[c] = 0;
    for (int64_t n = 0; n < points; ++n) ++first[cell[n]];
    int32_t before = 0;
    for (int64_t c = 0; c <= cell_count; ++c) {
      before += first[c];
      first[c] = before;
    }
    // `first` holds the ends; from behind, so that taking the places down to the starts keeps the points' order.
    for (int64_t n = points - 1; n >= 0; --n) order[i * points + --first[cell[n]]] = int32_t(n);
  }
};

// How much one index of a kernel does: a thread of a GPU little, so that there are many, one of a CPU much.
struct Tile {
  int64_t items, channels;
  PIM_HOST_DEVICE int64_t item_tiles(int64_t count) const { return (count + items - 1) / items; }
  PIM_HOST_DEVICE int64_t channel_tiles(int64_t count) const { return (count + channels - 1) / channels; }
};

// Strides of a map [K, B, cell, channel] in elements, whatever its order in memory.
struct MapStrides {
  int64_t partition, batch, cell, channel;
};

// Index i is a row of K B, a tile of its cells and a tile of its channels.
template <typename T>
struct ScatterMean {
  const T* features;  // [B, N, C]
  CellGroups groups;
  int64_t channels;
  MapStrides strides;
  Tile tile;
  // outputs
  T* map;  // mean of each cell, 0 where it is empty

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t tiles = tile.channel_tiles(channels), chunks = tile.item_tiles(groups.cell_count);
    const int64_t c0 = i % tiles * tile.channels, first = i / tiles % chunks * tile.items, at = i / tiles / chunks;
    const int64_t c1 = c0 + tile.channels < channels ? c0 + tile.channels : channels;
    const int64_t last = first + tile.items < groups.cell_count ? first + tile.items : groups.cell_count;
    const int64_t k = at / groups.batch, b = at % groups.batch;
    const CellGroups::Row row = groups.row(k, b);
    const T* const from = features + b * groups.points * channels;
    T* const to = map + k * strides.partition + b * strides.batch;
    clear(to, first, last, c0, c1);
    for (int64_t p = row.start[first], end = 0; p < row.start[last]; p = end) {
      const int64_t cell = row.cells[row.order[p]];
      end = row.start[cell + 1];
      T* const mean = to + cell * strides.cell;
      for (int64_t m = p; m < end; ++m) {
        const T* const point = from + row.order[m] * channels;
        for (int64_t c = c0; c < c1; ++c) mean[c * strides.channel] += point[c];
      }
      if (end - p == 1) continue;
      for (int64_t c = c0; c < c1; ++c) mean[c * strides.channel] /= T(end - p);
    }
  }

  // Along whichever axis lies side by side in memory.
  PIM_HOST_DEVICE void clear(T* to, int64_t first, int64_t last, int64_t c0, int64_t c1) const {
    if (strides.channel == 1) {
      for (int64_t cell = first; cell < last; ++cell) {
        for (int64_t c = c0; c < c1; ++c) to[cell * strides.cell + c] = 0;
      }
      return;
    }
    for (int64_t c = c0; c < c1; ++c) {
      for (int64_t cell = first; cell < last; ++cell) to[cell * strides.cell + c * strides.channel] = 0;
    }
  }
};

// Index i is a cloud, a tile of its points and a tile of the channels.
template <typename T>
struct ScatterMeanBackward {
  const T* grad_map;
  CellGroups groups;
  int64_t channels;
  MapStrides strides;
  Tile tile;
  // outputs
  T* grad_features;  // [B, N, C]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t tiles = tile.channel_tiles(channels), chunks = tile.item_tiles(groups.points);
    const int64_t c0 = i % tiles * tile.channels, first = i / tiles % chunks * tile.items, b = i / tiles / chunks;
    const int64_t c1 = c0 + tile.channels < channels ? c0 + tile.channels : channels;
    const int64_t last = first + tile.items < groups.points ? first + tile.items : groups.points;
    for (int64_t k = 0; k < groups.partitions; ++k) {
      const CellGroups::Row row = groups.row(k, b);
      const T* const map = grad_map + k * strides.partition + b * strides.batch;
      for (int64_t n = first; n < last; ++n) {
        const int64_t cell = row.cells[n];
        const T size = T(row.start[cell + 1] - row.start[cell]);
        const T* const from = map + cell * strides.cell;
        T* const to = grad_features + (b * groups.points + n) * channels;
        for (int64_t c = c0; c < c1; ++c) {
          const T part = from[c * strides.channel] / size;
          to[c] = k == 0 ? part : to[c] + part;
        }
      }
    }
  }
};

// Whether `value` replaces `best`: NaN counts as the largest of all, the first of equals stays.
template <typename T>
PIM_HOST_DEVICE inline bool replaces(T value, T best) {
  return !(value <= best) && best == best;
}

// Index i is a row of K B, a tile of its cells and a tile of its channels.
template <typename T>
struct ScatterMax {
  const T* features;  // [B, N, C]
  CellGroups groups;
  int64_t channels;
  Tile tile;
  // outputs
  T* map;         // [K, B, cell_count, C] maximum of each cell, 0 where it is empty
  int64_t* best;  // [K, B, cell_count, C] the first point that has it, -1 where it is empty

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t tiles = tile.channel_tiles(channels), chunks = tile.item_tiles(groups.cell_count);
    const int64_t c0 = i % tiles * tile.channels, first = i / tiles % chunks * tile.items, at = i / tiles / chunks;
    const int64_t c1 = c0 + tile.channels < channels ? c0 + tile.channels : channels;
    const int64_t last = first + tile.items < groups.cell_count ? first + tile.items : groups.cell_count;
    const int64_t b = at % groups.batch;
    const CellGroups::Row row = groups.row(at / groups.batch, b);
    const T* const from = features + b * groups.points * channels;
    for (int64_t cell = first; cell < last; ++cell) {
      T* const value = map + (at * groups.cell_count + cell) * channels;
      int64_t* const where = best + (at * groups.cell_count + cell) * channels;
      const int64_t begin = row.start[cell], end = row.start[cell + 1];
      for (int64_t c = c0; c < c1; ++c) {
        value[c] = begin < end ? from[row.order[begin] * channels + c] : T(0);
        where[c] = begin < end ? row.order[begin] : -1;
      }
      for (int64_t p = begin + 1; p < end; ++p) {
        const int64_t n = row.order[p];
        for (int64_t c = c0; c < c1; ++c) {
          const T candidate = from[n * channels + c];
          if (!replaces(candidate, value[c])) continue;
          value[c] = candidate;
          where[c] = n;
        }
      }
    }
  }
};

// Index i is a cloud, a tile of its points and a tile of the channels.
template <typename T>
struct ScatterMaxBackward {
  const T* grad_map;    // [K, B, cell_count, C]
  const int64_t* best;  // [K, B, cell_count, C]
  CellGroups groups;
  int64_t channels;
  Tile tile;
  // outputs
  T* grad_features;  // [B, N, C]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t tiles = tile.channel_tiles(channels), chunks = tile.item_tiles(groups.points);
    const int64_t c0 = i % tiles * tile.channels, first = i / tiles % chunks * tile.items, b = i / tiles / chunks;
    const int64_t c1 = c0 + tile.channels < channels ? c0 + tile.channels : channels;
    const int64_t last = first + tile.items < groups.points ? first + tile.items : groups.points;
    for (int64_t k = 0; k < groups.partitions; ++k) {
      const CellGroups::Row row = groups.row(k, b);
      for (int64_t n = first; n < last; ++n) {
        const int64_t at = ((k * groups.batch + b) * groups.cell_count + row.cells[n]) * channels;
        T* const to = grad_features + (b * groups.points + n) * channels;
        for (int64_t c = c0; c < c1; ++c) {
          const T part = best[at + c] == n ? grad_map[at + c] : T(0);
          to[c] = k == 0 ? part : to[c] + part;
        }
      }
    }
  }
};

// The cells that hold points, of one cloud under one partition, for kernels that go from cell to cell and over K
// partitions after each other. On a CPU index i is a cloud and a block of its channels, and the partitions are a loop;
// on a GPU it is a cloud, one of N places in its order and a channel, each partition is a launch of its own, and the
// place does something where a cell starts.
template <int Block, typename Visit>
PIM_HOST_DEVICE inline void visit_cells(const CellGroups& groups, int64_t channels, int64_t only_partition, int64_t i,
                                        const Visit& visit) {
  const int64_t blocks = channels / Block;
  const int64_t channel = i % blocks * Block;
  if (only_partition >= 0) {
    const int64_t p = i / blocks % groups.points, b = i / blocks / groups.points;
    const CellGroups::Row row = groups.row(only_partition, b);
    const int64_t cell = row.cells[row.order[p]];
    if (row.start[cell] == p) visit(only_partition, b, row.order + p, row.start[cell + 1] - p, channel);
    return;
  }
  const int64_t b = i / blocks;
  for (int64_t k = 0; k < groups.partitions; ++k) {
    const CellGroups::Row row = groups.row(k, b);
    for (int64_t p = 0, end = 0; p < groups.points; p = end) {
      end = row.start[row.cells[row.order[p]] + 1];
      visit(k, b, row.order + p, end - p, channel);
    }
  }
}

// For each point, the maximum over the points of its cell, summed over the partitions. Block divides the channels.
template <typename T, int Block>
struct PoolLocal {
  const T* features;  // [B, N, C]
  CellGroups groups;
  int64_t channels;
  int64_t only_partition;  // -1: all
  // outputs
  T* pooled;  // [B, N, C]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    visit_cells<Block>(groups, channels, only_partition, i,
                       [&](int64_t k, int64_t b, const int32_t* members, int64_t count, int64_t channel) {
      const int64_t base = b * groups.points * channels + channel;
      T best[Block];
      const T* const first = features + base + members[0] * channels;
      for (int c = 0; c < Block; ++c) best[c] = first[c];
      for (int64_t m = 1; m < count; ++m) {
        const T* const from = features + base + members[m] * channels;
        for (int c = 0; c < Block; ++c) best[c] = replaces(from[c], best[c]) ? from[c] : best[c];
      }
      for (int64_t m = 0; m < count; ++m) {
        T* const to = pooled + base + members[m] * channels;
        for (int c = 0; c < Block; ++c) to[c] = k == 0 ? best[c] : to[c] + best[c];
      }
    });
  }
};

// The gradient of a cell goes to the first of its points that has the maximum, which is found again.
template <typename T, int Block>
struct PoolLocalBackward {
  const T* gradient;  // of [B, N, C], channels side by side
  int64_t gradient_batch_stride, gradient_point_stride;
  const T* features;  // [B, N, C]
  CellGroups groups;
  int64_t channels;
  int64_t only_partition;  // -1: all
  // outputs
  T* grad_features;  // [B, N, C]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    visit_cells<Block>(groups, channels, only_partition, i,
                       [&](int64_t k, int64_t b, const int32_t* members, int64_t count, int64_t channel) {
      const int64_t base = b * groups.points * channels + channel;
      const T* const upstream = gradient + b * gradient_batch_stride + channel;
      T best[Block], sum[Block];
      int32_t where[Block];
      const T* const first = features + base + members[0] * channels;
      const T* const first_gradient = upstream + members[0] * gradient_point_stride;
      for (int c = 0; c < Block; ++c) {
        best[c] = first[c];
        sum[c] = first_gradient[c];
        where[c] = members[0];
      }
      for (int64_t m = 1; m < count; ++m) {
        const int32_t n = members[m];
        const T* const from = features + base + n * channels;
        const T* const part = upstream + n * gradient_point_stride;
        for (int c = 0; c < Block; ++c) {
          const bool better = replaces(from[c], best[c]);
          best[c] = better ? from[c] : best[c];
          where[c] = better ? n : where[c];
          sum[c] += part[c];
        }
      }
      T* const to = grad_features + base;
      if (k == 0) {
        for (int64_t m = 0; m < count; ++m) {
          for (int c = 0; c < Block; ++c) to[members[m] * channels + c] = 0;
        }
      }
      for (int c = 0; c < Block; ++c) to[where[c] * channels + c] += sum[c];
    });
  }
};

}  // namespace pyimplicit
