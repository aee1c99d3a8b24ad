// The module `_cpu`: every kernel on the CPU, and what only ever runs there (building the hierarchy).
#include <string>

#include "bindings.h"
#include "bvh_build.h"

namespace pyimplicit {

int64_t build_bvh_binding(Array<const float> triangles, int64_t count, Array<float> bounds, Array<int32_t> links,
                          Array<float> moments, Array<int32_t> order) {
  return build_bvh(triangles, count, bounds, links, moments, order);
}

}  // namespace pyimplicit

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  using namespace pyimplicit;
  define_kernels(m);
  m.def("build_bvh", &build_bvh_binding, py::kw_only(), py::arg("triangles"), py::arg("count"), py::arg("bounds"),
        py::arg("links"), py::arg("moments"), py::arg("order"), py::call_guard<py::gil_scoped_release>());
  m.attr("compiler") = PIM_COMPILER;
  m.attr("cuda_build") = PIM_CUDA_BUILD;  // "on", or why the CUDA module was not built
}
