// Making the normals of pseudonormal.h, and finding out where a surface folds onto itself around a vertex or an edge.
#pragma once

#include <cstdint>
#include <vector>

#include "surface/pseudonormal.h"
#include "surface/topology.h"
#include "surface/triangle.h"

namespace pyimplicit::topology {

// Cosines between normals.
constexpr double kFolded = -1 + 1e-6;  // of two faces at an edge: less is one sheet on top of the other
constexpr double kSharp = -0.6;        // of two faces at a vertex: less is a wedge below 53 degrees
constexpr double kUpright = 0.05;      // of a face and its vertex: more is one that is seen from above
constexpr double kBlunt = 0.5;         // the same: more is one that no other face at the vertex can be sharp with

// A face with less area than this, in units of its longest edge squared, has no normal to speak of.
constexpr double kNoArea = 1e-8;

constexpr int kManyFaces = 64;  // at a vertex: from here on they are not looked at pair by pair

// Whether the triangles (0, a, b) and (0, c, d) surely have nothing but their common corner in common: whether a plane
// through it parts them. All four of unit length.
inline bool part_at_corner(Vec3d a, Vec3d b, Vec3d c, Vec3d d) {
  constexpr double kRounding = 1e-14;  // several times that of the products below
  const Vec3d points[4] = {a, b, c, d};
  // A plane holds one or two of the points; all others must lie on their own triangle's side of it.
  const auto parts = [&](Vec3d normal, int in_plane, int also_in_plane) {
    int sides[2] = {0, 0};
    for (int i = 0; i < 4; ++i) {
      if (i == in_plane || i == also_in_plane) continue;
      const double height = dot(points[i], normal);
      if (!(std::fabs(height) > kRounding)) return false;
      const int side = height > 0 ? 1 : -1;
      if (sides[i / 2] == -side) return false;
      sides[i / 2] = side;
    }
    return sides[0] * sides[1] <= 0;
  };
  const Vec3d one = cross(a, b), other = cross(c, d);
  if (parts(one, 0, 1) || parts(other, 2, 3)) return true;
  for (int i = 0; i < 2; ++i) {
    for (int k = 2; k < 4; ++k) {
      if (parts(cross(points[i], points[k]), i, k)) return true;
    }
    if (parts(cross(one, points[i]), i, i) || parts(cross(other, points[i + 2]), i + 2, i + 2)) return true;
  }
  return false;
}

// Arctangent of y / x for y >= 0, to 2e-6 radians and relatively where it is small.
// Source: Hastings, "Approximations for Digital Computers", 1955, sheet 11.
inline float quick_angle(float y, float x) {
  const float ax = std::fabs(x), larger = std::max(ax, y), smaller = std::min(ax, y);
  const float a = larger > 0 ? smaller / larger : 0.0f, s = a * a;
  float r = -0.01172120f * s + 0.05265332f;
  r = r * s - 0.11643287f;
  r = r * s + 0.19354346f;
  r = r * s - 0.33262347f;
  r = (r * s + 0.99997726f) * a;
  r = y > ax ? 1.57079637f - r : r;
  return x < 0 ? 3.14159274f - r : r;
}

// Builds the normals of a closed, consistently oriented surface.
class PseudonormalBuilder {
 public:
  // corners [F, 3, 3]; vertex [F, 3] of each and ring [F, 3] as the functions of topology.h make them.
  PseudonormalBuilder(const float* corners, const int32_t* vertex, const int32_t* ring, int64_t count,
                      int64_t vertices, Executor executor)
      : corners_(corners), vertex_(vertex), ring_(ring), count_(count), executor_(executor), shapes_(count),
        sharp_(3 * count, 0), start_(vertices, -1), faces_at_(vertices, 0), at_vertex_(vertices) {}

  // Normals [F, 6] as packed in pseudonormal.h, and, if not null, the sums themselves [F, 7, 3] by Feature. For each
  // face whether one that shares a corner with it crosses it, lies on it, or may do so (`crossed` [F]), whether one
  // forms a sharp wedge with it (`close` [F]), and whether it is gentle as far as they are concerned (`gentle` [F]).
  void build(int32_t* packed, float* sums, uint8_t* crossed, uint8_t* close, uint8_t* gentle) {
    parallel_for(count_, [&](int64_t face) { measure(face); }, executor_, kBlock);
    for (int64_t face = count_ - 1; face >= 0; --face) {
      if (names_vertex_twice(vertex_ + 3 * face)) continue;
      for (int64_t h = 3 * face; h < 3 * face + 3; ++h) {
        start_[vertex_[h]] = int32_t(h);
        ++faces_at_[vertex_[h]];
      }
    }
    const int64_t vertices = int64_t(start_.size());
    const auto finish_block = [&](int64_t block) {
      std::vector<int32_t> fan;
      for (int64_t v = block * kBlock; v < std::min(vertices, (block + 1) * kBlock); ++v) finish_vertex(v, fan);
    };
    parallel_for((vertices + kBlock - 1) / kBlock, finish_block, executor_, 1);
    for (int64_t h = 0; sums != nullptr && h < 3 * count_; ++h) {
      AtVertex& vertex = at_vertex_[vertex_[h]];
      if (!vertex.is_fan) vertex.sum = vertex.sum + shapes_[h / 3].angle[h % 3] * shapes_[h / 3].normal;
    }
    parallel_for(count_, [&](int64_t face) { finish_face(face, packed, sums, crossed, close, gentle); }, executor_, kBlock);
  }

