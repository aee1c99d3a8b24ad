// Where surface queries run: the plain bodies on the GPU, their SIMD twin on the CPU.
#pragma once

#include "parallel.h"
#include "surface.h"

namespace pyimplicit {

#if defined(__CUDACC__)

template <typename T>
void run_surface_query(const SurfaceQuery<T>& query, int64_t count, bool /*plain*/, Executor executor) {
  parallel_for(count, query, executor);
}

template <typename T>
void run_winding_number(const WindingNumber<T>& query, int64_t count, bool /*plain*/, Executor executor) {
  parallel_for(count, query, executor);
}

#else

// `plain` runs the bodies of surface.h instead of the twin; the tests compare the two. In surface_cpu.cpp, for float
// and double.
template <typename T>
void run_surface_query(const SurfaceQuery<T>& query, int64_t count, bool plain, Executor executor);

template <typename T>
void run_winding_number(const WindingNumber<T>& query, int64_t count, bool plain, Executor executor);

#endif

}  // namespace pyimplicit
