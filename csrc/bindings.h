// The list of what Python can call: compiled once by the C++ compiler into `_cpu` and once by nvcc into `_cuda`.
// This file holds bindings only. Every argument is keyword-only; arrays come as addresses, checked in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "depth_maps_run.h"
#include "distance_mask_run.h"
#include "distance_sampling_run.h"
#include "farthest.h"
#include "interpolation_run.h"
#include "linear_weights.h"
#include "morton.h"
#include "neighbours.h"
#include "overlap.h"
#include "parallel.h"
#include "query_points_run.h"
#include "random.h"
#include "rays.h"
#include "scatter.h"
#include "surface_run.h"
#include "surface_samples.h"
#include "voxelise.h"

namespace pyimplicit {

// The address of an array's first element; 0 stands for an optional array that is absent.
template <typename T>
struct Array {
  T* data = nullptr;
  operator T*() const { return data; }
};

}  // namespace pyimplicit

namespace pybind11::detail {

template <typename T>
struct type_caster<pyimplicit::Array<T>> {
  PYBIND11_TYPE_CASTER(pyimplicit::Array<T>, const_name("int"));
  bool load(handle source, bool) {
    if (!PyLong_Check(source.ptr())) return false;
    value.data = reinterpret_cast<T*>(PyLong_AsUnsignedLongLong(source.ptr()));
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
  }
};

template <>
struct type_caster<pyimplicit::Executor> {
  PYBIND11_TYPE_CASTER(pyimplicit::Executor, const_name("tuple[int, int]"));
  bool load(handle source, bool) {
    if (!PyTuple_Check(source.ptr()) || PyTuple_GET_SIZE(source.ptr()) != 2) return false;
    value.device = source[int_(0)].cast<int>();
    value.handle = source[int_(1)].cast<std::uintptr_t>();
    return true;
  }
};

// A tuple of addresses, in the order of the members.
template <>
struct type_caster<pyimplicit::SurfaceTable> {
  PYBIND11_TYPE_CASTER(pyimplicit::SurfaceTable, const_name("tuple[int, ...]"));
  bool load(handle source, bool) {
    constexpr int kArrays = sizeof(pyimplicit::SurfaceTable) / sizeof(void*);
    if (!PyTuple_Check(source.ptr()) || PyTuple_GET_SIZE(source.ptr()) != kArrays) return false;
    const void* addresses[kArrays];
    for (int i = 0; i < kArrays; ++i) {
      addresses[i] = reinterpret_cast<const void*>(source[int_(i)].cast<std::uintptr_t>());
    }
    std::memcpy(&value, addresses, sizeof(value));
    return true;
  }
};

}  // namespace pybind11::detail

