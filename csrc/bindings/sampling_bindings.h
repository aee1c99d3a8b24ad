// What is drawn at random: numbers, points on and around surfaces, choices by weight.
#pragma once

#include <string>

#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "sampling/distance_sampling_run.h"
#include "sampling/labelled_points_run.h"
#include "sampling/linear_weights.h"
#include "sampling/query_points_run.h"
#include "sampling/random.h"
#include "sampling/surface_samples.h"

namespace pyimplicit {

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

inline void draw_query_points(SurfaceTable table, Array<const AliasEntry> areas, Array<const int64_t> shapes,
                              Array<const int64_t> keys, uint64_t seed, int64_t batch, int64_t each,
                              Array<const PointSources> sources, double half_side, bool plain, Array<float> points,
                              Array<int64_t> face, Executor executor) {
  const DrawQueryPoints kernel = {table,          areas,            shapes, {keys, seed}, each,
                                  *sources.data, float(half_side), points, face,   nullptr};
  run_query_points(kernel, batch, plain, executor);
}

inline void draw_labelled_points(SurfaceTable table, Array<const AliasEntry> areas, Array<const int64_t> shapes,
                                 Array<const int64_t> keys, uint64_t seed, int64_t batch, int64_t each,
                                 Array<const PointSources> sources, double half_side, bool with_sign, bool plain,
                                 Array<float> points, Array<float> distance, Executor executor) {
  const DrawQueryPoints draw = {table,         areas,            shapes, {keys, seed}, each,
                                *sources.data, float(half_side), points, nullptr,      nullptr};
  const SurfaceBatchQuery<float> query = {points,   table,   shapes,  each,    with_sign,
                                          distance, nullptr, nullptr, nullptr, nullptr};
  run_labelled_points(draw, query, batch, plain, executor);
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

template <typename T>
void define_sampling_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
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
}

inline void define_sampling(py::module_& m) {
  define_sampling_for_type<float>(m, "float32");
  define_sampling_for_type<double>(m, "float64");
  define(m, "sample_surface", &sample_surface,
         {"vertices", "faces", "areas", "face_count", "count", "seed", "shape", "step", "purpose", "points", "chosen",
          "executor"});
  define(m, "draw_query_points", &draw_query_points,
         {"table", "areas", "shapes", "keys", "seed", "batch", "each", "sources", "half_side", "plain", "points",
          "face", "executor"});
  define(m, "draw_labelled_points", &draw_labelled_points,
         {"table", "areas", "shapes", "keys", "seed", "batch", "each", "sources", "half_side", "with_sign", "plain",
          "points", "distance", "executor"});
  define(m, "sample_by_distance", &sample_by_distance,
         {"table", "cells", "first_cell", "margin", "exponential", "slope", "reach", "shapes", "keys", "seed",
          "purpose", "batch", "each", "labelled", "with_sign", "plain", "points", "distance", "queries", "executor"});
}

}  // namespace pyimplicit
