// The module `_cuda`: every kernel on the GPU, and what the machine's driver says of itself.
#include <string>

#include "bindings/bindings.h"

namespace pyimplicit {

// Devices that this module can use, and why there are none; never throws, because it is asked on machines without
// a driver.
py::tuple device_status() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return py::make_tuple(count, std::string());
  (void)cudaGetLastError();
  return py::make_tuple(0, std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status));
}

}  // namespace pyimplicit

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  using namespace pyimplicit;
  define_kernels(m);
  m.def("device_status", &device_status);
  m.attr("compiler") = PIM_COMPILER;
  m.attr("architectures") = PIM_CUDA_ARCHITECTURES;
  m.attr("runtime_version") = CUDART_VERSION;
}
