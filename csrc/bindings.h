// The list of what Python can call: compiled once by the C++ compiler into `_cpu` and once by nvcc into `_cuda`.
// This file holds bindings only. Every argument is keyword-only; arrays come as addresses, checked in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstring>
#include <utility>

#include "distance_mask.h"
#include "distance_sampling_run.h"
#include "interpolation_run.h"
#include "linear_weights.h"
#include "morton.h"
#include "overlap.h"
#include "parallel.h"
#include "random.h"
#include "rays.h"
#include "surface_run.h"

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
    for (int i = 0; i < kArrays; ++i) addresses[i] = reinterpret_cast<const void*>(source[int_(i)].cast<std::uintptr_t>());
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

// ---- query_points.h, distance_sampling_run.h

inline void draw_query_points(SurfaceTable table, Array<const AliasEntry> areas, Array<const int64_t> shapes,
                              Array<const int64_t> keys, uint64_t seed, int64_t batch, int64_t each,
                              Array<const PointSources> sources, double half_side, Array<float> points,
                              Array<int32_t> slot, Executor executor) {
  const DrawQueryPoints kernel = {table,          areas,            shapes, {keys, seed}, each,
                                  *sources.data, float(half_side), points, slot};
  parallel_for(batch * each, kernel, executor, 1024);
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

// ---- random.h, linear_weights.h

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

inline void sample_surface(Array<const float> vertices, Array<const int32_t> faces, Array<const double> cumulative,
                           int64_t face_count, int64_t count, uint64_t seed, uint32_t shape, uint32_t step,
                           uint32_t purpose, Array<float> points, Array<int64_t> chosen, Executor executor) {
  parallel_for(count,
               SampleSurface{vertices, faces, cumulative, face_count, stream_of(seed, shape, step, purpose), points,
                             chosen},
               executor, 1024);
}

template <typename T>
void linear_weights(Array<const T> distance, int64_t count, double tau, double mu, Array<T> weights,
                    Executor executor) {
  parallel_for(count, LinearWeights<T>{distance, T(tau), T(mu), weights}, executor, 32768);
}

inline void choose_with_replacement(Array<const double> cumulative, int64_t candidates, int64_t count, uint64_t seed,
                                    uint32_t shape, uint32_t step, uint32_t purpose, Array<int64_t> chosen,
                                    Executor executor) {
  parallel_for(count,
               ChooseWithReplacement{cumulative, candidates, stream_of(seed, shape, step, purpose), chosen}, executor,
               1024);
}

template <typename T>
void race_keys(Array<const T> weights, int64_t count, uint64_t seed, uint32_t shape, uint32_t step, uint32_t purpose,
               Array<double> keys, Executor executor) {
  parallel_for(count, RaceKeys<T>{weights, stream_of(seed, shape, step, purpose), keys}, executor, 4096);
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

template <typename T>
void distance_mask(Array<const T> points, int64_t count, Array<const float> cloud, Array<const int32_t> cell_start,
                   double low_x, double low_y, double low_z, double cell_size, int64_t size_x, int64_t size_y,
                   int64_t size_z, double distance, Array<bool> mask, Executor executor) {
  const CloudGrid grid = {cloud, cell_start, {low_x, low_y, low_z}, cell_size, {size_x, size_y, size_z}};
  parallel_for(count, DistanceMask<T>{points, grid, distance, mask}, executor, 512);
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
         {"points", "count", "links", "moments", "leaf_first", "frames", "triangles", "center", "scale", "beta", "plain", "out",
          "executor"});
  define(m, name("cast_rays").c_str(), &cast_rays<T>,
         {"origins", "directions", "count", "boxes", "links", "leaf_first", "triangles", "center", "scale", "any", "t", "slot",
          "barycentric", "executor"});
  define(m, name("uniform").c_str(), &uniform<T>,
         {"count", "seed", "shape", "step", "purpose", "low", "high", "values", "executor"});
  define(m, name("normal").c_str(), &normal<T>, {"count", "seed", "shape", "step", "purpose", "values", "executor"});
  define(m, name("linear_weights").c_str(), &linear_weights<T>,
         {"distance", "count", "tau", "mu", "weights", "executor"});
  define(m, name("race_keys").c_str(), &race_keys<T>,
         {"weights", "count", "seed", "shape", "step", "purpose", "keys", "executor"});
  define(m, name("distance_mask").c_str(), &distance_mask<T>,
         {"points", "count", "cloud", "cell_start", "low_x", "low_y", "low_z", "cell_size", "size_x", "size_y",
          "size_z", "distance", "mask", "executor"});
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
         {"vertices", "faces", "cumulative", "face_count", "count", "seed", "shape", "step", "purpose", "points",
          "chosen", "executor"});
  define(m, "draw_query_points", &draw_query_points,
         {"table", "areas", "shapes", "keys", "seed", "batch", "each", "sources", "half_side", "points", "slot",
          "executor"});
  define(m, "sample_by_distance", &sample_by_distance,
         {"table", "cells", "first_cell", "margin", "exponential", "slope", "reach", "shapes", "keys", "seed",
          "purpose", "batch", "each", "labelled", "with_sign", "plain", "points", "distance", "queries", "executor"});
  define(m, "gather_batch_corners", &gather_batch_corners,
         {"entries", "triangles", "shapes", "slot", "batch", "each", "corners", "executor"});
  define(m, "find_overlap", &find_overlap,
         {"boxes", "links", "nodes", "leaf_first", "triangles", "vertex", "reach", "rounding", "crossed", "close",
          "gave_up", "executor"});
  define(m, "winding_at_faces", &winding_at_faces,
         {"slots", "count", "links", "moments", "leaf_first", "triangles", "beta", "winding_number", "executor"});
  define(m, "choose_with_replacement", &choose_with_replacement,
         {"cumulative", "candidates", "count", "seed", "shape", "step", "purpose", "chosen", "executor"});
}

}  // namespace pyimplicit
