// Building the hierarchy of bvh.h on the CPU: a binary tree top-down by the binned surface area heuristic, then
// collapsed to eight children a node where that is cheapest.
// Source: Wald, "On fast Construction of SAH-based Bounding Volume Hierarchies", RT 2007, section 3; Wald, Benthin,
// Boulos, "Getting Rid of Packets", RT 2008, section 3 (wide nodes by collapsing).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "surface/bvh_contents.h"

namespace pyimplicit::build {

constexpr int kBins = 16;
constexpr int64_t kOrientedBelow = 4096;  // triangles of the largest node that gets axes of its own
constexpr float kBoxMargin = 1e-6f;       // of the largest coordinate: more than rounding takes from a box
constexpr int64_t kSubtree = 4096;  // triangles from which a subtree is worth a task of its own

// A triangle's box; the fourth lane of `low` holds its number.
struct Primitive {
  Box box;
  int32_t number() const {
    int32_t value;
    const float lane = box.low[3];
    std::memcpy(&value, &lane, 4);
    return value;
  }
  void set_number(int32_t value) {
    float lane;
    std::memcpy(&lane, &value, 4);
    box.low[3] = lane;
  }
};

struct BinaryNode {
  Box box;
  int32_t left = -1, right = -1;  // children, or -1
  int64_t first = 0, count = 0;  // primitives below
};

// Builds the tree on construction; then tells the sizes of its arrays, and fills them.
class BvhBuilder {
 public:
  BvhBuilder(const float* triangles, int64_t count, Executor executor)
      : triangles_(triangles), count_(count), executor_(executor), primitives_(count) {
    grow(/*halve=*/false);
    if (collapse() > kMostDepth) {  // only meshes made to be hard get here; halving needs log8(count) levels
      grow(/*halve=*/true);
      collapse();
    }
  }

  int64_t nodes() const { return int64_t(wide_.size()); }
  int64_t leaves() const { return int64_t(leaves_.size()); }

  // Fills the arrays of Bvh. `order` [F]: the triangle at each slot; `sorted` [F, 9]: their corners.
  void write(float* boxes, int32_t* links, float* moments, int32_t* leaf_first, float* frames, float* sorted,
             int32_t* order) const {
    const auto place_triangle = [&](int64_t slot) {
      order[slot] = primitives_[slot].number();
      std::memcpy(sorted + 9 * slot, triangles_ + 9 * int64_t(order[slot]), 9 * sizeof(float));
    };
    parallel_for(count_, place_triangle, executor_, 4096);
    leaf_first[leaves()] = int32_t(count_);
    std::vector<Moments> of_leaf(leaves()), of_node(nodes());
    const auto place_leaf = [&](int64_t leaf) {
      const BinaryNode& node = tree_[leaves_[leaf]];
      leaf_first[leaf] = int32_t(node.first);
      for (int lane = 0; lane < kWidth; ++lane) {  // lanes without a triangle repeat the first one
        const int64_t slot = node.first + (lane < node.count ? lane : 0);
        write_frame(sorted + 9 * slot, frames + (kFrameSize * leaf) * kWidth + lane);
        if (lane < node.count) of_leaf[leaf].add_triangle(sorted + 9 * slot);
      }
    };
    parallel_for(leaves(), place_leaf, executor_, 256);
    const auto below = [&](int32_t link) -> const Moments& { return link < 0 ? of_leaf[~link] : of_node[link]; };
    for (int64_t node = nodes() - 1; node >= 0; --node) {  // children lie behind their parents
      for (const int32_t link : wide_[node].link) {
        if (link != kNoChild) of_node[node].add(below(link));
      }
    }
    const F4 reach = high_of(tree_[0].box.high, -tree_[0].box.low);
    const float margin = kBoxMargin * std::max(reach[0], std::max(reach[1], reach[2]));
    const auto place_node = [&](int64_t node) {
      Box box[kWidth];
      const Axes axes = fit_boxes(wide_[node], of_node[node], sorted, box);
      float* const out = boxes + kBoxSize * kWidth * node;
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = wide_[node].link[child];
        links[kWidth * node + child] = link;
        for (int axis = 0; axis < 3; ++axis) {
          out[axis * kWidth + child] = box[child].low[axis] - margin;
          out[(axis + 3) * kWidth + child] = box[child].high[axis] + margin;
        }
        float packed[kMomentSize] = {};
        if (link != kNoChild) below(link).pack(tree_[wide_[node].child[child]].box, packed);
        for (int i = 0; i < kMomentSize; ++i) moments[(kMomentSize * node + i) * kWidth + child] = packed[i];
      }
      for (int k = 0; k < 4; ++k) {
        for (int axis = 0; axis < 4; ++axis) out[6 * kWidth + 4 * k + axis] = k < 3 && axis < 3 ? axes.column[k][axis] : 0;
      }
    };
    parallel_for(nodes(), place_node, executor_, 64);
    const Bvh bvh = {boxes, links, nullptr, leaf_first, nullptr, sorted, nullptr, nullptr, 1};
    write_neighbourhoods(bvh, frames);
  }

