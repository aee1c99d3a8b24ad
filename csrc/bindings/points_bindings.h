// Point clouds by themselves: order, grids, choices, neighbours.
#pragma once

#include <string>

#include "base/morton.h"
#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "points/farthest.h"
#include "points/neighbours.h"
#include "points/voxelise.h"

namespace pyimplicit {

template <typename T>
void morton_keys(Array<const T> points, int64_t count, Array<const T> box, Array<int32_t> keys, Executor executor) {
  parallel_for(count, MortonKeys<T>{points, box, keys}, executor, 8192);
}

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

template <typename T>
void define_points_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
  define(m, name("morton_keys").c_str(), &morton_keys<T>, {"points", "count", "box", "keys", "executor"});
  define(m, name("voxelise").c_str(), &voxelise<T>,
         {"points", "batch", "each", "resolution", "low", "scale", "grid", "executor"});
  define(m, name("farthest_points").c_str(), &farthest_points<T>,
         {"points", "batch", "each", "count", "start", "skip", "plain", "distance", "chosen", "executor"});
  define(m, name("nearest_neighbours").c_str(), &nearest_neighbours<T>,
         {"queries", "cloud", "batch", "query_count", "each", "count", "plain", "squared", "index", "executor"});
}

inline void define_points(py::module_& m) {
  define_points_for_type<float>(m, "float32");
  define_points_for_type<double>(m, "float64");
}

}  // namespace pyimplicit
