// Building the hierarchy of bvh.h on the CPU: top-down, binned surface area heuristic.
// Source: Wald, "On fast Construction of SAH-based Bounding Volume Hierarchies", RT 2007, section 3.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "bvh.h"

namespace pyimplicit {

namespace build {

constexpr int kBins = 16;
constexpr int kLeafSize = 4;        // triangles a leaf may hold: four tests cost about as much as two boxes
constexpr int kMedianDepth = 60;    // from here on halves by count, so that no tree passes kMostDepth

struct Box {
  float low[3] = {std::numeric_limits<float>::max(), std::numeric_limits<float>::max(), std::numeric_limits<float>::max()};
  float high[3] = {std::numeric_limits<float>::lowest(), std::numeric_limits<float>::lowest(),
                   std::numeric_limits<float>::lowest()};

  void add(const float* p) {
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], p[axis]);
      high[axis] = std::max(high[axis], p[axis]);
    }
  }
  void add(const Box& other) {
    add(other.low);
    add(other.high);
  }
  float half_area() const {
    const float x = high[0] - low[0], y = high[1] - low[1], z = high[2] - low[2];
    return x < 0 ? 0.0f : x * y + y * z + z * x;
  }
};

struct Task {
  int node, depth;
  int64_t begin, end;
};

// Where to cut [begin, end) of `order`; `begin` if a leaf is the better choice.
inline int64_t split(std::vector<int32_t>& order, const std::vector<Box>& boxes, const std::vector<float>& centroids,
                     const Box& bounds, int64_t begin, int64_t end, int depth) {
  const int64_t count = end - begin;
  if (count <= 1) return begin;
  Box spread;
  for (int64_t i = begin; i < end; ++i) spread.add(&centroids[3 * int64_t(order[i])]);
  int widest = 0;
  for (int axis = 1; axis < 3; ++axis) {
    if (spread.high[axis] - spread.low[axis] > spread.high[widest] - spread.low[widest]) widest = axis;
  }
  const auto halve = [&] {
    if (count <= kLeafSize) return begin;
    const int64_t middle = begin + count / 2;
    std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end, [&](int32_t a, int32_t b) {
      const float ca = centroids[3 * int64_t(a) + widest], cb = centroids[3 * int64_t(b) + widest];
      return ca < cb || (ca == cb && a < b);
    });
    return middle;
  };
  if (depth >= kMedianDepth || !(spread.high[widest] > spread.low[widest])) return halve();

  float best_cost = std::numeric_limits<float>::max();
  int best_axis = -1, best_bin = -1;
  const auto bin_of = [&](int32_t triangle, int axis) {
    const float extent = spread.high[axis] - spread.low[axis];
    const float at = (centroids[3 * int64_t(triangle) + axis] - spread.low[axis]) / extent;
    return std::min(kBins - 1, std::max(0, int(at * kBins)));
  };
  for (int axis = 0; axis < 3; ++axis) {
    if (!(spread.high[axis] > spread.low[axis])) continue;
    std::array<Box, kBins> bins;
    std::array<int64_t, kBins> counts = {};
    for (int64_t i = begin; i < end; ++i) {
      const int bin = bin_of(order[i], axis);
      bins[bin].add(boxes[order[i]]);
      ++counts[bin];
    }
    std::array<float, kBins> right_cost = {};
    Box right;
    int64_t right_count = 0;
    for (int bin = kBins - 1; bin > 0; --bin) {
      right.add(bins[bin]);
      right_count += counts[bin];
      right_cost[bin] = right.half_area() * float(right_count);
    }
    Box left;
    int64_t left_count = 0;
    for (int bin = 0; bin < kBins - 1; ++bin) {
      left.add(bins[bin]);
      left_count += counts[bin];
      if (left_count == 0 || left_count == count) continue;
      const float cost = left.half_area() * float(left_count) + right_cost[bin + 1];
      if (cost < best_cost) best_cost = cost, best_axis = axis, best_bin = bin;
    }
  }
  if (best_axis < 0) return halve();
  const float leaf_cost = bounds.half_area() * float(count);
  if (count <= kLeafSize && leaf_cost <= best_cost + bounds.half_area()) return begin;
  const auto middle = std::partition(order.begin() + begin, order.begin() + end,
                                     [&](int32_t triangle) { return bin_of(triangle, best_axis) <= best_bin; });
  return middle - order.begin();
}

// Moments of a node's triangles for the winding number far away.
// Source: Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018, section 3.1.
struct Moments {
  double area = 0;
  Vec3d center = {0, 0, 0};  // area-weighted, times area until finish()
  Vec3d normal = {0, 0, 0};  // sum of area times unit normal
};

}  // namespace build