 private:
  struct WideNode {
    std::array<int32_t, kWidth> child;  // binary nodes, -1 where there is none
    std::array<int32_t, kWidth> link;   // as Bvh::links
  };

  // ---- the binary tree

  void grow(bool halve) {
    const auto make_primitive = [&](int64_t t) {
      const float* p = triangles_ + 9 * t;
      const F4 a = {p[0], p[1], p[2], 0}, b = {p[3], p[4], p[5], 0}, c = {p[6], p[7], p[8], 0};
      primitives_[t].box.low = low_of(a, low_of(b, c));
      primitives_[t].box.high = high_of(a, high_of(b, c));
      primitives_[t].set_number(int32_t(t));
    };
    parallel_for(count_, make_primitive, executor_, 8192);
    tree_.assign(1, BinaryNode{});
    tree_[0].count = count_;
    for (const Primitive& primitive : primitives_) tree_[0].box.add(primitive.box);
    // The top of the tree node by node; then every subtree by itself, in parallel.
    std::vector<int32_t> open = {0}, roots;
    while (!open.empty()) {
      const int32_t node = open.back();
      open.pop_back();
      if (tree_[node].count <= std::max(kSubtree, count_ / 32)) {
        roots.push_back(node);
      } else {
        split(tree_, node, halve, open);
      }
    }
    std::vector<std::vector<BinaryNode>> subtrees(roots.size());
    const auto grow_subtree = [&](int64_t i) {
      subtrees[i].push_back(tree_[roots[i]]);
      std::vector<int32_t> waiting = {0};
      while (!waiting.empty()) {
        const int32_t node = waiting.back();
        waiting.pop_back();
        split(subtrees[i], node, halve, waiting);
      }
    };
    parallel_for(int64_t(roots.size()), grow_subtree, executor_, 1);
    for (size_t i = 0; i < roots.size(); ++i) {
      const int32_t shift = int32_t(tree_.size()) - 1;  // its root stays where it is, the others move to the end
      for (size_t k = 0; k < subtrees[i].size(); ++k) {
        BinaryNode node = subtrees[i][k];
        if (node.left >= 0) node.left += shift, node.right += shift;
        if (k == 0) {
          tree_[roots[i]] = node;
        } else {
          tree_.push_back(node);
        }
      }
    }
  }

