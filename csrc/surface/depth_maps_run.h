// Where views are counted: the plain body on the GPU, its SIMD twin on the CPU.
#pragma once

#include "base/parallel.h"
#include "surface/depth_maps.h"

namespace pyimplicit {

#if defined(__CUDACC__)

inline void run_count_views(const CountViews& kernel, int64_t count, bool /*plain*/, Executor executor) {
  parallel_for(count, kernel, executor);
}

#else

// In depth_maps_cpu.cpp. `plain` runs the body of depth_maps.h instead of the twin: the tests compare the two.
void run_count_views(const CountViews& kernel, int64_t count, bool plain, Executor executor);

#endif

}  // namespace pyimplicit
