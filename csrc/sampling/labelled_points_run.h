// Query points and their distances in one pass. On the GPU: drawn, then asked for. On the CPU a search for the nearest
// triangle begins at the one that a point was drawn on, if the noise has not taken it far away.
#pragma once

#include "sampling/query_points_run.h"
#include "surface/surface_run.h"

#if !defined(__CUDACC__)
#include <algorithm>
#include <cmath>
#include <vector>
#endif

namespace pyimplicit {

#if defined(__CUDACC__)

inline void run_labelled_points(const DrawQueryPoints& draw, const SurfaceBatchQuery<float>& query, int64_t batch,
                                bool plain, Executor executor) {
  run_query_points(draw, batch, plain, executor);
  run_surface_batch(query, batch, executor);
}

#else

// Whether a search does best to begin at the triangle that a point was drawn on, rather than at what a neighbour's search
// has found: if the noise is small beside the distance of neighbours on a surface of usual area. `scale` as in Bvh.
inline bool stays_near(const PointSource& source, double scale, int64_t count) {
  constexpr double kMost = 0.03, kOfNeighbours = 2;
  const double noise = source.sigma * scale;
  return noise >= 0 && noise < kMost && noise * std::sqrt(double(count)) < kOfNeighbours;
}

inline void draw_labelled_row(DrawQueryPoints draw, const SurfaceBatchQuery<float>& query, int64_t row,
                              Executor executor) {
  const SurfaceEntry& surface = draw.table.entries[draw.shapes[row]];
  QueryPart parts[kMostSources];
  const int64_t count = draw.sources.count;
  bool by_leaf = false;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t first = draw.sources.of[k].first, next = k + 1 < count ? draw.sources.of[k + 1].first : draw.each;
    parts[k] = {first, next - first, stays_near(draw.sources.of[k], surface.scale, next - first)};
    by_leaf = by_leaf || parts[k].by_leaf;
  }
  std::vector<int32_t> leaf(by_leaf ? draw.each : 0);
  draw.shapes += row, draw.streams.keys += 2 * row, draw.points += 3 * row * draw.each;
  draw.leaf = by_leaf ? leaf.data() : nullptr;
  run_query_points(draw, 1, false, executor);
  for (const QueryPart* part = parts; by_leaf && part < parts + count; ++part) {
    if (!part->by_leaf) std::fill_n(leaf.begin() + part->first, part->count, -1);
  }
  SurfaceQuery<float> asked = query.row(row);
  asked.first_leaf = draw.leaf;
  const int64_t leaves = 1 + draw.table.triangle_leaf[surface.triangle + surface.triangles - 1];
  run_query_in_parts(asked, parts, count, leaves, executor);
}

inline void run_labelled_points(const DrawQueryPoints& draw, const SurfaceBatchQuery<float>& query, int64_t batch,
                                bool plain, Executor executor) {
  if (plain) {
    run_query_points(draw, batch, true, executor);
    return parallel_for(batch * query.each, query, executor, 64);
  }
  parallel_rows(batch, [&](int64_t b, Executor own) { draw_labelled_row(draw, query, b, own); }, executor);
}

#endif

}  // namespace pyimplicit
