// What a mesh's faces have in common: vertices, edges, bodies; and whether they fold onto each other around a vertex.
//
// Half-edge 3 f + k runs from corner k of face f to the next one. On the CPU alone: hashing and counting where others
// sort. Every result is a function of the faces in their order, never of the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/parallel.h"
#include "base/vec3.h"

namespace pyimplicit::topology {

constexpr int64_t kBlock = 2048;  // vertices or faces that a thread takes at once

inline int64_t next_half(int64_t h) { return h % 3 == 2 ? h - 2 : h + 1; }
inline int64_t previous_half(int64_t h) { return h % 3 == 0 ? h + 2 : h - 1; }

// Runs block(begin, end, sums) over [0, count) and adds up what the blocks counted; whole numbers, so in any order.
template <int N, typename Block>
void count_in_blocks(int64_t count, int64_t* sums, Executor executor, const Block& block) {
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<int64_t> counted(N * blocks, 0);
  const auto piece = [&](int64_t b) {
    block(b * kBlock, std::min(count, (b + 1) * kBlock), counted.data() + N * b);
  };
  parallel_for(blocks, piece, executor, 1);
  std::fill(sums, sums + N, 0);
  for (int64_t i = 0; i < N * blocks; ++i) sums[i % N] += counted[i];
}

// ---- vertices

// A hash table of positions: those of the first corner of each vertex.
class PositionTable {
 public:
  PositionTable(const float* corners, const int32_t* first, int64_t expected) : corners_(corners), first_(first) {
    size_t size = 1024;
    while (size < size_t(expected)) size *= 2;
    slots_.resize(size);
  }

  uint64_t hash_of(int64_t corner) const {
    uint32_t bits[3];
    position_bits(corner, bits);
    uint64_t hash = (uint64_t(bits[0]) << 32 | bits[1]) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 29 ^ bits[2]) * 0xBF58476D1CE4E5B9u;
    return hash ^ hash >> 32;
  }

