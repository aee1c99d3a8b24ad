// Where the mask of a grid is made: node by node on the GPU, by rows of bits on the CPU.
#pragma once

#include "base/parallel.h"
#include "mask/distance_mask.h"

namespace pyimplicit {

#if defined(__CUDACC__)

inline void run_distance_mask_grid(const DistanceMaskGrid& kernel, int64_t items, bool /*plain*/, Executor executor) {
  parallel_for(items * kernel.nodes[0] * kernel.nodes[1] * kernel.nodes[2], kernel, executor);
}

#else

// In distance_mask_cpu.cpp. `plain` runs the body of distance_mask.h instead of the twin: the tests compare the two.
void run_distance_mask_grid(const DistanceMaskGrid& kernel, int64_t items, bool plain, Executor executor);

#endif

}  // namespace pyimplicit
