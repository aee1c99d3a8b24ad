// Interpolation of features at points, and its derivatives.
#pragma once

#include <string>

#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "interpolation/interpolation_run.h"

namespace pyimplicit {

// Sizes, strides and addresses of the maps, in the order in which pyimplicit/ops/_interpolation_kernels.py lists them.
template <typename M, typename R, int D>
Sampling<M, R, D> sampling_of(const int64_t* at, const typename AccumulatorOf<R>::Type* points,
                              const typename AccumulatorOf<R>::Type* tangent,
                              const typename AccumulatorOf<R>::Type* offsets, R* rows) {
  Sampling<M, R, D> s = {};
  s.points = points;
  s.tangent = tangent;
  s.offsets = offsets;
  s.rows = rows;
  s.map_count = int(*at++);
  s.point_count = *at++;
  s.point_batch_stride = *at++;
  s.point_map_stride = *at++;
  s.offset_count = *at++;
  s.align_corners = *at++ != 0;
  s.padding = Padding(*at++);
  s.sum = *at++ != 0;
  s.row_batch_stride = *at++;
  s.row_point_stride = *at++;
  s.row_offset_stride = *at++;
  s.row_channel_stride = *at++;
  for (int m = 0; m < s.map_count && m < s.kMostMaps; ++m) {
    s.maps[m].data = reinterpret_cast<M*>(*at++);
    s.maps[m].channels = *at++;
    s.maps[m].start = *at++;
    s.maps[m].batch_stride = *at++;
    s.maps[m].channel_stride = *at++;
    for (int axis = 0; axis < D; ++axis) s.maps[m].size[axis] = *at++;
    for (int axis = 0; axis < D; ++axis) s.maps[m].stride[axis] = *at++;
  }
  return s;
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void gather_features(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                     Array<const T> offsets, Array<S> rows, int lanes, Executor executor) {
  run_gather(sampling_of<S, S, D>(layout, points, tangent, offsets, rows), batch, lanes, executor);
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void scatter_features(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                      Array<const T> offsets, Array<S> rows, int lanes, Executor executor) {
  run_scatter<S, D>(sampling_of<T, S, D>(layout, points, tangent, offsets, rows), batch, lanes, executor);
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void slope_at_points(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                     Array<const T> offsets, Array<S> rows, int lanes, Array<T> gradient, Executor executor) {
  run_slope(sampling_of<S, S, D>(layout, points, tangent, offsets, rows), batch, lanes, gradient.data, executor);
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void cell_keys(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> offsets, int map,
               Array<int64_t> keys, Executor executor) {
  const CellKeys<S, D> kernel = {sampling_of<T, S, D>(layout, points, nullptr, offsets, nullptr), map, keys};
  parallel_for(batch * kernel.s.point_count * kernel.s.offset_count, kernel, executor, 4096);
}

// One launch for each corner, one after the other on the stream: see ScatterSegments.
template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void scatter_segments(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                      Array<const T> offsets, Array<S> rows, int map, Array<const int64_t> keys,
                      Array<const int64_t> order, Executor executor) {
  const Sampling<T, S, D> s = sampling_of<T, S, D>(layout, points, tangent, offsets, rows);
  const int64_t count = batch * s.point_count * s.offset_count;
  const int64_t blocks = (s.maps[map].channels + s.kChannelBlock - 1) / s.kChannelBlock;
  for (int corner = 0; corner < (1 << D); ++corner) {
    const ScatterSegments<S, D> kernel = {{s}, map, corner, keys, order, count};
    parallel_for(count * blocks, kernel, executor, 1024);
  }
}

template <typename S, int D>
void define_interpolation_for_maps(py::module_& m, const std::string& suffix) {
  const auto name = [&](const char* kernel) { return kernel + suffix; };
  define(m, name("gather").c_str(), &gather_features<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "lanes", "executor"});
  define(m, name("scatter").c_str(), &scatter_features<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "lanes", "executor"});
  define(m, name("slope").c_str(), &slope_at_points<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "lanes", "gradient", "executor"});
  define(m, name("cell_keys").c_str(), &cell_keys<S, D>,
         {"layout", "batch", "points", "offsets", "map", "keys", "executor"});
  define(m, name("scatter_segments").c_str(), &scatter_segments<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "map", "keys", "order", "executor"});
}

template <typename S>
void define_interpolation_for_type(py::module_& m, const std::string& type) {
  define_interpolation_for_maps<S, 2>(m, "_planes_" + type);
  define_interpolation_for_maps<S, 3>(m, "_grids_" + type);
}

inline void define_interpolation(py::module_& m) {
  define_interpolation_for_type<float>(m, "float32");
  define_interpolation_for_type<double>(m, "float64");
  define_interpolation_for_type<BFloat16>(m, "bfloat16");
  define_interpolation_for_type<Float16>(m, "float16");
}

}  // namespace pyimplicit
