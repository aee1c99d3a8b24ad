// What lets one function body compile for the CPU and, under nvcc, for the GPU as well.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define PIM_HOST_DEVICE __host__ __device__
#else
#define PIM_HOST_DEVICE
#endif
