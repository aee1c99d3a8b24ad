// The nearest points of small clouds, by comparing with all of them.
#pragma once

#include <cmath>
#include <type_traits>

#include "base/parallel.h"
#include "points/squared_distance.h"

namespace pyimplicit {

// The nearest so far of one query, nearest first; of equally near ones the lower index first.
template <typename T>
struct Nearest {
  T* squared;      // [k]
  int64_t* index;  // [k]
  int64_t count;   // k
  int64_t found = 0;

  PIM_HOST_DEVICE bool takes(T distance, int64_t n) const {
    return found < count || distance < squared[count - 1] ||
           (distance == squared[count - 1] && n < index[count - 1]);
  }
  PIM_HOST_DEVICE void insert(T distance, int64_t n) {
    if (!takes(distance, n)) return;
    int64_t place = found < count ? found++ : count - 1;
    for (; place > 0; --place) {
      if (squared[place - 1] < distance || (squared[place - 1] == distance && index[place - 1] < n)) break;
      squared[place] = squared[place - 1];
      index[place] = index[place - 1];
    }
    squared[place] = distance;
    index[place] = n;
  }
};

// Index i is a query.
template <typename T>
struct NearestNeighbours {
  const T* queries;  // [B, M, 3]
  const T* cloud;    // [B, N, 3]
  int64_t query_count, each, count;  // M, N, k
  // outputs
  T* squared;      // [B, M, k] scratch: squared distances
  int64_t* index;  // [B, M, k]

  PIM_HOST_DEVICE Nearest<T> nearest(int64_t i) const { return {squared + i * count, index + i * count, count}; }

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const T* const points = cloud + i / query_count * each * 3;
    Nearest<T> found = nearest(i);
    for (int64_t n = 0; n < each; ++n) found.insert(squared_distance(queries + 3 * i, points + 3 * n), n);
  }
};

#if !defined(__CUDACC__)
// points_simd.h, for the processor at hand.
void nearest_neighbours_simd(const NearestNeighbours<float>& kernel, int64_t batch, Executor executor);
#endif

template <typename T>
void run_nearest_neighbours(const NearestNeighbours<T>& kernel, int64_t batch, bool plain, Executor executor) {
#if !defined(__CUDACC__)
  if constexpr (std::is_same_v<T, float>) {
    if (!plain) return nearest_neighbours_simd(kernel, batch, executor);
  }
#endif
  (void)plain;
  parallel_for(batch * kernel.query_count, kernel, executor, 16);
}

}  // namespace pyimplicit