  // Starts to fetch what `find_or_add` will look at.
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & (slots_.size() - 1)], 1); }

  // The vertex at this corner's position, or `next` if there is none yet.
  int32_t find_or_add(int64_t corner, uint64_t hash, int32_t next) {
    const uint32_t tag = uint32_t(hash >> 32);
    uint32_t bits[3], other[3];
    position_bits(corner, bits);
    for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.vertex < 0) {
        slot = {tag, next};
        if (2 * size_t(next) > slots_.size()) grow();
        return next;
      }
      if (slot.tag != tag) continue;
      position_bits(first_[slot.vertex], other);
      if (std::equal(bits, bits + 3, other)) return slot.vertex;
    }
  }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t vertex = -1;
  };

  void position_bits(int64_t corner, uint32_t* bits) const {
    for (int axis = 0; axis < 3; ++axis) {
      const float value = corners_[3 * corner + axis] + 0.0f;  // -0 becomes 0
      std::memcpy(bits + axis, &value, 4);
    }
  }

  void grow() {
    std::vector<Slot> before(2 * slots_.size());
    before.swap(slots_);
    for (const Slot& slot : before) {
      if (slot.vertex < 0) continue;
      size_t at = hash_of(first_[slot.vertex]) & (slots_.size() - 1);
      while (slots_[at].vertex >= 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }

  const float* corners_;
  const int32_t* first_;
  std::vector<Slot> slots_;
};

// One vertex for all corners [count, 3] at exactly the same position. `vertex` [count]: their numbers, in the order of
// their first corners, which `first` [count] receives. Returns how many there are.
inline int64_t weld_corners(const float* corners, int64_t count, int32_t* vertex, int32_t* first) {
  constexpr int64_t kAhead = 64;
  PositionTable table(corners, first, count / 3);
  int32_t vertices = 0;
  for (int64_t begin = 0; begin < count; begin += kAhead) {
    const int64_t end = std::min(count, begin + kAhead);
    uint64_t hashes[kAhead];
    for (int64_t corner = begin; corner < end; ++corner) {
      hashes[corner - begin] = table.hash_of(corner);
      table.prefetch(hashes[corner - begin]);
    }
    for (int64_t corner = begin; corner < end; ++corner) {
      first[vertices] = int32_t(corner);  // stays if the position is new
      vertex[corner] = table.find_or_add(corner, hashes[corner - begin], vertices);
      vertices += vertex[corner] == vertices;
    }
  }
  return vertices;
}

// ---- edges

inline bool names_vertex_twice(const int32_t* face) {
  return face[0] == face[1] || face[1] == face[2] || face[2] == face[0];
}

enum EdgeCount : int { kEdges, kBoundary, kOdd, kNonManifold, kInconsistent, kDuplicateFaces, kEdgeCounts };

// Which half-edges run along the same edge: a ring through all of them, in `ring` [3 F] the next one after each. And
// counts of edges, see MeshReport; faces that name a vertex twice cover nothing and count only as duplicates.
class EdgeMatcher {
 public:
  EdgeMatcher(const int32_t* faces, int64_t count, int64_t vertices) : faces_(faces), first_(vertices + 1, 0) {
    // Half-edges by the lower of their vertices, in ascending order.
    bucket_.resize(3 * count);
    for (int64_t h = 0; h < 3 * count; ++h) ++first_[lower(h)];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    for (int64_t h = 3 * count - 1; h >= 0; --h) bucket_[--first_[lower(h)]] = int32_t(h);
  }

  void match(int32_t* ring, int64_t* counts, Executor executor) const {
    const int64_t vertices = int64_t(first_.size()) - 1;
    count_in_blocks<kEdgeCounts>(vertices, counts, executor, [&](int64_t begin, int64_t end, int64_t* sums) {
      std::vector<uint64_t> spokes;  // the higher vertex, then the half-edge
      std::vector<int32_t> third;
      for (int64_t vertex = begin; vertex < end; ++vertex) {
        spokes.clear();
        for (int32_t i = first_[vertex]; i < first_[vertex + 1]; ++i) {
          spokes.push_back(uint64_t(higher(bucket_[i])) << 32 | uint32_t(bucket_[i]));
        }
        sort_few(spokes);
        for (size_t from = 0, to = 0; from < spokes.size(); from = to) {
          while (to < spokes.size() && spokes[to] >> 32 == spokes[from] >> 32) ++to;
          for (size_t i = from; i < to; ++i) {
            ring[int32_t(spokes[i])] = int32_t(spokes[i + 1 < to ? i + 1 : from]);
          }
          count_edge(int32_t(vertex), spokes.data() + from, spokes.data() + to, sums);
          if (to - from > 1) {
            sums[kDuplicateFaces] += count_duplicates(spokes.data() + from, spokes.data() + to, third);
          }
        }
      }
    });
  }

 private:
  int32_t lower(int64_t h) const { return std::min(faces_[h], faces_[next_half(h)]); }
  int32_t higher(int64_t h) const { return std::max(faces_[h], faces_[next_half(h)]); }

  static void sort_few(std::vector<uint64_t>& keys) {
    if (keys.size() > 24) return std::sort(keys.begin(), keys.end());
    for (size_t i = 1; i < keys.size(); ++i) {
      const uint64_t key = keys[i];
      size_t place = i;
      for (; place > 0 && keys[place - 1] > key; --place) keys[place] = keys[place - 1];
      keys[place] = key;
    }
  }

  void count_edge(int32_t vertex, const uint64_t* begin, const uint64_t* end, int64_t* sums) const {
    int64_t forward = 0, backward = 0;
    for (const uint64_t* spoke = begin; spoke < end; ++spoke) {
      const int64_t h = int32_t(*spoke);
      if (names_vertex_twice(faces_ + h / 3 * 3)) continue;
      ++(faces_[h] == vertex ? forward : backward);
    }
    const int64_t uses = forward + backward;
    sums[kEdges] += uses > 0;
    sums[kBoundary] += uses == 1;
    sums[kOdd] += uses % 2;
    sums[kNonManifold] += uses > 2;
    // Of an odd number of faces one is left over; all others must pair up against each other.
    sums[kInconsistent] += std::abs(forward - backward) > uses % 2;
  }

  // Faces with the same three vertices meet at all their edges; they are looked for at that of their lower two.
  int64_t count_duplicates(const uint64_t* begin, const uint64_t* end, std::vector<int32_t>& third) const {
    third.clear();
    for (const uint64_t* spoke = begin; spoke < end; ++spoke) {
      const int64_t h = int32_t(*spoke);
      const int32_t* face = faces_ + h / 3 * 3;
      const int32_t* highest = std::max_element(face, face + 3);
      if (faces_ + previous_half(h) == highest) third.push_back(*highest);
    }
    std::sort(third.begin(), third.end());
    return int64_t(third.size()) - (std::unique(third.begin(), third.end()) - third.begin());
  }

  const int32_t* faces_;
  std::vector<int32_t> first_;   // [V + 1]
  std::vector<int32_t> bucket_;  // [3 F]
};

// ---- bodies

// Faces that share an edge belong to one body; none that is `blocked` [F] belongs to any, if that is not null. `body`
// [F]: their numbers in the order of their first faces, or -1. Returns how many there are.
inline int64_t label_bodies(const int32_t* ring, int64_t count, const uint8_t* blocked, int32_t* body) {
  std::vector<int32_t> parent(count);  // never behind its children
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int32_t face) {
    while (parent[face] != face) face = parent[face] = parent[parent[face]];
    return face;
  };
  const auto is_blocked = [&](int64_t face) { return blocked != nullptr && blocked[face] != 0; };
  for (int64_t h = 0; h < 3 * count; ++h) {
    if (ring[h] <= h || is_blocked(h / 3) || is_blocked(ring[h] / 3)) continue;  // the last of a ring leads to its first
    const int32_t one = root(int32_t(h / 3)), other = root(ring[h] / 3);
    parent[std::max(one, other)] = std::min(one, other);
  }
  int32_t bodies = 0;
  for (int64_t face = 0; face < count; ++face) {
    body[face] = is_blocked(face) ? -1 : parent[face] == face ? bodies++ : body[root(int32_t(face))];
  }
  return bodies;
}

