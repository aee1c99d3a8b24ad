// Features of points pooled over the cells they lie in.
#pragma once

#include <string>
#include <type_traits>

#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "interpolation/scatter.h"

namespace pyimplicit {

// A thread of a GPU takes one item and one channel; one of a CPU takes `items` with all their channels.
inline Tile tile_of(int64_t items, int64_t channels) {
#if defined(__CUDACC__)
  (void)items, (void)channels;
  return {1, 1};
#else
  return {items, channels};
#endif
}

template <typename T>
void scatter_mean(Array<const T> features, Array<const int32_t> cells, Array<const int32_t> order,
                  Array<const int32_t> start, int64_t partitions, int64_t batch, int64_t points, int64_t cell_count,
                  int64_t channels, int64_t partition_stride, int64_t batch_stride, int64_t cell_stride,
                  int64_t channel_stride, Array<T> map, Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  const Tile tile = tile_of(256, channels);
  const ScatterMean<T> kernel = {
      features, groups, channels, {partition_stride, batch_stride, cell_stride, channel_stride}, tile, map};
  parallel_for(partitions * batch * tile.item_tiles(cell_count) * tile.channel_tiles(channels), kernel, executor, 4);
}

template <typename T>
void scatter_mean_backward(Array<const T> grad_map, Array<const int32_t> cells, Array<const int32_t> order,
                           Array<const int32_t> start, int64_t partitions, int64_t batch, int64_t points,
                           int64_t cell_count, int64_t channels, int64_t partition_stride, int64_t batch_stride,
                           int64_t cell_stride, int64_t channel_stride, Array<T> grad_features, Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  const Tile tile = tile_of(256, channels);
  const ScatterMeanBackward<T> kernel = {
      grad_map, groups, channels, {partition_stride, batch_stride, cell_stride, channel_stride}, tile, grad_features};
  parallel_for(batch * tile.item_tiles(points) * tile.channel_tiles(channels), kernel, executor, 2);
}

template <typename T>
void scatter_max(Array<const T> features, Array<const int32_t> cells, Array<const int32_t> order,
                 Array<const int32_t> start, int64_t partitions, int64_t batch, int64_t points, int64_t cell_count,
                 int64_t channels, Array<T> map, Array<int64_t> best, Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  const Tile tile = tile_of(256, channels);
  parallel_for(partitions * batch * tile.item_tiles(cell_count) * tile.channel_tiles(channels),
               ScatterMax<T>{features, groups, channels, tile, map, best}, executor, 4);
}

template <typename T>
void scatter_max_backward(Array<const T> grad_map, Array<const int64_t> best, Array<const int32_t> cells,
                          Array<const int32_t> order, Array<const int32_t> start, int64_t partitions, int64_t batch,
                          int64_t points, int64_t cell_count, int64_t channels, Array<T> grad_features,
                          Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  const Tile tile = tile_of(256, channels);
  parallel_for(batch * tile.item_tiles(points) * tile.channel_tiles(channels),
               ScatterMaxBackward<T>{grad_map, best, groups, channels, tile, grad_features}, executor, 2);
}

// Runs Pool<T, Block> with the largest block that divides the channels and leaves work for every thread.
template <template <typename, int> class Pool, typename T, typename... Arguments>
void run_pool(const CellGroups& groups, int64_t channels, Executor executor, T* out, const Arguments&... arguments) {
#if defined(__CUDACC__)
  for (int64_t k = 0; k < groups.partitions; ++k) {
    parallel_for(groups.batch * groups.points * channels, Pool<T, 1>{arguments..., groups, channels, k, out}, executor);
  }
#else
  const auto run = [&](auto block) {
    constexpr int size = decltype(block)::value;
    parallel_for(groups.batch * (channels / size), Pool<T, size>{arguments..., groups, channels, -1, out}, executor, 1);
  };
  if (channels % 32 == 0 && groups.batch * channels / 32 >= int64_t(executor.handle)) {
    run(std::integral_constant<int, 32>());
  } else if (channels % 8 == 0) {
    run(std::integral_constant<int, 8>());
  } else {
    run(std::integral_constant<int, 1>());
  }
#endif
}

template <typename T>
void pool_local(Array<const T> features, Array<const int32_t> cells, Array<const int32_t> order,
                Array<const int32_t> start, int64_t partitions, int64_t batch, int64_t points, int64_t cell_count,
                int64_t channels, Array<T> pooled, Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  run_pool<PoolLocal>(groups, channels, executor, pooled.data, features.data);
}

template <typename T>
void pool_local_backward(Array<const T> gradient, int64_t gradient_batch_stride, int64_t gradient_point_stride,
                         Array<const T> features, Array<const int32_t> cells, Array<const int32_t> order,
                         Array<const int32_t> start, int64_t partitions, int64_t batch, int64_t points,
                         int64_t cell_count, int64_t channels, Array<T> grad_features, Executor executor) {
  const CellGroups groups = {cells, order, start, partitions, batch, points, cell_count};
  run_pool<PoolLocalBackward>(groups, channels, executor, grad_features.data, gradient.data, gradient_batch_stride,
                              gradient_point_stride, features.data);
}

template <typename T>
void define_scatter_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
  define(m, name("scatter_mean").c_str(), &scatter_mean<T>,
         {"features", "cells", "order", "start", "partitions", "batch", "points", "cell_count", "channels",
          "partition_stride", "batch_stride", "cell_stride", "channel_stride", "map", "executor"});
  define(m, name("scatter_mean_backward").c_str(), &scatter_mean_backward<T>,
         {"grad_map", "cells", "order", "start", "partitions", "batch", "points", "cell_count", "channels",
          "partition_stride", "batch_stride", "cell_stride", "channel_stride", "grad_features", "executor"});
  define(m, name("scatter_max").c_str(), &scatter_max<T>,
         {"features", "cells", "order", "start", "partitions", "batch", "points", "cell_count", "channels", "map",
          "best", "executor"});
  define(m, name("scatter_max_backward").c_str(), &scatter_max_backward<T>,
         {"grad_map", "best", "cells", "order", "start", "partitions", "batch", "points", "cell_count", "channels",
          "grad_features", "executor"});
  define(m, name("pool_local").c_str(), &pool_local<T>,
         {"features", "cells", "order", "start", "partitions", "batch", "points", "cell_count", "channels", "pooled",
          "executor"});
  define(m, name("pool_local_backward").c_str(), &pool_local_backward<T>,
         {"gradient", "gradient_batch_stride", "gradient_point_stride", "features", "cells", "order", "start",
          "partitions", "batch", "points", "cell_count", "channels", "grad_features", "executor"});
}

inline void define_scatter(py::module_& m) {
  define_scatter_for_type<float>(m, "float32");
  define_scatter_for_type<double>(m, "float64");
}

}  // namespace pyimplicit
