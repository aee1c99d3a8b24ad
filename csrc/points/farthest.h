// Farthest point sampling: each next point is the one farthest from all chosen before it.
#pragma once

#include <cmath>
#include <type_traits>

#include "base/parallel.h"
#include "points/squared_distance.h"

namespace pyimplicit {

// Index i is a cloud.
template <typename T>
struct FarthestPoints {
  const T* points;  // [B, N, 3]
  int64_t each;     // N
  int64_t count;    // M
  int64_t start;    // the first point chosen
  T skip;           // points with a squared length up to this are not chosen; negative: none
  // outputs
  T* distance;      // [B, N] scratch: squared distance to the chosen points; -1: never to be chosen
  int64_t* chosen;  // [B, M]

  PIM_HOST_DEVICE T first_distance(const T* point) const {
    return skip >= 0 && sum_of_squares(point[0], point[1], point[2]) <= skip ? T(-1) : T(INFINITY);
  }

  // Takes the point chosen last into account for point n; `best` and `where` are the farthest so far.
  PIM_HOST_DEVICE static void update(const T* cloud, T* distances, int64_t n, const T* last, T& best, int64_t& where) {
    const T squared = squared_distance(cloud + 3 * n, last);
    const T nearest = squared < distances[n] ? squared : distances[n];
    distances[n] = nearest;
    if (nearest > best) {  // of equal ones the first
      best = nearest;
      where = n;
    }
  }

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const T* const cloud = points + 3 * each * i;
    T* const distances = distance + each * i;
    for (int64_t n = 0; n < each; ++n) distances[n] = first_distance(cloud + 3 * n);
    int64_t last = start;
    chosen[count * i] = last;
    for (int64_t j = 1; j < count; ++j) {
      T best = -1;
      int64_t where = start;  // where nothing may be chosen
      for (int64_t n = 0; n < each; ++n) update(cloud, distances, n, cloud + 3 * last, best, where);
      last = chosen[count * i + j] = where;
    }
  }
};

#if defined(__CUDACC__)

// The same by a block of threads for each cloud; the plain kernel has one.
template <typename T, int Threads>
__global__ void farthest_points_by_blocks(FarthestPoints<T> f) {
  __shared__ T best_of[Threads];
  __shared__ int64_t where_of[Threads];
  const int t = int(threadIdx.x);
  const T* const cloud = f.points + 3 * f.each * blockIdx.x;
  T* const distances = f.distance + f.each * blockIdx.x;
  int64_t* const chosen = f.chosen + f.count * blockIdx.x;
  for (int64_t n = t; n < f.each; n += Threads) distances[n] = f.first_distance(cloud + 3 * n);
  int64_t last = f.start;
  if (t == 0) chosen[0] = last;
  for (int64_t j = 1; j < f.count; ++j) {
    T best = -1;
    int64_t where = f.start;
    for (int64_t n = t; n < f.each; n += Threads) f.update(cloud, distances, n, cloud + 3 * last, best, where);
    best_of[t] = best;
    where_of[t] = where;
    __syncthreads();
    for (int half = Threads / 2; half > 0; half /= 2) {
      if (t < half) {
        const T other = best_of[t + half];
        if (other > best_of[t] || (other == best_of[t] && where_of[t + half] < where_of[t])) {
          best_of[t] = other;
          where_of[t] = where_of[t + half];
        }
      }
      __syncthreads();
    }
    last = where_of[0];
    if (t == 0) chosen[j] = last;
    __syncthreads();  // everybody has read it before it is written again
  }
}

#else

// points_simd.h, for the processor at hand.
void farthest_points_simd(const FarthestPoints<float>& kernel, int64_t batch, Executor executor);

#endif

template <typename T>
void run_farthest_points(const FarthestPoints<T>& kernel, int64_t batch, bool plain, Executor executor) {
  if (batch <= 0) return;
#if defined(__CUDACC__)
  if (!plain) {
    constexpr int threads = 256;
    check_cuda(cudaSetDevice(executor.device), "cudaSetDevice");
    farthest_points_by_blocks<T, threads>
        <<<int(batch), threads, 0, reinterpret_cast<cudaStream_t>(executor.handle)>>>(kernel);
    check_cuda(cudaGetLastError(), "kernel launch");
    return;
  }
#else
  if constexpr (std::is_same_v<T, float>) {
    if (!plain) return farthest_points_simd(kernel, batch, executor);
  }
#endif
  parallel_for(batch, kernel, executor, 1);
}

}  // namespace pyimplicit