  // Gives tree[node] two children and puts them on `open`, or leaves it a leaf.
  void split(std::vector<BinaryNode>& tree, int32_t node, bool halve, std::vector<int32_t>& open) {
    const int64_t first = tree[node].first, count = tree[node].count;
    if (count <= kWidth) return;
    Primitive* const begin = primitives_.data() + first;
    Primitive* const end = begin + count;
    Box spread;  // of the boxes' centers, doubled
    for (const Primitive* p = begin; p != end; ++p) {
      const F4 center = p->box.low + p->box.high;
      spread.low = low_of(spread.low, center);
      spread.high = high_of(spread.high, center);
    }
    const F4 extent = spread.high - spread.low;
    const int widest = extent[0] >= extent[1] ? (extent[0] >= extent[2] ? 0 : 2) : (extent[1] >= extent[2] ? 1 : 2);
    BinaryNode left, right;
    left.first = first;
    if (halve || !(extent[widest] > 0) || !binned_split(begin, end, spread, left, right)) {
      left.count = count / 2;
      std::nth_element(begin, begin + left.count, end, [&](const Primitive& a, const Primitive& b) {
        const float ca = a.box.low[widest] + a.box.high[widest], cb = b.box.low[widest] + b.box.high[widest];
        return ca < cb || (ca == cb && a.number() < b.number());
      });
      for (const Primitive* p = begin; p != end; ++p) (p < begin + left.count ? left : right).box.add(p->box);
    }
    right.first = first + left.count;
    right.count = count - left.count;
    tree[node].left = int32_t(tree.size());
    tree[node].right = int32_t(tree.size()) + 1;
    open.push_back(tree[node].right);
    open.push_back(tree[node].left);
    tree.push_back(left);
    tree.push_back(right);
  }

  // Cuts [begin, end) where the surface area heuristic is least; false if every cut leaves one side empty. A leaf of
  // up to eight triangles is one SIMD test, so the cost of a side counts eights, not triangles.
  static bool binned_split(Primitive* begin, Primitive* end, const Box& spread, BinaryNode& left, BinaryNode& right) {
    const F4 extent = spread.high - spread.low;
    F4 scale = {};
    for (int axis = 0; axis < 3; ++axis) scale[axis] = extent[axis] > 0 ? 0.9999f * kBins / extent[axis] : 0.0f;
    Box bins[3][kBins];
    int64_t counts[3][kBins] = {};
    for (const Primitive* p = begin; p != end; ++p) {
      const F4 at = (p->box.low + p->box.high - spread.low) * scale;
      for (int axis = 0; axis < 3; ++axis) {
        const int bin = int(at[axis]);
        bins[axis][bin].add(p->box);
        ++counts[axis][bin];
      }
    }
    const auto blocks = [](int64_t n) { return float((n + kWidth - 1) / kWidth); };
    const int64_t count = end - begin;
    float best_cost = std::numeric_limits<float>::infinity();
    int best_axis = -1, best_bin = 0;
    for (int axis = 0; axis < 3; ++axis) {
      if (!(extent[axis] > 0)) continue;
      float right_cost[kBins];
      Box side;
      int64_t below = 0;
      for (int bin = kBins - 1; bin > 0; --bin) {
        side.add(bins[axis][bin]);
        below += counts[axis][bin];
        right_cost[bin] = side.half_area() * blocks(below);
      }
      side = Box{};
      below = 0;
      for (int bin = 0; bin < kBins - 1; ++bin) {
        side.add(bins[axis][bin]);
        below += counts[axis][bin];
        if (below == 0 || below == count) continue;
        const float cost = side.half_area() * blocks(below) + right_cost[bin + 1];
        if (cost < best_cost) best_cost = cost, best_axis = axis, best_bin = bin;
      }
    }
    if (best_axis < 0) return false;
    const Primitive* const middle = std::partition(begin, end, [&](const Primitive& p) {
      return int((p.box.low[best_axis] + p.box.high[best_axis] - spread.low[best_axis]) * scale[best_axis]) <= best_bin;
    });
    left.count = middle - begin;
    for (int bin = 0; bin < kBins; ++bin) (bin <= best_bin ? left : right).box.add(bins[best_axis][bin]);
    return true;
  }

  // ---- eight children a node

