// Whether a surface overlaps, touches or passes through itself, and on which side of its bodies the inside is: what has
// to be known before the nearest feature's normal may decide a sign. For CPU and GPU.
#pragma once

#include "surface/surface.h"

namespace pyimplicit {

// Two triangles that have no corner in common.
struct TrianglePair {
  Vec3d a[3], b[3];  // corners relative to the first one's first
  Vec3d a_normal, b_normal;

  PIM_HOST_DEVICE TrianglePair(const Vec3d* one, const Vec3d* other) {
    for (int i = 0; i < 3; ++i) a[i] = one[i] - one[0], b[i] = other[i] - one[0];
    a_normal = cross(a[1], a[2]);
    b_normal = cross(b[1] - b[0], b[2] - b[0]);
  }

  // Whether they face each other, or lie back to back, within 60 degrees. Side by side near triangles do no harm.
  PIM_HOST_DEVICE bool facing() const {
    return dot(a_normal, b_normal) < -0.5 * length(a_normal) * length(b_normal);
  }

  // Whether one of the axes that part two triangles if any do shows a gap of more than this: first those in their
  // planes, which part neighbours on a surface.
  // Source: Gottschalk, Lin, Manocha, "OBBTree", SIGGRAPH 1996, section 5 (the separating axis theorem).
  PIM_HOST_DEVICE bool apart(double gap) const {
    for (int i = 0; i < 3; ++i) {
      if (apart_along(cross(a_normal, edge(a, i)), gap) || apart_along(cross(b_normal, edge(b, i)), gap)) return true;
    }
    if (apart_along(a_normal, gap) || apart_along(b_normal, gap)) return true;
    for (int i = 0; i < 9; ++i) {
      if (apart_along(cross(edge(a, i / 3), edge(b, i % 3)), gap)) return true;
    }
    return false;
  }

  PIM_HOST_DEVICE static Vec3d edge(const Vec3d* corners, int i) { return corners[i == 2 ? 0 : i + 1] - corners[i]; }

  PIM_HOST_DEVICE bool apart_along(Vec3d axis, double gap) const {
    const double p = dot(a[1], axis), q = dot(a[2], axis);
    const double r = dot(b[0], axis), s = dot(b[1], axis), t = dot(b[2], axis);
    const double above = smaller(r, smaller(s, t)) - larger(0.0, larger(p, q));
    const double below = smaller(0.0, smaller(p, q)) - larger(r, larger(s, t));
    const double between = larger(above, below);
    return between > 0 && between * between > gap * gap * dot(axis, axis);
  }
};

// A node's axes, or a box along them.
struct TurnedBox {
  Vec3f axis[3];
  float middle[3], half[3];  // of the box, along its axes

  PIM_HOST_DEVICE void load_axes(const Bvh& bvh, int64_t node) {
    const float* m = bvh.boxes + kBoxSize * kWidth * node + 6 * kWidth;
    for (int i = 0; i < 3; ++i) axis[i] = {m[i], m[4 + i], m[8 + i]};
  }
  PIM_HOST_DEVICE void load_box(const Bvh& bvh, int64_t node, int child) {
    const float* box = bvh.boxes + kBoxSize * kWidth * node + child;
    for (int i = 0; i < 3; ++i) {
      middle[i] = 0.5f * (box[i * kWidth] + box[(3 + i) * kWidth]);
      half[i] = 0.5f * (box[(3 + i) * kWidth] - box[i * kWidth]);
    }
  }
};

// One axis in terms of another box's, and how far that box reaches along it.
struct Turn {
  float cosine[3][3];

  PIM_HOST_DEVICE Turn(const TurnedBox& to, const TurnedBox& from) {
    for (int i = 0; i < 3; ++i) {
      for (int k = 0; k < 3; ++k) cosine[i][k] = dot(to.axis[i], from.axis[k]);
    }
  }
  PIM_HOST_DEVICE void apply(const TurnedBox& from, float* middle, float* half) const {
    for (int i = 0; i < 3; ++i) {
      middle[i] = half[i] = 0;
      for (int k = 0; k < 3; ++k) {
        middle[i] += cosine[i][k] * from.middle[k];
        half[i] += std::fabs(cosine[i][k]) * from.half[k];
      }
    }
  }
};

// Sets a flag that others may be setting as well.
PIM_HOST_DEVICE inline void raise_flag(uint8_t* flag) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<volatile uint8_t*>(flag) = 1;
#else
  __atomic_store_n(flag, uint8_t(1), __ATOMIC_RELAXED);
#endif
}

