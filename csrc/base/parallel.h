// parallel_for(count, kernel, executor): runs kernel(0) ... kernel(count - 1) on the executor's processor.
//
// A kernel is a struct whose members are its arguments and whose const operator()(int64_t i) is its body. The body
// may write only what belongs to index i, so the result never depends on the number of threads.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "base/host_device.h"

#if !defined(__CUDACC__)
#include <algorithm>

#include "base/thread_pool.h"
#endif

namespace pyimplicit {

// Where a kernel runs. CPU module: `handle` is the number of threads. CUDA module: `handle` is the stream.
struct Executor {
  int device = 0;
  std::uintptr_t handle = 1;
};

#if defined(__CUDACC__)

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
  }
}

template <typename Kernel>
__global__ void run_kernel(int64_t count, Kernel kernel) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) kernel(i);
}

template <typename Kernel>
void parallel_for(int64_t count, const Kernel& kernel, Executor executor, int64_t /*grain*/ = 0) {
  if (count <= 0) return;
  constexpr int64_t threads = 128, most_blocks = int64_t(1) << 20;
  const int64_t blocks = (count + threads - 1) / threads;
  check_cuda(cudaSetDevice(executor.device), "cudaSetDevice");
  run_kernel<<<int(blocks < most_blocks ? blocks : most_blocks), int(threads), 0,
               reinterpret_cast<cudaStream_t>(executor.handle)>>>(count, kernel);
  check_cuda(cudaGetLastError(), "kernel launch");
}

#else

// `grain` is the number of indices worth handing to a thread at once: small for heavy bodies, large for light ones.
template <typename Kernel>
void parallel_for(int64_t count, const Kernel& kernel, Executor executor, int64_t grain = 1024) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t pieces = (count + grain - 1) / grain;
  const auto piece = [&](int64_t index) {
    const int64_t end = std::min(count, (index + 1) * grain);
    for (int64_t i = index * grain; i < end; ++i) kernel(i);
  };
  ThreadPool::instance().run(pieces, int(std::max<int64_t>(int64_t(executor.handle), 1)), piece);
}

// Runs row(b, executor) for each row of a batch: whole rows to a thread where there are enough of them, else all threads
// to one row after the other.
template <typename Row>
void parallel_rows(int64_t batch, const Row& row, Executor executor) {
  if (batch >= 2 * int64_t(executor.handle)) {
    return parallel_for(batch, [&](int64_t b) { row(b, Executor{-1, 1}); }, executor, 1);
  }
  for (int64_t b = 0; b < batch; ++b) row(b, executor);
}

#endif

}  // namespace pyimplicit
