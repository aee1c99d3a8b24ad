// Points of a cube whose density is a decreasing function of their distance to a surface, drawn exactly.
//
// The part of the cube that can carry weight is cut into cells. A cell's weight is an upper bound, from the distance of
// its center; a cell is chosen by these bounds, a point evenly in it, and the point is kept with probability (its
// weight / the bound). The center's distance bounds the point's from both sides, so most points are kept or refused
// without a query. The distance that was computed is the label.
#pragma once

#include "sampling/query_points.h"

namespace pyimplicit {

// Weight of a point at distance g from the surface, between 0 and 1 and decreasing.
// Sources: linear: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A,
// equation 2, as a probability; exponential: Davies et al., "On the Effectiveness of Weight-Encoded Neural Implicit 3D
// Shapes", 2020, section 3.
struct DistanceWeight {
  bool exponential;
  double slope;  // per mesh unit: mu, or beta
  double reach;  // tau, mesh units; of the linear weight

  PIM_HOST_DEVICE double at(double g) const {
    if (exponential) return std::exp(-slope * g);
    const double weight = slope * (reach - g);
    return weight < 0 ? 0 : weight < 1 ? weight : 1;
  }

  // The distance below which the weight is above t, for 0 <= t < 1.
  PIM_HOST_DEVICE double limit(double t) const { return exponential ? -std::log(t) / slope : reach - t / slope; }
};

// A cube within the cube, and its entry in the alias table of all cells of the surface.
struct WeightCell {
  float center[3];  // mesh units
  float half_side;  // mesh units
  float distance;   // of the center, mesh units
  float bound;      // of the weight in the cell
  AliasEntry alias;
};

struct WeightCells {
  const WeightCell* cells;  // of all surfaces
  const int64_t* first;     // [S + 1] first cell of each surface
  double margin;            // how far rounding can put two computed distances of the same point apart, mesh units
};

enum class Attempt : uint8_t { kKept, kUnsure };

// A point that is kept if it is nearer to the surface than `limit`; surely so if `attempt` says it.
struct Candidate {
  Vec3f point;
  double limit;
  Attempt attempt;
  int32_t next;  // number of the attempt after this one
};

struct SampleByDistance {
  static constexpr int32_t kMostAttempts = 1 << 15;  // what the counter holds; of them at least one in 50 is kept

  SurfaceBatchQuery<float> query;  // its points and distances are this kernel's
  WeightCells cells;
  DistanceWeight weight;
  RowStreams streams;
  uint32_t purpose;
  bool labelled;  // whether the distances are wanted; else some of them are never computed
  // outputs
  float* points;    // [B, N, 3] mesh units
  float* distance;  // [B, N] mesh units; signed if the query is
  int32_t* queries;  // [B, N] how many distances it took

  // The first attempt of point j from number `next` on that is not refused at sight.
  PIM_HOST_DEVICE Candidate candidate(int64_t row, int64_t j, int32_t next) const {
    const int64_t shape = query.shapes[row], first = cells.first[shape], count = cells.first[shape + 1] - first;
    const RandomStream stream = streams.of(row, purpose);
    for (; next < kMostAttempts; ++next) {
      const Words4 choice = stream.words(j | (int64_t(2 * next) << 32));
      const Words4 place = stream.words(j | (int64_t(2 * next + 1) << 32));
      const UniformPlace entry(choice.w[0], choice.w[1], count);
      const WeightCell* cell = cells.cells + first + entry.index;
      if (!(entry.within < cell->alias.share)) cell = cells.cells + first + cell->alias.other;
      const double limit = weight.limit(uniform53(choice.w[2], choice.w[3]) * cell->bound);
      const auto within = [&](int axis) {
        const double step = mul_rounded(2 * open_uniform(place.w[axis]) - 1, double(cell->half_side));
        return float(add_rounded(double(cell->center[axis]), step));
      };
      const Vec3f point = {within(0), within(1), within(2)};
      const Vec3d arm = Vec3d(point) - Vec3d{cell->center[0], cell->center[1], cell->center[2]};
      const double radius = std::sqrt(dot(arm, arm)), of_center = cell->distance;
      if (of_center - radius >= limit + cells.margin) continue;
      return {point, limit, of_center + radius < limit - cells.margin ? Attempt::kKept : Attempt::kUnsure, next + 1};
    }
    return {{NAN, NAN, NAN}, INFINITY, Attempt::kKept, next};
  }

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t row = i / query.each, j = i % query.each;
    queries[i] = 0;
    for (int32_t next = 0;;) {
      const Candidate found = candidate(row, j, next);
      store3(points, i, found.point);
      const bool kept = found.attempt == Attempt::kKept;
      if (kept && !labelled) return;
      query(i);
      ++queries[i];
      if (kept || !(std::fabs(double(distance[i])) >= found.limit)) return;
      next = found.next;
    }
  }
};

}  // namespace pyimplicit