PIM_HOST_DEVICE inline bool is_raised(const uint8_t* flag) {
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const volatile uint8_t*>(flag) != 0;
#else
  return __atomic_load_n(flag, __ATOMIC_RELAXED) != 0;
#endif
}

// The boxes of a leaf's triangles, side by side, wider by a margin.
struct LeafBoxes {
  float low[3][kWidth], high[3][kWidth];

  PIM_HOST_DEVICE LeafBoxes(const Bvh& bvh, int64_t leaf, float margin) {
    const int64_t first = bvh.leaf_first[leaf], count = bvh.leaf_first[leaf + 1] - first;
    for (int lane = 0; lane < kWidth; ++lane) {
      const float* b = bvh.triangles + 9 * (first + (lane < count ? lane : 0));
      for (int i = 0; i < 3; ++i) {
        low[i][lane] = smaller(b[i], smaller(b[3 + i], b[6 + i])) - margin;
        high[i][lane] = larger(b[i], larger(b[3 + i], b[6 + i])) + margin;
      }
    }
  }
};

// Looks from each node's own leaves for triangles that cross or nearly touch theirs, a pair from the lower of its two
// leaves. Flags are raised and never taken back, so neither order nor threads change what comes out.
struct FindOverlap {
  static constexpr int kMostSteps = 1 << 14;  // of a node, where some hundreds are common

  Bvh bvh;
  const int32_t* vertex;  // [F, 3] by slot; corners at one position have the same number
  double reach;           // in coordinates of the hierarchy
  double rounding;        // the same
  // outputs
  uint8_t* crossed;   // [F] by slot: another triangle touches it or passes through it
  uint8_t* close;     // [F] by slot: one that faces it, or lies behind its back, is too near to be told from it
  uint8_t* gave_up;   // [1] there was too much to look at, and the flags are not complete

