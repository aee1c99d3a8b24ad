// The module `_cpu`: every kernel on the CPU, and what only ever runs there (building the hierarchy).
#include <string>

#include "bindings.h"
#include "bvh_build.h"
#include "corners.h"
#include "magnitude.h"

namespace pyimplicit {

template <typename T>
void gather_corners_binding(Array<const T> vertices, Array<const int32_t> faces, int64_t count, Array<double> center,
                            Array<double> scale, Array<float> corners, Executor executor) {
  gather_corners<T>(vertices, faces, count, center, scale, corners, executor);
}

template <typename T, typename Bits>
double largest_magnitude_binding(Array<const T> values, int64_t count, Executor executor) {
  return largest_magnitude<T, Bits>(values, count, executor);
}

// Fills the arrays of a built hierarchy.
void write_bvh(const build::BvhBuilder& builder, Array<float> boxes, Array<int32_t> links, Array<float> moments,
               Array<int32_t> leaf_first, Array<float> frames, Array<float> sorted, Array<int32_t> order) {
  builder.write(boxes, links, moments, leaf_first, frames, sorted, order);
}

}  // namespace pyimplicit

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  using namespace pyimplicit;
  define_kernels(m);
  define(m, "gather_corners_float32", &gather_corners_binding<float>,
         {"vertices", "faces", "count", "center", "scale", "corners", "executor"});
  define(m, "gather_corners_float64", &gather_corners_binding<double>,
         {"vertices", "faces", "count", "center", "scale", "corners", "executor"});
  define(m, "largest_magnitude_float32", &largest_magnitude_binding<float, int32_t>, {"values", "count", "executor"});
  define(m, "largest_magnitude_float64", &largest_magnitude_binding<double, int64_t>, {"values", "count", "executor"});
  // Alive only while a hierarchy is built: Python asks the sizes, allocates, and has the arrays filled.
  py::class_<build::BvhBuilder>(m, "BvhBuilder")
      .def(py::init([](Array<const float> triangles, int64_t count, Executor executor) {
             return build::BvhBuilder(triangles, count, executor);
           }),
           py::kw_only(), py::arg("triangles"), py::arg("count"), py::arg("executor"),
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("nodes", &build::BvhBuilder::nodes)
      .def_property_readonly("leaves", &build::BvhBuilder::leaves)
      .def("write", &write_bvh, py::kw_only(), py::arg("boxes"), py::arg("links"), py::arg("moments"),
           py::arg("leaf_first"), py::arg("frames"), py::arg("sorted"), py::arg("order"),
           py::call_guard<py::gil_scoped_release>());
  m.attr("compiler") = PIM_COMPILER;
  m.attr("cuda_build") = PIM_CUDA_BUILD;  // "on", or why the CUDA module was not built
}