 private:
  struct Shape {
    Vec3f normal;    // unit, or zero
    float angle[3];  // radians
    float height;    // the least
  };
  struct AtVertex {
    Vec3f sum;       // of normals by angle
    int32_t packed;  // its direction
    bool is_fan;     // its faces go around it once, each beside the next
    bool crossed;    // they may cross or lie on each other
    float lowest;    // cosine between their sum and the normal that is farthest from it
    float height;    // the least of theirs
  };

  Vec3d corner(int64_t h) const { return Vec3d(load3(corners_, h)); }
  Vec3d normal(int64_t face) const { return Vec3d(shapes_[face].normal); }

  void measure(int64_t face) {
    Shape& shape = shapes_[face];
    const Vec3d a = corner(3 * face), b = corner(3 * face + 1), c = corner(3 * face + 2);
    const Vec3d ab = b - a, bc = c - b, ca = a - c, across = cross(ab, c - a);
    const double twice_area = length(across), longest = larger(dot(ab, ab), larger(dot(bc, bc), dot(ca, ca)));
    shape.normal = twice_area > kNoArea * longest ? Vec3f((1 / twice_area) * across) : Vec3f{0, 0, 0};
    const double scale = longest > 0 ? 1 / longest : 0;  // lets float32 hold the products
    const float sine = float(scale * twice_area);
    shape.angle[0] = quick_angle(sine, float(-scale * dot(ab, ca)));
    shape.angle[1] = quick_angle(sine, float(-scale * dot(bc, ab)));
    shape.angle[2] = quick_angle(sine, float(-scale * dot(ca, bc)));
    shape.height = float(longest > 0 ? twice_area / std::sqrt(longest) : 0.0);
  }

  // The half-edge of the other face at an edge, or -1 if there is not exactly one that runs the other way.
  int32_t mate(int64_t h) const {
    int32_t other = ring_[h];
    if (ring_[other] != h) {  // faces that name a vertex twice do not count
      int32_t counted = -1;
      for (int32_t at = other; at != h; at = ring_[at]) {
        if (names_vertex_twice(vertex_ + at / 3 * 3)) continue;
        if (counted >= 0) return -1;
        counted = at;
      }
      other = counted;
    }
    return other >= 0 && other != h && vertex_[other] == vertex_[next_half(h)] ? other : -1;
  }

  // The half-edges that leave a vertex, counter-clockwise as seen from outside; false if its faces do not form one fan.
  bool gather_fan(int64_t v, std::vector<int32_t>& fan) const {
    fan.clear();
    int32_t h = start_[v];
    do {
      fan.push_back(h);
      h = mate(previous_half(h));
    } while (h >= 0 && h != start_[v] && int32_t(fan.size()) < faces_at_[v]);
    return h == start_[v] && int32_t(fan.size()) == faces_at_[v];
  }

  void finish_vertex(int64_t v, std::vector<int32_t>& fan) {
    AtVertex& here = at_vertex_[v];
    here = {{0, 0, 0}, kUnsure, false, true, -1, 0};
    if (faces_at_[v] == 0 || !gather_fan(v, fan)) return;
    here.is_fan = true;
    Vec3d sum = {0, 0, 0};
    bool all_have_area = true;
    for (const int32_t h : fan) {
      const Vec3d n = normal(h / 3);
      sum = sum + double(shapes_[h / 3].angle[h % 3]) * n;
      all_have_area = all_have_area && dot(n, n) > 0;
    }
    here.sum = Vec3f(sum);
    if (!all_have_area) return;
    here.packed = pack_direction(sum);
    const double size = length(sum);
    const Vec3d up = (size > 0 ? 1 / size : 0.0) * sum;
    double lowest = 1;
    here.height = INFINITY;
    for (const int32_t h : fan) {
      lowest = smaller(lowest, dot(normal(h / 3), up));
      here.height = std::min(here.height, shapes_[h / 3].height);
    }
    here.lowest = float(lowest);
    // Seen from above, faces that all face upwards overlap only if they go around more than once.
    here.crossed = lowest > kUpright ? turns(fan, up) != 1 : cross_around(fan);
    if (lowest < kBlunt) find_sharp(fan);
  }