  PIM_HOST_DEVICE void operator()(int64_t node) const {
    if (is_raised(gave_up)) return;
    TurnedBox own[kWidth];  // of its leaves
    int32_t leaves[kWidth];
    int count = 0;
    TurnedBox all;
    all.load_axes(bvh, node);
    float low[3] = {INFINITY, INFINITY, INFINITY}, high[3] = {-INFINITY, -INFINITY, -INFINITY};
    for (int child = 0; child < kWidth; ++child) {
      const int32_t link = bvh.links[kWidth * node + child];
      if (link >= 0 || link == kNoChild) continue;
      own[count] = all;
      own[count].load_box(bvh, node, child);
      for (int i = 0; i < 3; ++i) {
        low[i] = smaller(low[i], own[count].middle[i] - own[count].half[i]);
        high[i] = larger(high[i], own[count].middle[i] + own[count].half[i]);
      }
      leaves[count++] = ~link;
    }
    if (count == 0) return;
    for (int i = 0; i < 3; ++i) all.middle[i] = 0.5f * (low[i] + high[i]), all.half[i] = 0.5f * (high[i] - low[i]);
    int steps = 0, waiting = 0;
    int32_t stack[kStackSize];
    stack[waiting++] = 0;
    while (waiting > 0) {
      const int64_t at = stack[--waiting];
      TurnedBox there;
      there.load_axes(bvh, at);
      const Turn turn(there, all), back(all, there);
      float middle[3], half[3];
      turn.apply(all, middle, half);
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = bvh.links[kWidth * at + child];
        if (link == kNoChild) continue;
        there.load_box(bvh, at, child);
        if (!meet(there, middle, half)) continue;
        if (++steps > kMostSteps) return raise_flag(gave_up);
        if (link >= 0) {
          stack[waiting++] = link;
          continue;
        }
        float its_middle[3], its_half[3];
        back.apply(there, its_middle, its_half);
        unsigned meeting = 0;  // own leaves
        for (int k = 0; k < count; ++k) {
          if (leaves[k] > ~link) continue;
          if (leaves[k] < ~link) {
            if (!meet(own[k], its_middle, its_half)) continue;
            float own_middle[3], own_half[3];
            turn.apply(own[k], own_middle, own_half);
            if (!meet(there, own_middle, own_half)) continue;
          }
          meeting |= 1u << k;
        }
        if (meeting == 0) continue;
        const LeafBoxes boxes(bvh, ~link, float(reach));
        for (int k = 0; k < count; ++k) {
          if ((meeting >> k & 1) != 0) steps += compare_leaves(leaves[k], ~link, boxes);
        }
      }
    }
  }

  PIM_HOST_DEVICE bool meet(const TurnedBox& box, const float* middle, const float* half) const {
    for (int i = 0; i < 3; ++i) {
      if (std::fabs(box.middle[i] - middle[i]) > box.half[i] + half[i] + float(reach)) return false;
    }
    return true;
  }

  // Returns how many pairs it had to look at closely.
  PIM_HOST_DEVICE int compare_leaves(int32_t one, int32_t other, const LeafBoxes& boxes) const {
    const int64_t first = bvh.leaf_first[other];
    const int count = int(bvh.leaf_first[other + 1] - first);
    int compared = 0;
    for (int64_t s = bvh.leaf_first[one]; s < bvh.leaf_first[one + 1]; ++s) {
      const float* a = bvh.triangles + 9 * s;
      int32_t apart[kWidth] = {};
      for (int i = 0; i < 3; ++i) {
        const float low = smaller(a[i], smaller(a[3 + i], a[6 + i])), high = larger(a[i], larger(a[3 + i], a[6 + i]));
        for (int lane = 0; lane < kWidth; ++lane) {
          apart[lane] |= (boxes.low[i][lane] > high) | (low > boxes.high[i][lane]);
        }
      }
      int near[kWidth], nears = 0;  // without branches, which nobody could foretell
      for (int lane = one == other ? int(s - first) + 1 : 0; lane < count; ++lane) {
        near[nears] = lane;
        nears += apart[lane] == 0;
      }
      for (int i = 0; i < nears; ++i) {
        if (share_corner(s, first + near[i])) continue;
        compare(s, first + near[i]);
        ++compared;
      }
    }
    return compared;
  }

  PIM_HOST_DEVICE void compare(int64_t s, int64_t t) const {
    const Vec3d a[3] = {bvh.corner(s, 0), bvh.corner(s, 1), bvh.corner(s, 2)};
    const Vec3d b[3] = {bvh.corner(t, 0), bvh.corner(t, 1), bvh.corner(t, 2)};
    TrianglePair pair(a, b);
    const bool facing = pair.facing();
    if (pair.apart(facing ? reach : rounding)) return;
    uint8_t* const flags = facing && pair.apart(rounding) ? close : crossed;
    raise_flag(flags + s);
    raise_flag(flags + t);
  }

  PIM_HOST_DEVICE bool share_corner(int64_t s, int64_t t) const {
    const int32_t *a = vertex + 3 * s, *b = vertex + 3 * t;
    int shared = 0;
    for (int i = 0; i < 3; ++i) shared |= (a[i] == b[0]) | (a[i] == b[1]) | (a[i] == b[2]);
    return shared != 0;
  }
};

// The winding number at the middle of some triangles, without themselves: halfway between those on their two sides.
struct WindingAtFaces {
  const int32_t* slots;
  Bvh bvh;
  double beta;
  // outputs
  double* winding_number;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t slot = slots[i];
    const Vec3d middle = (1.0 / 3) * (bvh.corner(slot, 0) + bvh.corner(slot, 1) + bvh.corner(slot, 2));
    winding_number[i] = winding_number_at(bvh, middle, beta, slot);
  }
};

}  // namespace pyimplicit