// Areas and signed volumes: of the tetrahedra between each face and the center, which add up to that of a closed mesh.
struct MeasureFaces {
  const float* vertices;  // [V, 3] mesh units
  const int32_t* faces;   // [F, 3]
  Vec3d center;
  // outputs
  double* area;    // [F] squared mesh units
  double* volume;  // [F] cubic mesh units

  void operator()(int64_t face) const {
    Vec3d corner[3];
    for (int k = 0; k < 3; ++k) corner[k] = Vec3d(load3(vertices, faces[3 * face + k])) - center;
    area[face] = length(cross(corner[1] - corner[0], corner[2] - corner[0])) / 2;
    volume[face] = dot(cross(corner[0], corner[1]), corner[2]) / 6;
  }
};

// The largest face of each body, and its number of faces.
inline void measure_bodies(const float* corners, const int32_t* body, int64_t count, int64_t bodies, int32_t* largest,
                           int32_t* faces) {
  std::vector<double> most(bodies, -1);
  std::fill(faces, faces + bodies, 0);
  for (int64_t face = 0; face < count; ++face) {
    if (body[face] < 0) continue;
    ++faces[body[face]];
    const Vec3d a = Vec3d(load3(corners, 3 * face));
    const Vec3d across = cross(Vec3d(load3(corners, 3 * face + 1)) - a, Vec3d(load3(corners, 3 * face + 2)) - a);
    if (dot(across, across) > most[body[face]]) {
      most[body[face]] = dot(across, across);
      largest[body[face]] = int32_t(face);
    }
  }
}

}  // namespace pyimplicit::topology