  // How often the faces go around their vertex.
  int turns(const std::vector<int32_t>& fan, Vec3d up) const {
    const Vec3d across = std::fabs(up.x) < 0.6 ? Vec3d{0, up.z, -up.y} : Vec3d{-up.z, 0, up.x};
    const Vec3d middle = corner(fan[0]);
    const auto behind = [&](int32_t h) { return dot(corner(next_half(h)) - middle, across) < 0; };
    int crossings = 0;
    bool before = behind(fan.back());
    for (const int32_t h : fan) {
      const bool here = behind(h);
      crossings += before && !here;
      before = here;
    }
    return crossings;
  }

  // Whether faces around a vertex that are not neighbours may cross.
  bool cross_around(const std::vector<int32_t>& fan) const {
    const int faces = int(fan.size());
    if (faces >= kManyFaces) return true;
    const Vec3d middle = corner(fan[0]);
    const auto arm = [&](int i) {
      const Vec3d along = corner(next_half(fan[i % faces])) - middle;
      return (1 / length(along)) * along;
    };
    for (int i = 0; i < faces; ++i) {
      for (int k = i + 2; k < faces && k < i + faces - 1; ++k) {
        if (!part_at_corner(arm(i), arm(i + 1), arm(k), arm(k + 1))) return true;
      }
    }
    return false;
  }

  // Marks faces that form a sharp wedge with another one at a vertex, or may do so.
  void find_sharp(const std::vector<int32_t>& fan) {
    for (size_t i = 0; i < fan.size(); ++i) {
      if (fan.size() >= kManyFaces) sharp_[fan[i]] = 1;
      for (size_t k = 0; k < i && fan.size() < kManyFaces; ++k) {
        if (dot(normal(fan[i] / 3), normal(fan[k] / 3)) < kSharp) sharp_[fan[i]] = sharp_[fan[k]] = 1;
      }
    }
  }

  // Whether all faces around a vertex are as LeafSides says of those around a gentle one.
  static bool is_gentle(const AtVertex& vertex, Vec3d own) {
    const double size = length(Vec3d(vertex.sum));
    if (vertex.crossed || !(vertex.height >= kGentleRoom) || !(size > 0)) return false;
    // Two normals are no farther apart than both angles to the sum together.
    const double one = dot(own, Vec3d(vertex.sum)) / size, other = vertex.lowest;
    const double sines = std::sqrt(larger(0.0, 1 - one * one) * larger(0.0, 1 - other * other));
    return one > 0 && other > 0 && one * other - sines > std::cos(kGentleAngle * 3.14159265358979 / 180);
  }

  void finish_face(int64_t face, int32_t* packed, float* sums, uint8_t* crossed, uint8_t* close, uint8_t* gentle) const {
    const Vec3d own = normal(face);
    Vec3d at_edge[3];
    bool is_crossed = !(dot(own, own) > 0), is_close = false, gentle_so_far = true;
    for (int k = 0; k < 3; ++k) {
      const int64_t h = 3 * face + k;
      const int32_t other = mate(h);
      const Vec3d beyond = other < 0 ? Vec3d{0, 0, 0} : normal(other / 3);
      const AtVertex& vertex = at_vertex_[vertex_[h]];
      const double cosine = dot(own, beyond);
      is_crossed = is_crossed || other < 0 || cosine < kFolded || vertex.crossed;
      is_close = is_close || cosine < kSharp || sharp_[h] != 0;
      gentle_so_far = gentle_so_far && is_gentle(vertex, own);
      at_edge[k] = own + beyond;
      packed[kPacked * face + k] = pack_direction(at_edge[k]);
      packed[kPacked * face + 3 + k] = vertex.packed;
    }
    crossed[face] = is_crossed;
    close[face] = is_close;
    gentle[face] = gentle_so_far && !is_crossed && !is_close;
    if (sums == nullptr) return;
    store3(sums, 7 * face, Vec3f(own));
    for (int k = 0; k < 3; ++k) {
      store3(sums, 7 * face + kEdgeAB + k, Vec3f(at_edge[k]));
      store3(sums, 7 * face + kVertexA + k, at_vertex_[vertex_[3 * face + k]].sum);
    }
  }

  const float* corners_;
  const int32_t *vertex_, *ring_;
  int64_t count_;
  Executor executor_;
  std::vector<Shape> shapes_;        // [F]
  std::vector<uint8_t> sharp_;       // [3 F] whether a face forms a sharp wedge at that corner
  std::vector<int32_t> start_;       // [V] first half-edge that leaves
  std::vector<int32_t> faces_at_;    // [V]
  std::vector<AtVertex> at_vertex_;  // [V]
};

}  // namespace pyimplicit::topology