namespace pyimplicit {

namespace py = pybind11;

template <typename Result, typename... Arguments, std::size_t... I>
void define(py::module_& module, const char* name, Result (*function)(Arguments...),
            const std::array<const char*, sizeof...(Arguments)>& names, std::index_sequence<I...>) {
  module.def(name, function, py::kw_only(), py::arg(names[I])..., py::call_guard<py::gil_scoped_release>());
}

template <typename Result, typename... Arguments>
void define(py::module_& module, const char* name, Result (*function)(Arguments...),
            const std::array<const char*, sizeof...(Arguments)>& names) {
  define(module, name, function, names, std::index_sequence_for<Arguments...>{});
}

// ---- surface.h

template <typename T>
void surface_query(Array<const T> points, int64_t count, Array<const int64_t> order, Array<const float> boxes,
                   Array<const int32_t> links, Array<const float> moments, Array<const int32_t> leaf_first,
                   Array<const float> frames, Array<const float> triangles, Array<const int32_t> triangle_face,
                   Array<const double> center, double scale, Array<const int32_t> start_leaf,
                   Array<const float> start_distance, int start_resolution, double start_half_side,
                   Array<const int32_t> pseudonormals, int sign_method, bool inherit,
                   bool plain, Array<T> distance, Array<T> closest, Array<int32_t> slot, Array<int64_t> face,
                   Array<T> barycentric, Executor executor) {
  const Bvh bvh = {boxes, links, moments, leaf_first, frames, triangles, triangle_face, center, scale};
  const StartGrid start = {start_leaf, start_distance, start_resolution, float(start_half_side)};
  const SurfaceQuery<T> query = {points,  order,    bvh,     start, SignMethod(sign_method), pseudonormals,
                                 inherit, distance, closest, slot,  face,                    barycentric};
  run_query(query, count, plain, executor);
}

template <typename T>
void winding_number(Array<const T> points, int64_t count, Array<const int32_t> links, Array<const float> moments,
                    Array<const int32_t> leaf_first, Array<const float> frames, Array<const float> triangles,
                    Array<const double> center, double scale, double beta, bool plain, Array<T> out,
                    Executor executor) {
  const Bvh bvh = {nullptr, links, moments, leaf_first, frames, triangles, nullptr, center, scale};
  run_query(WindingNumber<T>{points, bvh, beta, out}, count, plain, executor);
}

template <typename T>
void contains(Array<const T> points, int64_t count, Array<const int32_t> links, Array<const float> moments,
              Array<const int32_t> leaf_first, Array<const float> frames, Array<const float> triangles,
              Array<const double> center, double scale, bool plain, Array<bool> inside, Executor executor) {
  const Bvh bvh = {nullptr, links, moments, leaf_first, frames, triangles, nullptr, center, scale};
  run_query(Contains<T>{points, bvh, inside}, count, plain, executor);
}

template <typename T>
void surface_batch_query(Array<const T> points, int64_t batch, int64_t each, SurfaceTable table,
                         Array<const int64_t> shapes, bool with_sign, Array<T> distance, Array<T> closest,
                         Array<int32_t> slot, Array<int64_t> face, Array<T> barycentric, Executor executor) {
  const SurfaceBatchQuery<T> query = {points,   table,   shapes, each, with_sign,
                                      distance, closest, slot,   face, barycentric};
  run_surface_batch(query, batch, executor);
}

inline void gather_batch_corners(Array<const SurfaceEntry> entries, Array<const float> triangles,
                                 Array<const int64_t> shapes, Array<const int32_t> slot, int64_t batch, int64_t each,
                                 Array<float> corners, Executor executor) {
  parallel_for(batch * each, GatherCorners{entries, triangles, shapes, slot, each, corners}, executor, 4096);
}

// ---- query_points_run.h, distance_sampling_run.h

inline void draw_query_points(SurfaceTable table, Array<const AliasEntry> areas, Array<const int64_t> shapes,
                              Array<const int64_t> keys, uint64_t seed, int64_t batch, int64_t each,
                              Array<const PointSources> sources, double half_side, bool plain, Array<float> points,
                              Array<int64_t> face, Executor executor) {
  const DrawQueryPoints kernel = {table,          areas,            shapes, {keys, seed}, each,
                                  *sources.data, float(half_side), points, face};
  run_query_points(kernel, batch, plain, executor);
}

inline void sample_by_distance(SurfaceTable table, Array<const WeightCell> cells, Array<const int64_t> first_cell,
                               double margin, bool exponential, double slope, double reach,
                               Array<const int64_t> shapes, Array<const int64_t> keys, uint64_t seed, uint32_t purpose,
                               int64_t batch, int64_t each, bool labelled, bool with_sign, bool plain,
                               Array<float> points, Array<float> distance, Array<int32_t> queries,
                               Executor executor) {
  const SurfaceBatchQuery<float> query = {points,   table,   shapes,  each,    with_sign,
                                          distance, nullptr, nullptr, nullptr, nullptr};
  const SampleByDistance kernel = {query,        {cells, first_cell, margin},
                                   {exponential, slope, reach},
                                   {keys, seed}, purpose,
                                   labelled,     points,
                                   distance,     queries};
  run_sample_by_distance(kernel, batch, plain, executor);
}

// ---- morton.h

template <typename T>
void morton_keys(Array<const T> points, int64_t count, Array<const T> box, Array<int32_t> keys, Executor executor) {
  parallel_for(count, MortonKeys<T>{points, box, keys}, executor, 8192);
}

// ---- overlap.h

inline void find_overlap(Array<const float> boxes, Array<const int32_t> links, int64_t nodes,
                         Array<const int32_t> leaf_first, Array<const float> triangles, Array<const int32_t> vertex,
                         double reach, double rounding, Array<uint8_t> crossed, Array<uint8_t> close,
                         Array<uint8_t> gave_up, Executor executor) {
  const Bvh bvh = {boxes, links, nullptr, leaf_first, nullptr, triangles, nullptr, nullptr, 1};
  parallel_for(nodes, FindOverlap{bvh, vertex, reach, rounding, crossed, close, gave_up}, executor, 16);
}

inline void winding_at_faces(Array<const int32_t> slots, int64_t count, Array<const int32_t> links,
                             Array<const float> moments, Array<const int32_t> leaf_first,
                             Array<const float> triangles, double beta, Array<double> winding_number,
                             Executor executor) {
  const Bvh bvh = {nullptr, links, moments, leaf_first, nullptr, triangles, nullptr, nullptr, 1};
  parallel_for(count, WindingAtFaces{slots, bvh, beta, winding_number}, executor, 1);
}

// ---- rays.h

template <typename T>
void cast_rays(Array<const T> origins, Array<const T> directions, int64_t count, Array<const float> boxes,
               Array<const int32_t> links, Array<const int32_t> leaf_first, Array<const float> triangles,
               Array<const double> center, double scale, bool any, Array<T> t, Array<int32_t> slot, Array<T> barycentric,
               Executor executor) {
  const Bvh bvh = {boxes, links, nullptr, leaf_first, nullptr, triangles, nullptr, center, scale};
  parallel_for(count, CastRays<T>{origins, directions, bvh, any, t, slot, barycentric}, executor, 64);
}

// ---- random.h

inline RandomStream stream_of(uint64_t seed, uint32_t shape, uint32_t step, uint32_t purpose) {
  return {seed, shape, step, purpose};
}

template <typename T>
void uniform(int64_t count, uint64_t seed, uint32_t shape, uint32_t step, uint32_t purpose, double low, double high,
             Array<T> values, Executor executor) {
  parallel_for(count, Uniform<T>{stream_of(seed, shape, step, purpose), T(low), T(high), values}, executor, 4096);
}

template <typename T>
void normal(int64_t count, uint64_t seed, uint32_t shape, uint32_t step, uint32_t purpose, Array<T> values,
            Executor executor) {
  parallel_for(count, Normal<T>{stream_of(seed, shape, step, purpose), values}, executor, 1024);
}

// ---- surface_samples.h

inline void sample_surface(Array<const float> vertices, Array<const int32_t> faces, Array<const AliasEntry> areas,
                           int64_t face_count, int64_t count, uint64_t seed, uint32_t shape, uint32_t step,
                           uint32_t purpose, Array<float> points, Array<int64_t> chosen, Executor executor) {
  const RandomStream stream = {seed, shape, step, purpose};
  parallel_for(count, SampleSurface{vertices, faces, areas, face_count, stream, points, chosen}, executor, 1024);
}

template <typename T>
void linear_weights(Array<const T> distance, int64_t count, double tau, double mu, Array<T> weights,
                    Executor executor) {
  parallel_for(count, LinearWeights<T>{distance, T(tau), T(mu), weights}, executor, 32768);
}

template <typename T>
void sum_weights(Array<const T> weights, int64_t count, Array<double> sums, Array<uint8_t> positive,
                 Executor executor) {
  const TreeLevels levels(count);
  parallel_for(levels.nodes[0], SumWeights<T>{weights, count, sums, positive}, executor, 512);
  for (int level = 1; level < levels.count; ++level) {
    const double* below = sums + levels.first[level - 1];
    parallel_for(levels.nodes[level], SumNodes{below, levels.nodes[level - 1], sums + levels.first[level]}, executor,
                 512);
  }
}

template <typename T>
void draw_from_tree(Array<const T> weights, int64_t count, Array<const double> sums, Array<const uint64_t> taken,
                    uint64_t seed, uint32_t shape, uint32_t step, uint32_t purpose, int64_t first, int64_t draws,
                    Array<int64_t> chosen, Executor executor) {
  parallel_for(draws,
               DrawFromTree<T>{weights, count, sums, taken, TreeLevels(count), stream_of(seed, shape, step, purpose),
                               first, chosen},
               executor, 256);
}

template <typename T>
void take_out(Array<const T> weights, int64_t count, Array<const int64_t> sorted, int64_t sorted_count,
              Array<uint64_t> taken, Array<double> sums, Executor executor) {
  const TreeLevels levels(count);
  parallel_for(sorted_count, TakeOut<T>{weights, count, sorted, sorted_count, taken, sums}, executor, 256);
  int64_t weights_a_node = kChildren;
  for (int level = 1; level < levels.count; ++level) {
    weights_a_node *= kChildren;
    parallel_for(sorted_count,
                 UpdateNodes{sorted, weights_a_node, sums + levels.first[level - 1], levels.nodes[level - 1],
                             sums + levels.first[level]},
                 executor, 256);
  }
}

// ---- depth_maps_run.h

inline void draw_depth(Array<const float> vertices, Array<const int32_t> faces, int64_t face_count,
                       Array<const float> rotations, int64_t view_count, int64_t size, double pixel, int64_t bands,
                       Array<float> depth, Executor executor) {
  const DepthViews views = {rotations, size, float(pixel)};
  parallel_for(view_count * bands, DrawDepth{vertices, faces, face_count, views, bands, depth}, executor, 1);
}

inline void count_views(Array<const float> points, int64_t count, Array<const float> depth,
                        Array<const float> rotations, int64_t view_count, int64_t size, double pixel, int32_t enough,
                        bool plain, Array<int32_t> seen, Executor executor) {
  const DepthViews views = {rotations, size, float(pixel)};
  run_count_views(CountViews{points, depth, views, view_count, enough, seen}, count, plain, executor);
}

// ---- interpolation.h

// Sizes, strides and addresses of the maps, in the order in which pyimplicit/ops/interpolation.py lists them.
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
                     Array<const T> offsets, Array<S> rows, bool plain, Executor executor) {
  run_gather(sampling_of<S, S, D>(layout, points, tangent, offsets, rows), batch, plain, executor);
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void scatter_features(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                      Array<const T> offsets, Array<S> rows, bool plain, Executor executor) {
  run_scatter<S, D>(sampling_of<T, S, D>(layout, points, tangent, offsets, rows), batch, plain, executor);
}

template <typename S, int D, typename T = typename AccumulatorOf<S>::Type>
void slope_at_points(Array<const int64_t> layout, int64_t batch, Array<const T> points, Array<const T> tangent,
                     Array<const T> offsets, Array<S> rows, bool plain, Array<T> gradient, Executor executor) {
  run_slope(sampling_of<S, S, D>(layout, points, tangent, offsets, rows), batch, plain, gradient.data, executor);
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

// ---- distance_mask.h

inline CloudGrid cloud_grid_of(const float* cloud, const int32_t* cell_start, const double* box, const int64_t* size) {
  return {cloud, cell_start, {box[0], box[1], box[2]}, box[3], {size[0], size[1], size[2]}};
}

inline MaskCells mask_cells_of(const uint8_t* state, const double* box, const int64_t* size) {
  if (state == nullptr) return {};
  return {state, {box[0], box[1], box[2]}, box[3], {size[0], size[1], size[2]}};
}

// Boxes are [4] on the CPU: the lowest corner and the edge of a cell. Sizes [3] are cells along x, y, z.
template <typename T>
void distance_mask(Array<const T> points, int64_t count, int64_t each, Array<const float> cloud,
                   Array<const int32_t> cell_start, Array<const double> box, Array<const int64_t> size,
                   double distance, Array<const uint8_t> state, Array<const double> state_box,
                   Array<const int64_t> state_size, Array<bool> mask, Executor executor) {
  parallel_for(count,
               DistanceMask<T>{points, each, cloud_grid_of(cloud, cell_start, box, size),
                               mask_cells_of(state, state_box, state_size), distance, mask},
               executor, 512);
}

template <typename T>
void look_up_mask_cells(Array<const T> points, int64_t count, Array<const uint8_t> state,
                        Array<const double> state_box, Array<const int64_t> state_size, Array<uint8_t> found,
                        Executor executor) {
  parallel_for(count, LookUpMaskCells<T>{points, mask_cells_of(state, state_box, state_size), found}, executor, 4096);
}

inline void distance_mask_grid(Array<const double> x, Array<const double> y, Array<const double> z, int64_t x_nodes,
                               int64_t y_nodes, int64_t z_nodes, int64_t items, Array<const float> cloud,
                               Array<const int32_t> cell_start, Array<const double> box, Array<const int64_t> size,
                               double distance, bool plain, Array<bool> mask, Executor executor) {
  const CloudGrid grid = cloud_grid_of(cloud, cell_start, box, size);
  run_distance_mask_grid({{x, y, z}, {x_nodes, y_nodes, z_nodes}, grid, distance, mask}, items, plain, executor);
}

// ---- scatter.h

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

// ---- voxelise.h, farthest.h, neighbours.h

template <typename T>
void voxelise(Array<const T> points, int64_t batch, int64_t each, int64_t resolution, double low, double scale,
              Array<T> grid, Executor executor) {
  const Voxelise<T> kernel = {points, each, {resolution, low, scale}, grid};
#if defined(__CUDACC__)
  const std::size_t bytes = sizeof(T) * std::size_t(batch * resolution * resolution * resolution);
  check_cuda(cudaSetDevice(executor.device), "cudaSetDevice");
  check_cuda(cudaMemsetAsync(grid.data, 0, bytes, reinterpret_cast<cudaStream_t>(executor.handle)), "cudaMemset");
  parallel_for(batch * each, kernel, executor);
#else
  const int64_t slab = (resolution + 15) / 16;
  parallel_for(batch * ((resolution + slab - 1) / slab), VoxeliseSlab<T>{kernel, slab}, executor, 1);
#endif
}

template <typename T>
void farthest_points(Array<const T> points, int64_t batch, int64_t each, int64_t count, int64_t start, double skip,
                     bool plain, Array<T> distance, Array<int64_t> chosen, Executor executor) {
  run_farthest_points(FarthestPoints<T>{points, each, count, start, T(skip), distance, chosen}, batch, plain, executor);
}

template <typename T>
void nearest_neighbours(Array<const T> queries, Array<const T> cloud, int64_t batch, int64_t query_count, int64_t each,
                        int64_t count, bool plain, Array<T> squared, Array<int64_t> index, Executor executor) {
  run_nearest_neighbours(NearestNeighbours<T>{queries, cloud, query_count, each, count, squared, index}, batch, plain,
                         executor);
}

// ---- the list

template <typename T>
void define_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
  define(m, name("surface_query").c_str(), &surface_query<T>,
         {"points", "count", "order", "boxes", "links", "moments", "leaf_first", "frames", "triangles",
          "triangle_face", "center", "scale", "start_leaf", "start_distance", "start_resolution", "start_half_side",
          "pseudonormals", "sign_method", "inherit", "plain", "distance", "closest", "slot", "face", "barycentric",
          "executor"});
  define(m, name("contains").c_str(), &contains<T>,
         {"points", "count", "links", "moments", "leaf_first", "frames", "triangles", "center", "scale", "plain",
          "inside", "executor"});
  define(m, name("surface_batch_query").c_str(), &surface_batch_query<T>,
         {"points", "batch", "each", "table", "shapes", "with_sign", "distance", "closest", "slot", "face",
          "barycentric", "executor"});
  define(m, name("morton_keys").c_str(), &morton_keys<T>, {"points", "count", "box", "keys", "executor"});
  define(m, name("winding_number").c_str(), &winding_number<T>,
         {"points", "count", "links", "moments", "leaf_first", "frames", "triangles", "center", "scale", "beta",
          "plain", "out",
          "executor"});
  define(m, name("cast_rays").c_str(), &cast_rays<T>,
         {"origins", "directions", "count", "boxes", "links", "leaf_first", "triangles", "center", "scale", "any",
          "t", "slot",
          "barycentric", "executor"});
  define(m, name("uniform").c_str(), &uniform<T>,
         {"count", "seed", "shape", "step", "purpose", "low", "high", "values", "executor"});
  define(m, name("normal").c_str(), &normal<T>, {"count", "seed", "shape", "step", "purpose", "values", "executor"});
  define(m, name("linear_weights").c_str(), &linear_weights<T>,
         {"distance", "count", "tau", "mu", "weights", "executor"});
  define(m, name("sum_weights").c_str(), &sum_weights<T>, {"weights", "count", "sums", "positive", "executor"});
  define(m, name("draw_from_tree").c_str(), &draw_from_tree<T>,
         {"weights", "count", "sums", "taken", "seed", "shape", "step", "purpose", "first", "draws", "chosen",
          "executor"});
  define(m, name("take_out").c_str(), &take_out<T>,
         {"weights", "count", "sorted", "sorted_count", "taken", "sums", "executor"});
  define(m, name("distance_mask").c_str(), &distance_mask<T>,
         {"points", "count", "each", "cloud", "cell_start", "box", "size", "distance", "state", "state_box",
          "state_size", "mask", "executor"});
  define(m, name("look_up_mask_cells").c_str(), &look_up_mask_cells<T>,
         {"points", "count", "state", "state_box", "state_size", "found", "executor"});
  define(m, name("voxelise").c_str(), &voxelise<T>,
         {"points", "batch", "each", "resolution", "low", "scale", "grid", "executor"});
  define(m, name("farthest_points").c_str(), &farthest_points<T>,
         {"points", "batch", "each", "count", "start", "skip", "plain", "distance", "chosen", "executor"});
  define(m, name("nearest_neighbours").c_str(), &nearest_neighbours<T>,
         {"queries", "cloud", "batch", "query_count", "each", "count", "plain", "squared", "index", "executor"});
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

template <typename S, int D>
void define_interpolation(py::module_& m, const std::string& suffix) {
  const auto name = [&](const char* kernel) { return kernel + suffix; };
  define(m, name("gather").c_str(), &gather_features<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "plain", "executor"});
  define(m, name("scatter").c_str(), &scatter_features<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "plain", "executor"});
  define(m, name("slope").c_str(), &slope_at_points<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "plain", "gradient", "executor"});
  define(m, name("cell_keys").c_str(), &cell_keys<S, D>,
         {"layout", "batch", "points", "offsets", "map", "keys", "executor"});
  define(m, name("scatter_segments").c_str(), &scatter_segments<S, D>,
         {"layout", "batch", "points", "tangent", "offsets", "rows", "map", "keys", "order", "executor"});
}

