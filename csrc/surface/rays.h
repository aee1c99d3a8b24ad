// Ray casting over the hierarchy of bvh.h: the first hit of each ray, or whether there is one.
#pragma once

#include "surface/bvh.h"

namespace pyimplicit {

// A ray sheared so that it runs along one axis: whether it passes a triangle is then a question of three edge signs in
// the plane, which two triangles with a common edge answer alike, so that no ray slips between them.
// Source: Woop, Benthin, Wald, "Watertight Ray/Triangle Intersection", JCGT 2013, section 3.
struct ShearedRay {
  int x, y, z;                 // axes, z the one the ray mostly runs along
  double shear_x, shear_y, shear_z;
  double origin[3], direction[3];

  PIM_HOST_DEVICE ShearedRay(Vec3d from, Vec3d along)
      : origin{from.x, from.y, from.z}, direction{along.x, along.y, along.z} {
    z = fabs(direction[1]) > fabs(direction[0]) ? 1 : 0;
    z = fabs(direction[2]) > fabs(direction[z]) ? 2 : z;
    x = z == 2 ? 0 : z + 1;
    y = x == 2 ? 0 : x + 1;
    if (direction[z] < 0) {  // keeps the triangle's sense of rotation
      const int swap = x;
      x = y;
      y = swap;
    }
    shear_x = direction[x] / direction[z];
    shear_y = direction[y] / direction[z];
    shear_z = 1 / direction[z];
  }

  // The parameter t >= 0 of the hit and its barycentric coordinates; false if the ray misses.
  PIM_HOST_DEVICE bool hit(const Vec3d* corners, double& t, double weights[3]) const {
    double px[3], py[3], pz[3];
    for (int i = 0; i < 3; ++i) {
      const double c[3] = {corners[i].x - origin[0], corners[i].y - origin[1], corners[i].z - origin[2]};
      // Rounded alike in every face that has this corner.
      px[i] = add_rounded(c[x], -mul_rounded(shear_x, c[z]));
      py[i] = add_rounded(c[y], -mul_rounded(shear_y, c[z]));
      pz[i] = shear_z * c[z];
    }
    bool left = false, right = false;
    double sum = 0;
    for (int i = 0; i < 3; ++i) {
      const int next = i == 2 ? 0 : i + 1, last = next == 2 ? 0 : next + 1;
      weights[i] = product_difference(px[last], py[next], py[last], px[next]);
      left = left || weights[i] < 0;
      right = right || weights[i] > 0;
      sum += weights[i];
    }
    if ((left && right) || sum == 0) return false;
    t = 0;
    for (int i = 0; i < 3; ++i) {
      weights[i] /= sum;
      t += weights[i] * pz[i];
    }
    return t >= 0;
  }
};

// A ray along the axes of a node, against its boxes. The axes need not be exactly orthonormal for that: box and ray go
// through the same map.
struct Slabs {
  double origin[3], inverse[3];

  PIM_HOST_DEVICE Slabs(const float* axes, const double* from, const double* along) {
    for (int axis = 0; axis < 3; ++axis) {
      const double x = axes[axis], y = axes[4 + axis], z = axes[8 + axis];
      origin[axis] = x * from[0] + y * from[1] + z * from[2];
      inverse[axis] = 1 / (x * along[0] + y * along[1] + z * along[2]);  // infinite across a zero
    }
  }

  // Where the ray enters a box, not below 0; infinite if it misses it or enters behind `limit`.
  PIM_HOST_DEVICE double enter(const float* low, const float* high, int stride, double limit) const {
    double near = 0, far = limit;
    for (int axis = 0; axis < 3; ++axis) {
      if (std::isinf(inverse[axis])) {  // parallel to the slab: inside it, or past it
        if (double(low[axis * stride]) <= origin[axis] && origin[axis] <= double(high[axis * stride])) continue;
        return INFINITY;
      }
      const double a = (double(low[axis * stride]) - origin[axis]) * inverse[axis];
      const double b = (double(high[axis * stride]) - origin[axis]) * inverse[axis];
      near = fmax(near, fmin(a, b));
      far = fmin(far, fmax(a, b));
    }
    // Three roundings of double: the factor keeps a box that the ray grazes.
    return near <= far * (1 + 1e-15) ? near : INFINITY;
  }
};

template <typename T>
struct CastRays {
  const T* origins;     // [N, 3] mesh units
  const T* directions;  // [N, 3] not zero
  Bvh bvh;
  bool any;  // stop at any hit instead of the first
  // outputs
  T* t;             // [N] in lengths of the direction; infinite without a hit
  int32_t* slot;    // [N] leaf slot of the triangle, or -1
  T* barycentric;   // [N, 3]; 0 without a hit

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const ShearedRay ray(bvh.local(Vec3d(load3(origins, i))), bvh.scale * Vec3d(load3(directions, i)));
    struct Waiting {
      double enter;
      int32_t link;
    } stack[kStackSize];
    double best = INFINITY, best_weights[3] = {0, 0, 0};
    int64_t best_slot = -1;
    int waiting = 0;
    stack[waiting++] = {0, 0};
    while (waiting > 0 && !(any && best_slot >= 0)) {
      const Waiting top = stack[--waiting];
      if (!(top.enter <= best)) continue;
      if (top.link < 0) {
        const int64_t leaf = ~top.link;
        for (int64_t candidate = bvh.leaf_first[leaf]; candidate < bvh.leaf_first[leaf + 1]; ++candidate) {
          const Vec3d corners[3] = {bvh.corner(candidate, 0), bvh.corner(candidate, 1), bvh.corner(candidate, 2)};
          double at, weights[3];
          if (!ray.hit(corners, at, weights) || !(at < best)) continue;
          best = at;
          best_slot = candidate;
          for (int k = 0; k < 3; ++k) best_weights[k] = weights[k];
        }
        continue;
      }
      const float* boxes = bvh.boxes + kBoxSize * kWidth * int64_t(top.link);
      const Slabs slabs(boxes + 6 * kWidth, ray.origin, ray.direction);
      const int bottom = waiting;
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = bvh.links[kWidth * int64_t(top.link) + child];
        if (link == kNoChild) continue;
        const double enter = slabs.enter(boxes + child, boxes + 3 * kWidth + child, kWidth, best);
        if (!(enter <= best) || enter == INFINITY) continue;
        int place = waiting++;  // insertion keeps the nearest child on top
        for (; place > bottom && stack[place - 1].enter < enter; --place) stack[place] = stack[place - 1];
        stack[place] = {enter, link};
      }
    }
    if (!(T(best) < T(INFINITY))) {  // no hit, or one so many lengths away that T cannot say how many
      best = INFINITY;
      best_slot = -1;
      for (double& weight : best_weights) weight = 0;
    }
    t[i] = T(best);
    slot[i] = int32_t(best_slot);
    store3(barycentric, i, Vec3<T>{T(best_weights[0]), T(best_weights[1]), T(best_weights[2])});
  }
};

}  // namespace pyimplicit
