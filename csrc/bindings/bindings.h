// The list of what Python can call, family by family: compiled once by the C++ compiler into `_cpu` and once by nvcc
// into `_cuda`. These files hold bindings only.
#pragma once

#include "bindings/interpolation_bindings.h"
#include "bindings/mask_bindings.h"
#include "bindings/points_bindings.h"
#include "bindings/sampling_bindings.h"
#include "bindings/scatter_bindings.h"
#include "bindings/surface_bindings.h"

namespace pyimplicit {

inline void define_kernels(py::module_& m) {
  define_surface(m);
  define_sampling(m);
  define_interpolation(m);
  define_mask(m);
  define_scatter(m);
  define_points(m);
}

}  // namespace pyimplicit
