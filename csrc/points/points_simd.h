// Farthest points and nearest neighbours, eight points at a time: points are kept in blocks along a Morton curve, each
// with its bounding box, and a block is left alone where its box is too far to matter. Included once for each
// instruction set, inside a namespace of its own (points_cpu.cpp).
//
// The squared distance to a box is summed as that to a point: as rounding never turns an order around, it is at most
// the squared distance found for any point inside, to the last bit. So nothing is missed and no tolerance is needed.

#include "base/simd8.h"

constexpr int64_t kBlock = 64;       // points
constexpr int64_t kSortFrom = 1024;  // points from which on boxes are worth sorting for

struct PointBlocks {
  // Eight blocks' boxes side by side; whoever fills up the last eight is a box of its own, never asked for.
  struct Boxes {
    float low[3][8], high[3][8];
  };
  int64_t blocks;
  std::vector<float> coordinates;  // [3, blocks, kBlock]; NaN fills up the last block
  std::vector<int32_t> index;      // [blocks, kBlock] place in the cloud
  std::vector<Boxes> boxes;

  PointBlocks(const float* points, int64_t count) : blocks((count + kBlock - 1) / kBlock) {
    std::vector<int32_t> order;
    if (count >= kSortFrom) order = morton_order(points, count, Executor());
    coordinates.assign(3 * blocks * kBlock, NAN);
    index.assign(blocks * kBlock, INT32_MAX);
    boxes.assign((blocks + 7) / 8, Boxes());
    for (Boxes& eight : boxes) {
      for (int axis = 0; axis < 3; ++axis) {
        for (int lane = 0; lane < 8; ++lane) eight.low[axis][lane] = INFINITY, eight.high[axis][lane] = -INFINITY;
      }
    }
    for (int64_t place = 0; place < count; ++place) {
      const int32_t n = order.empty() ? int32_t(place) : order[place];
      Boxes& eight = boxes[place / kBlock / 8];
      const int lane = int(place / kBlock % 8);
      index[place] = n;
      for (int axis = 0; axis < 3; ++axis) {
        const float x = points[3 * int64_t(n) + axis];
        coordinates[axis * blocks * kBlock + place] = x;
        eight.low[axis][lane] = std::min(eight.low[axis][lane], x);
        eight.high[axis][lane] = std::max(eight.high[axis][lane], x);
      }
    }
  }

  const float* axis(int which) const { return coordinates.data() + which * blocks * kBlock; }
};

// A point eight times.
struct Splat3 {
  F8 x, y, z;
  explicit Splat3(const float* p) : x(splat(p[0])), y(splat(p[1])), z(splat(p[2])) {}

  F8 squared_distance(F8 px, F8 py, F8 pz) const {
    const F8 dx = px - x, dy = py - y, dz = pz - z;
    return dx * dx + dy * dy + dz * dz;
  }
  F8 squared_distance(const PointBlocks::Boxes& boxes) const {
    const F8 zero = splat(0);
    const F8 dx = max8(max8(load8(boxes.low[0]) - x, x - load8(boxes.high[0])), zero);
    const F8 dy = max8(max8(load8(boxes.low[1]) - y, y - load8(boxes.high[1])), zero);
    const F8 dz = max8(max8(load8(boxes.low[2]) - z, z - load8(boxes.high[2])), zero);
    return dx * dx + dy * dy + dz * dz;
  }
};

inline float greatest(F8 a) { return -least(-a); }

