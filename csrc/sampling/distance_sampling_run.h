// Where the sampler of distance_sampling.h runs: its plain body on the GPU. On the CPU all points of a row advance
// together, so that their queries are answered many at a time, in the order that suits them.
#pragma once

#include "base/parallel.h"
#include "sampling/distance_sampling.h"
#include "surface/surface_run.h"

#if !defined(__CUDACC__)
#include <vector>
#endif

namespace pyimplicit {

#if defined(__CUDACC__)

inline void run_sample_by_distance(const SampleByDistance& kernel, int64_t batch, bool /*plain*/, Executor executor) {
  parallel_for(batch * kernel.query.each, kernel, executor);
}

#else

// The same points as the plain body draws: a point's attempts do not depend on the other points.
inline void sample_row(const SampleByDistance& kernel, int64_t row, Executor executor) {
  const int64_t each = kernel.query.each;
  struct Waiting {
    int32_t j, next, queries;
    double limit;
  };
  std::vector<Waiting> waiting(each), unsure;
  std::vector<Vec3f> asked(each);
  std::vector<float> found(each);
  std::vector<Candidate> candidates(each);
  for (int64_t j = 0; j < each; ++j) waiting[j] = {int32_t(j), 0, 0, 0};
  while (!waiting.empty()) {
    const auto draw = [&](int64_t r) { candidates[r] = kernel.candidate(row, waiting[r].j, waiting[r].next); };
    parallel_for(int64_t(waiting.size()), draw, executor, 256);
    unsure.clear();
    for (std::size_t r = 0; r < waiting.size(); ++r) {
      const Candidate& candidate = candidates[r];
      const int32_t j = waiting[r].j;
      if (candidate.attempt == Attempt::kKept && !kernel.labelled) {
        store3(kernel.points, row * each + j, candidate.point);
        kernel.queries[row * each + j] = waiting[r].queries;
        continue;
      }
      const bool kept = candidate.attempt == Attempt::kKept;
      asked[unsure.size()] = candidate.point;
      unsure.push_back({j, candidate.next, waiting[r].queries + 1, kept ? INFINITY : candidate.limit});
    }
    const int64_t count = int64_t(unsure.size());
    SurfaceQuery<float> query = kernel.query.row(row);
    query.points = &asked.data()->x;
    query.distance = found.data();
    run_query(query, count, false, executor);
    waiting.clear();
    for (int64_t r = 0; r < count; ++r) {
      if (std::fabs(found[r]) >= unsure[r].limit) {
        waiting.push_back(unsure[r]);
      } else {
        store3(kernel.points, row * each + unsure[r].j, asked[r]);
        kernel.distance[row * each + unsure[r].j] = found[r];
        kernel.queries[row * each + unsure[r].j] = unsure[r].queries;
      }
    }
  }
}

inline void run_sample_by_distance(const SampleByDistance& kernel, int64_t batch, bool plain, Executor executor) {
  if (plain) return parallel_for(batch * kernel.query.each, kernel, executor, 64);
  parallel_rows(batch, [&](int64_t row, Executor own) { sample_row(kernel, row, own); }, executor);
}

#endif

}  // namespace pyimplicit