  // The cheapest way to hand a binary subtree to a parent as at most i children, for i = 1 ... 8.
  // Source: Ylitie, Karras, Laine, "Efficient Incoherent Ray Traversal on GPUs Through Compressed Wide BVHs", HPG 2017,
  // section 3.1.
  struct Plan {
    float cost[kWidth + 1];         // surface area heuristic; never rises with i
    int8_t left_share[kWidth + 1];  // of the i children, those of the left half; 0: the subtree is one child
    int8_t own_left_share;          // the same where the subtree becomes a node with eight children of its own
  };

  std::vector<Plan> plan_collapse() const {
    constexpr float kNodeCost = 1.0f, kLeafCost = 1.5f;  // eight boxes; eight triangles
    // What holding a node costs, whether it is visited or not: where many small children could stand apart or together
    // at much the same cost, fewer and fuller nodes spare a twentieth of the memory.
    const float held = 1e-3f * tree_[0].box.half_area();
    std::vector<Plan> plan(tree_.size());
    for (int64_t n = int64_t(tree_.size()) - 1; n >= 0; --n) {  // children lie behind their parents
      const BinaryNode& node = tree_[n];
      Plan& here = plan[n];
      const float area = node.box.half_area();
      if (node.left < 0) {
        std::fill(here.cost, here.cost + kWidth + 1, kLeafCost * area);
        std::fill(here.left_share, here.left_share + kWidth + 1, int8_t(0));
        continue;
      }
      const Plan &left = plan[node.left], &right = plan[node.right];
      for (int i = 2; i <= kWidth; ++i) {
        here.cost[i] = std::numeric_limits<float>::infinity();
        here.left_share[i] = 1;
        for (int k = 1; k < i; ++k) {
          const float cost = left.cost[k] + right.cost[i - k];
          if (cost < here.cost[i]) here.cost[i] = cost, here.left_share[i] = int8_t(k);
        }
      }
      here.own_left_share = here.left_share[kWidth];
      here.cost[1] = here.cost[kWidth] + kNodeCost * area + held;
      here.left_share[1] = 0;
      for (int i = 2; i <= kWidth; ++i) {
        if (here.cost[i - 1] <= here.cost[i]) {
          here.cost[i] = here.cost[i - 1];
          here.left_share[i] = here.left_share[i - 1];
        }
      }
    }
    return plan;
  }

  // Adds the at most `most` children that the plan makes of a subtree.
  void gather(const std::vector<Plan>& plan, int32_t binary, int most, std::array<int32_t, kWidth>& child,
              int& children) const {
    const int left = plan[binary].left_share[most];
    if (left == 0) {
      child[children++] = binary;
    } else {
      gather(plan, tree_[binary].left, left, child, children);
      gather(plan, tree_[binary].right, most - left, child, children);
    }
  }

  // The children's boxes along the axes that make them smallest: the mesh's own, or the principal ones of the surface
  // below. High up the tree the surface bends too much for that to matter.
  Axes fit_boxes(const WideNode& node, const Moments& sum, const float* sorted, Box* box) const {
    float area = 0;
    int64_t count = 0;
    for (int child = 0; child < kWidth; ++child) {
      if (node.child[child] < 0) continue;
      box[child] = tree_[node.child[child]].box;
      area += box[child].half_area();
      count += tree_[node.child[child]].count;
    }
    if (count > kOrientedBelow) return Axes{};
    const Axes axes = principal_axes(sum);
    Box turned[kWidth];
    float turned_area = 0;
    for (int child = 0; child < kWidth; ++child) {
      if (node.child[child] < 0) continue;
      const BinaryNode& below = tree_[node.child[child]];
      for (int64_t corner = 3 * below.first; corner < 3 * (below.first + below.count); ++corner) {
        turned[child].add(axes.along(sorted + 3 * corner));
      }
      turned_area += turned[child].half_area();
    }
    if (!(turned_area < area)) return Axes{};
    std::copy(turned, turned + kWidth, box);
    return axes;
  }

