// Which points lie near a cloud.
#pragma once

#include <string>

#include "base/parallel.h"
#include "bindings/binding_base.h"
#include "mask/distance_mask_run.h"

namespace pyimplicit {

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

template <typename T>
void define_mask_for_type(py::module_& m, const std::string& type) {
  const auto name = [&](const char* kernel) { return std::string(kernel) + "_" + type; };
  define(m, name("distance_mask").c_str(), &distance_mask<T>,
         {"points", "count", "each", "cloud", "cell_start", "box", "size", "distance", "state", "state_box",
          "state_size", "mask", "executor"});
  define(m, name("look_up_mask_cells").c_str(), &look_up_mask_cells<T>,
         {"points", "count", "state", "state_box", "state_size", "found", "executor"});
}

inline void define_mask(py::module_& m) {
  define_mask_for_type<float>(m, "float32");
  define_mask_for_type<double>(m, "float64");
  define(m, "distance_mask_grid", &distance_mask_grid,
         {"x", "y", "z", "x_nodes", "y_nodes", "z_nodes", "items", "cloud", "cell_start", "box", "size", "distance",
          "plain", "mask", "executor"});
}

}  // namespace pyimplicit
