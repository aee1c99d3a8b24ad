// Where query points are drawn: the plain body on the GPU, its SIMD twin on the CPU.
#pragma once

#include "base/parallel.h"
#include "sampling/query_points.h"

namespace pyimplicit {

#if defined(__CUDACC__)

inline void run_query_points(const DrawQueryPoints& kernel, int64_t batch, bool /*plain*/, Executor executor) {
  parallel_for(batch * kernel.each, kernel, executor);
}

#else

// In query_points_cpu.cpp. `plain` runs the body of query_points.h instead of the twin: the tests compare the two.
void run_query_points(const DrawQueryPoints& kernel, int64_t batch, bool plain, Executor executor);

#endif

}  // namespace pyimplicit