  // Returns the number of levels.
  int collapse() {
    wide_.clear();
    leaves_.clear();
    const std::vector<Plan> plan = plan_collapse();
    std::vector<int32_t> leaf_of(tree_.size(), -1), walk = {0};
    while (!walk.empty()) {  // leaves numbered from left to right, so that their triangles stand in order
      const int32_t node = walk.back();
      walk.pop_back();
      if (tree_[node].left < 0) {
        leaf_of[node] = int32_t(leaves_.size());
        leaves_.push_back(node);
      } else {
        walk.push_back(tree_[node].right);
        walk.push_back(tree_[node].left);
      }
    }
    struct Task {
      int32_t binary, parent, place;
      int depth;
    };
    int levels = 0;
    std::vector<Task> tasks = {{0, -1, 0, 1}};
    while (!tasks.empty()) {
      const Task task = tasks.back();
      tasks.pop_back();
      levels = std::max(levels, task.depth);
      const int32_t index = int32_t(wide_.size());
      if (task.parent >= 0) wide_[task.parent].link[task.place] = index;
      WideNode node;
      node.child.fill(-1);
      node.link.fill(kNoChild);
      int children = 0;
      const BinaryNode& binary = tree_[task.binary];
      if (binary.left < 0) {
        node.child[children++] = task.binary;  // a mesh of one leaf
      } else {
        const int left = plan[task.binary].own_left_share;
        gather(plan, binary.left, left, node.child, children);
        gather(plan, binary.right, kWidth - left, node.child, children);
      }
      for (int i = 0; i < children; ++i) {
        if (leaf_of[node.child[i]] >= 0) {
          node.link[i] = ~leaf_of[node.child[i]];
        } else {
          tasks.push_back({node.child[i], index, i, task.depth + 1});
        }
      }
      wide_.push_back(node);
    }
    return levels;
  }

  // A leaf's neighbourhood is what lies below its node's parent.
  void write_neighbourhoods(const Bvh& bvh, float* frames) const {
    std::vector<int32_t> parent(nodes(), -1);
    for (int64_t node = 0; node < nodes(); ++node) {
      for (const int32_t link : wide_[node].link) {
        if (link >= 0) parent[link] = int32_t(node);
      }
    }
    const auto reach_around = [&](Vec3f center, int32_t below) {
      float squared = INFINITY;
      for (int32_t node = below; parent[node] >= 0; node = parent[node]) {
        const int32_t above = parent[node];
        const Vec3f turned = bvh.along_axes(above, center);
        for (int child = 0; child < kWidth; ++child) {
          const int32_t link = wide_[above].link[child];
          if (link == kNoChild || link == node) continue;
          squared = std::min(squared, bvh.box_distance_squared(above, child, turned));
        }
      }
      return std::sqrt(squared) - 2 * float(Bvh::rounding(1));
    };
    const auto place_leaves = [&](int64_t node) {
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = wide_[node].link[child];
        if (link >= 0 || link == kNoChild) continue;
        const Box& box = tree_[wide_[node].child[child]].box;
        const F4 center = 0.5f * (box.low + box.high);
        Neighbourhood around = {{center[0], center[1], center[2]}, -1, 0, {0, 0, 0}};
        if (parent[node] > 0) {
          around.node = parent[node];
          around.reach = reach_around({center[0], center[1], center[2]}, parent[node]);
        }
        std::memcpy(frames + (kFrameSize * int64_t(~link) + kFrameValues) * kWidth, &around, sizeof around);
      }
    };
    parallel_for(nodes(), place_leaves, executor_, 64);
  }

  const float* triangles_;
  int64_t count_;
  Executor executor_;
  std::vector<Primitive> primitives_;
  std::vector<BinaryNode> tree_;
  std::vector<WideNode> wide_;
  std::vector<int32_t> leaves_;  // binary node of each leaf
};

}  // namespace pyimplicit::build
