// Surfaces as Python asks them: queries, rays, overlaps, depth maps.
#pragma once

#include <string>

#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "surface/depth_maps_run.h"
#include "surface/overlap.h"
#include "surface/rays.h"
#include "surface/surface_run.h"

namespace pyimplicit {

template <typename T>
void surface_query(Array<const T> points, int64_t count, Array<const int64_t> order, Array<const float> boxes,
                   Array<const int32_t> links, Array<const float> moments, Array<const int32_t> leaf_first,
                   Array<const float> frames, Array<const float> triangles, Array<const int32_t> triangle_face,
                   Array<const double> center, double scale, Array<const int32_t> start_leaf,
                   Array<const float> start_distance, int start_resolution, double start_half_side,
                   Array<const int32_t> pseudonormals, Array<const int32_t> leaf_sides, int sign_method, bool inherit,
                   bool plain, Array<T> distance, Array<T> closest, Array<int32_t> slot, Array<int64_t> face,
                   Array<T> barycentric, Executor executor) {
  const Bvh bvh = {boxes, links, moments, leaf_first, frames, triangles, triangle_face, center, scale};
  const StartGrid start = {start_leaf, start_distance, start_resolution, float(start_half_side)};
  const SurfaceQuery<T> query = {points,     order,   nullptr,  bvh,     start, SignMethod(sign_method), pseudonormals,
                                 leaf_sides, inherit, distance, closest, slot,  face,                    barycentric};
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

template <typename T>
void cast_rays(Array<const T> origins, Array<const T> directions, int64_t count, Array<const float> boxes,
               Array<const int32_t> links, Array<const int32_t> leaf_first, Array<const float> triangles,
               Array<const double> center, double scale, bool any, Array<T> t, Array<int32_t> slot, Array<T> barycentric,
               Executor executor) {
  const Bvh bvh = {boxes, links, nullptr, leaf_first, nullptr, triangles, nullptr, center, scale};
  parallel_for(count, CastRays<T>{origins, directions, bvh, any, t, slot, barycentric}, executor, 64);
}

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

template <typename T>
void define_surface_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
  define(m, name("surface_query").c_str(), &surface_query<T>,
         {"points", "count", "order", "boxes", "links", "moments", "leaf_first", "frames", "triangles",
          "triangle_face", "center", "scale", "start_leaf", "start_distance", "start_resolution", "start_half_side",
          "pseudonormals", "leaf_sides", "sign_method", "inherit", "plain", "distance", "closest", "slot", "face",
          "barycentric", "executor"});
  define(m, name("contains").c_str(), &contains<T>,
         {"points", "count", "links", "moments", "leaf_first", "frames", "triangles", "center", "scale", "plain",
          "inside", "executor"});
  define(m, name("winding_number").c_str(), &winding_number<T>,
         {"points", "count", "links", "moments", "leaf_first", "frames", "triangles", "center", "scale", "beta",
          "plain", "out", "executor"});
  define(m, name("surface_batch_query").c_str(), &surface_batch_query<T>,
         {"points", "batch", "each", "table", "shapes", "with_sign", "distance", "closest", "slot", "face",
          "barycentric", "executor"});
  define(m, name("cast_rays").c_str(), &cast_rays<T>,
         {"origins", "directions", "count", "boxes", "links", "leaf_first", "triangles", "center", "scale", "any",
          "t", "slot", "barycentric", "executor"});
}

inline void define_surface(py::module_& m) {
  define_surface_for_type<float>(m, "float32");
  define_surface_for_type<double>(m, "float64");
  define(m, "gather_batch_corners", &gather_batch_corners,
         {"entries", "triangles", "shapes", "slot", "batch", "each", "corners", "executor"});
  define(m, "find_overlap", &find_overlap,
         {"boxes", "links", "nodes", "leaf_first", "triangles", "vertex", "reach", "rounding", "crossed", "close",
          "gave_up", "executor"});
  define(m, "winding_at_faces", &winding_at_faces,
         {"slots", "count", "links", "moments", "leaf_first", "triangles", "beta", "winding_number", "executor"});
  define(m, "draw_depth", &draw_depth,
         {"vertices", "faces", "face_count", "rotations", "view_count", "size", "pixel", "bands", "depth", "executor"});
  define(m, "count_views", &count_views,
         {"points", "count", "depth", "rotations", "view_count", "size", "pixel", "enough", "plain", "seen",
          "executor"});
}

}  // namespace pyimplicit