inline void farthest_points_of(const FarthestPoints<float>& kernel, int64_t cloud) {
  const float* const points = kernel.points + 3 * kernel.each * cloud;
  int64_t* const chosen = kernel.chosen + kernel.count * cloud;
  const PointBlocks sorted(points, kernel.each);
  const float *const x = sorted.axis(0), *const y = sorted.axis(1), *const z = sorted.axis(2);
  std::vector<float> distance(sorted.blocks * kBlock, -1.0f);  // to the chosen points, squared; -1: never to be chosen
  std::vector<float> farthest(sorted.boxes.size() * 8, -1.0f);  // of each block
  for (int64_t place = 0; place < kernel.each; ++place) {
    distance[place] = kernel.first_distance(points + 3 * int64_t(sorted.index[place]));
    farthest[place / kBlock] = std::max(farthest[place / kBlock], distance[place]);
  }
  int64_t last = chosen[0] = kernel.start;
  for (int64_t j = 1; j < kernel.count; ++j) {
    const Splat3 center(points + 3 * last);
    F8 most = splat(-1);
    for (size_t eight = 0; eight < sorted.boxes.size(); ++eight) {
      float* const farthest8 = farthest.data() + 8 * eight;
      unsigned near = bits_of(center.squared_distance(sorted.boxes[eight]) < load8(farthest8));
      for (; near != 0; near &= near - 1) {
        const int lane = __builtin_ctz(near);
        const int64_t begin = (8 * int64_t(eight) + lane) * kBlock;
        F8 here = splat(-1);
        for (int64_t place = begin; place < begin + kBlock; place += 8) {
          // In this order: the minimum with NaN is the second.
          const F8 nearest = min8(center.squared_distance(load8(x + place), load8(y + place), load8(z + place)),
                                  load8(distance.data() + place));
          store8(distance.data() + place, nearest);
          here = max8(here, nearest);
        }
        farthest8[lane] = greatest(here);
      }
      most = max8(most, load8(farthest8));
    }
    const float best = greatest(most);
    int32_t where = INT32_MAX;
    for (size_t eight = 0; best >= 0 && eight < sorted.boxes.size(); ++eight) {
      unsigned equal = bits_of(load8(farthest.data() + 8 * eight) == splat(best));
      for (; equal != 0; equal &= equal - 1) {
        const int64_t begin = (8 * int64_t(eight) + __builtin_ctz(equal)) * kBlock;
        for (int64_t place = begin; place < begin + kBlock; place += 8) {
          unsigned lanes = bits_of(load8(distance.data() + place) == splat(best));
          for (; lanes != 0; lanes &= lanes - 1) where = std::min(where, sorted.index[place + __builtin_ctz(lanes)]);
        }
      }
    }
    last = chosen[j] = where == INT32_MAX ? kernel.start : where;
  }
}

// Queries [begin, end) of one cloud.
inline void nearest_neighbours_of(const NearestNeighbours<float>& kernel, const PointBlocks& sorted, int64_t begin,
                                  int64_t end) {
  const float *const x = sorted.axis(0), *const y = sorted.axis(1), *const z = sorted.axis(2);
  std::vector<float> reach(sorted.boxes.size() * 8);  // squared distance of each block's box
  for (int64_t i = begin; i < end; ++i) {
    const Splat3 query(kernel.queries + 3 * i);
    Nearest<float> found = kernel.nearest(i);
    const auto search = [&](int64_t block) {
      for (int64_t place = block * kBlock; place < (block + 1) * kBlock; place += 8) {
        const F8 squared = query.squared_distance(load8(x + place), load8(y + place), load8(z + place));
        // A lane of NaN, which fills up the last block, is never below.
        const F8 limit = splat(found.found < found.count ? INFINITY : found.squared[found.count - 1]);
        unsigned near = bits_of(squared <= limit);
        for (; near != 0; near &= near - 1) {
          const int lane = __builtin_ctz(near);
          found.insert(squared[lane], sorted.index[place + lane]);
        }
      }
    };
    float nearest_reach = INFINITY;
    int64_t first = 0;
    for (size_t eight = 0; eight < sorted.boxes.size(); ++eight) {
      store8(reach.data() + 8 * eight, query.squared_distance(sorted.boxes[eight]));
    }
    for (int64_t block = 0; block < sorted.blocks; ++block) {
      if (reach[block] < nearest_reach) nearest_reach = reach[block], first = block;
    }
    search(first);
    for (int64_t block = 0; block < sorted.blocks; ++block) {
      if (block == first) continue;
      if (found.found == found.count && reach[block] > found.squared[found.count - 1]) continue;
      search(block);
    }
  }
}