// Builds the tree of `count` triangles. Outputs: bounds [2 count, 6], links [2 count, 2], moments [2 count, 16] and
// order [count] (the triangle at each leaf slot). Returns the number of nodes used.
inline int64_t build_bvh(const float* triangles, int64_t count, float* bounds, int32_t* links, float* moments,
                         int32_t* order_out) {
  using namespace build;
  std::vector<Box> boxes(count);
  std::vector<float> centroids(3 * count);
  for (int64_t t = 0; t < count; ++t) {
    for (int corner = 0; corner < 3; ++corner) boxes[t].add(triangles + 9 * t + 3 * corner);
    for (int axis = 0; axis < 3; ++axis) centroids[3 * t + axis] = 0.5f * (boxes[t].low[axis] + boxes[t].high[axis]);
  }
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);

  int64_t nodes = 1;
  std::vector<Task> tasks = {{0, 0, 0, count}};
  while (!tasks.empty()) {
    const Task task = tasks.back();
    tasks.pop_back();
    Box box;
    for (int64_t i = task.begin; i < task.end; ++i) box.add(boxes[order[i]]);
    std::copy(box.low, box.low + 3, bounds + 6 * int64_t(task.node));
    std::copy(box.high, box.high + 3, bounds + 6 * int64_t(task.node) + 3);
    const int64_t middle = split(order, boxes, centroids, box, task.begin, task.end, task.depth);
    int32_t* link = links + 2 * int64_t(task.node);
    if (middle == task.begin) {
      link[0] = int32_t(task.begin);
      link[1] = int32_t(task.end - task.begin);
      continue;
    }
    link[0] = int32_t(nodes);
    link[1] = 0;
    const int left = int(nodes), right = int(nodes + 1);
    nodes += 2;
    tasks.push_back({right, task.depth + 1, middle, task.end});
    tasks.push_back({left, task.depth + 1, task.begin, middle});
  }
  std::copy(order.begin(), order.end(), order_out);

  // Children lie behind their parent, so one backward sweep gathers the sums; a second pass measures them from the
  // node's own center. The second moment of a sum follows from those of its parts by shifting the center.
  struct Second {
    double m[3][3] = {};
  };
  std::vector<Moments> sums(nodes);
  std::vector<Second> seconds(nodes);
  for (int64_t node = nodes - 1; node >= 0; --node) {
    const int32_t first = links[2 * node], leaf = links[2 * node + 1];
    Moments& sum = sums[node];
    const auto add_second = [&](Vec3d from, Vec3d normal) {
      const Vec3d arm = from - sum.center;
      const double a[3] = {arm.x, arm.y, arm.z}, n[3] = {normal.x, normal.y, normal.z};
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) seconds[node].m[i][j] += a[i] * n[j];
    };
    std::array<Vec3d, 2 * kLeafSize> part_center, part_normal;
    int parts = 0;
    const auto add_part = [&](double area, Vec3d center, Vec3d normal) {
      sum.area += area;
      sum.center = sum.center + area * center;
      sum.normal = sum.normal + normal;
      part_center[parts] = center;
      part_normal[parts++] = normal;
    };
    if (leaf > 0) {
      for (int32_t slot = first; slot < first + leaf; ++slot) {
        const float* t = triangles + 9 * int64_t(order[slot]);
        const Vec3d a(Vec3d{t[0], t[1], t[2]}), b(Vec3d{t[3], t[4], t[5]}), c(Vec3d{t[6], t[7], t[8]});
        const Vec3d normal = 0.5 * cross(b - a, c - a);
        add_part(length(normal), (1.0 / 3.0) * (a + b + c), normal);
      }
    } else {
      for (int child = first; child < first + 2; ++child) add_part(sums[child].area, sums[child].center, sums[child].normal);
    }
    const float* box = bounds + 6 * node;
    const Vec3d low = {box[0], box[1], box[2]}, high = {box[3], box[4], box[5]};
    sum.center = sum.area > 0 ? (1.0 / sum.area) * sum.center : 0.5 * (low + high);
    for (int part = 0; part < parts; ++part) add_second(part_center[part], part_normal[part]);
    if (leaf == 0) {
      for (int child = first; child < first + 2; ++child)
        for (int i = 0; i < 3; ++i)
          for (int j = 0; j < 3; ++j) seconds[node].m[i][j] += seconds[child].m[i][j];
    }
    const Vec3d reach = {std::max(high.x - sum.center.x, sum.center.x - low.x),
                         std::max(high.y - sum.center.y, sum.center.y - low.y),
                         std::max(high.z - sum.center.z, sum.center.z - low.z)};
    float* out = moments + kMomentSize * node;
    store3(out, 0, Vec3f(sum.center));
    store3(out, 1, Vec3f(sum.normal));
    for (int i = 0; i < 9; ++i) out[6 + i] = float(seconds[node].m[i / 3][i % 3]);
    out[15] = float(length(reach));
  }
  return nodes;
}

}  // namespace pyimplicit