template <typename S>
void define_interpolation_for_type(py::module_& m, const std::string& type) {
  define_interpolation<S, 2>(m, "_planes_" + type);
  define_interpolation<S, 3>(m, "_grids_" + type);
}

inline void define_kernels(py::module_& m) {
  define_for_type<float>(m, "float32");
  define_for_type<double>(m, "float64");
  define_interpolation_for_type<float>(m, "float32");
  define_interpolation_for_type<double>(m, "float64");
  define_interpolation_for_type<BFloat16>(m, "bfloat16");
  define_interpolation_for_type<Float16>(m, "float16");
  define(m, "sample_surface", &sample_surface,
         {"vertices", "faces", "areas", "face_count", "count", "seed", "shape", "step", "purpose", "points", "chosen",
          "executor"});
  define(m, "draw_query_points", &draw_query_points,
         {"table", "areas", "shapes", "keys", "seed", "batch", "each", "sources", "half_side", "plain", "points",
          "face", "executor"});
  define(m, "draw_depth", &draw_depth,
         {"vertices", "faces", "face_count", "rotations", "view_count", "size", "pixel", "bands", "depth", "executor"});
  define(m, "count_views", &count_views,
         {"points", "count", "depth", "rotations", "view_count", "size", "pixel", "enough", "plain", "seen",
          "executor"});
  define(m, "sample_by_distance", &sample_by_distance,
         {"table", "cells", "first_cell", "margin", "exponential", "slope", "reach", "shapes", "keys", "seed",
          "purpose", "batch", "each", "labelled", "with_sign", "plain", "points", "distance", "queries", "executor"});
  define(m, "distance_mask_grid", &distance_mask_grid,
         {"x", "y", "z", "x_nodes", "y_nodes", "z_nodes", "items", "cloud", "cell_start", "box", "size", "distance",
          "plain", "mask", "executor"});
  define(m, "gather_batch_corners", &gather_batch_corners,
         {"entries", "triangles", "shapes", "slot", "batch", "each", "corners", "executor"});
  define(m, "find_overlap", &find_overlap,
         {"boxes", "links", "nodes", "leaf_first", "triangles", "vertex", "reach", "rounding", "crossed", "close",
          "gave_up", "executor"});
  define(m, "winding_at_faces", &winding_at_faces,
         {"slots", "count", "links", "moments", "leaf_first", "triangles", "beta", "winding_number", "executor"});
}

}  // namespace pyimplicit
