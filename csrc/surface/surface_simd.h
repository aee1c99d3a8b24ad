// The CPU's specialised twin of surface.h: eight boxes or eight triangles at once, points along a Morton curve and
// searched for together, a first guess from a grid or from the point before, and signs inherited where they cannot have
// changed.
//
// This header is included once for each instruction set (surface_cpu.cpp), inside a namespace of its own; what it calls
// from other headers was compiled for the plain one.

#include "base/simd8.h"
#include "surface/leaf_simd.h"
#include "surface/nearest_simd.h"
#include "surface/winding_simd.h"

// A ball that surely holds no surface: all of it lies on one side of a closed one.
struct Ball {
  Vec3d center = {0, 0, 0};
  double radius = -INFINITY;
  double sign = 1;
};

// Answers queries order[begin] ... order[end - 1]. They are dealt out to streams of neighbours, one point of each
// stream at a time, so that points searched for together still have a neighbour's answer to start from.
//
// Distances in float32 come from the float32 search; whatever else is asked for is found exactly, in double precision.
template <typename T, bool kExact>
struct QueryRun {
  using SearchType = typename std::conditional<kExact, ExactSearch, Search>::type;

  const SurfaceQuery<T>& query;
  const int32_t* order;  // or null: as they come
  int64_t begin, end;

  struct Stream {
    Vec3f previous = {INFINITY, INFINITY, INFINITY};
    int32_t leaf = 0;
    Ball ball;
  };
  struct Asked {
    int64_t index;
    Vec3d point;
    int stream;
    Exact exact;
    int32_t side_leaf;  // the leaf that has been asked for the side, or -1
    int side;           // as side_of_nearest says
    double distance, radius, sign;  // in coordinates of the hierarchy
  };

  void operator()() const {
    const Bvh& bvh = query.bvh;
    // Several together where first guesses are good: from a grid, or where points were drawn, which the first one tells.
    const bool together = query.start.leaf != nullptr || known_leaf(order != nullptr ? order[begin] : begin) >= 0;
    const int streams = together ? kTogether : 1;
    const int64_t each = (end - begin + streams - 1) / streams;
    Stream stream[kTogether];
    Asked asked[kTogether];
    SearchType searches[kTogether];
    for (int64_t step = 0; step < each; ++step) {
      int count = 0;
      for (int s = 0; s < streams; ++s) {
        const int64_t at = begin + s * each + step;
        if (at >= std::min(end, begin + (s + 1) * each)) continue;
        const int64_t i = order != nullptr ? order[at] : at;
        // Neighbours in space lie anywhere in memory: the next one is on its way while this one is searched for.
        if (order != nullptr && at + 1 < end) __builtin_prefetch(query.points + 3 * int64_t(order[at + 1]));
        const Vec3d p = bvh.local(Vec3d(load3(query.points, i)));
        Asked& one = asked[count];
        one.index = i, one.point = p, one.stream = s, one.exact.slot = -1, one.sign = 1, one.side_leaf = -1;
        start_search(Vec3f(p), first_leaf(i, Vec3f(p), stream[s]), searches[count]);
        visit_first(one, searches[count]);
        if (searches[count].squared < 1e37f) {
          ++count;
        } else {  // so far away that float32 squares overflow
          query.answer(i);
          stream[s] = Stream{};
        }
      }
      if (together) {
        search_together(bvh, searches, count);
      } else if (count > 0) {
        search_alone(bvh, 0, searches[0].leaf, searches[0]);
      }
      finish(asked, searches, count, stream);
    }
  }

  int32_t known_leaf(int64_t i) const { return query.first_leaf == nullptr ? -1 : query.first_leaf[i]; }

  // The leaf to look at first: the one that is known, or that of the previous point, or that of the grid's cell, whichever
  // belongs to the nearer.
  int32_t first_leaf(int64_t i, Vec3f p, const Stream& stream) const {
    const int32_t known = known_leaf(i);
    if (known >= 0) return known;
    if (query.start.leaf == nullptr) return stream.leaf;
    const Vec3f to_previous = stream.previous - p, to_center = query.start.center(p) - p;
    return dot(to_previous, to_previous) < dot(to_center, to_center) ? stream.leaf : query.start.leaf[query.start.cell(p)];
  }

  // Where a leaf is known it is mostly the nearest one, too, so that it pays to find the side now.
  void visit_first(Asked& one, SearchType& search) const {
    if (kExact || query.sign_method != SignMethod::kPseudonormal || known_leaf(one.index) < 0) {
      return search.visit(query.bvh, search.leaf);
    }
    Heights heights;
    const F8 squared = leaf_distances(query.bvh, search.leaf, search.point, &heights);
    search.take(search.leaf, least(squared));
    note_side(one, search, squared, heights);
  }

  void note_side(Asked& one, const Search& search, F8 squared, const Heights& heights) const {
    const LeafSides sides = {uint32_t(query.leaf_sides[search.leaf])};
    one.side = side_of_nearest(sides, search, squared, heights);
    one.side_leaf = search.leaf;
  }

  void finish(Asked* asked, const SearchType* searches, int count, Stream* stream) const {
    for (int k = 0; k < count; ++k) {
      Asked& one = asked[k];
      one.distance = std::sqrt(double(searches[k].squared));
      stream[one.stream].previous = searches[k].point;
      stream[one.stream].leaf = searches[k].leaf;
      if (kExact) {
        find_exact(one, searches[k]);
        one.distance = std::sqrt(one.exact.found.distance_squared);
      }
    }
    if (query.sign_method != SignMethod::kNone) find_signs(asked, searches, count, stream);
    const double unit = 1 / query.bvh.scale;
    for (int k = 0; k < count; ++k) {
      const Asked& one = asked[k];
      query.distance[one.index] = T(one.sign * one.distance * unit);
      if (query.closest == nullptr) continue;
      store3(query.closest, one.index, Vec3<T>(query.bvh.global(one.exact.found.point)));
      store3(query.barycentric, one.index, Vec3<T>(one.exact.found.barycentric));
      query.slot[one.index] = one.exact.slot;
      query.face[one.index] = query.bvh.triangle_face[one.exact.slot];
    }
  }

  void find_exact(Asked& one, const Search& search) const {
    if (one.exact.slot < 0) closest_in_leaf(query.bvh, search.leaf, one.point, search.cutoff, one.exact);
  }

  void find_exact(Asked& one, const ExactSearch& search) const {
    if (one.exact.slot >= 0) return;
    if (search.count > ExactSearch::kMost) {  // the middle of a ball: far too many leaves at the same distance
      find_plainly(one);
      return;
    }
    for (int i = 0; i < search.count; ++i) {
      if (search.close_squared[i] < search.cutoff) {
        closest_in_leaf(query.bvh, search.close[i], one.point, search.cutoff, one.exact);
      }
    }
  }

  void find_plainly(Asked& one) const {
    int64_t slot = -1;
    query.find_closest(one.point, one.exact.found, slot);
    one.exact.slot = int32_t(slot);
  }

  void find_signs(Asked* asked, const SearchType* searches, int count, Stream* stream) const {
    int open[kTogether], left = 0;
    Vec3f points[kTogether];
    for (int k = 0; k < count; ++k) {
      Asked& one = asked[k];
      // No distance in float32 is off by more than this share of the coordinates.
      constexpr double kRounding = 1e-6;
      one.radius = one.distance - kRounding * (1 + Bvh::largest_of(searches[k].point));
      // In the order of what they cost.
      if (one.side_leaf == searches[k].leaf && take_side(one, searches[k])) continue;
      if (query.inherit && inherit_from(stream[one.stream].ball, one)) continue;
      if (!kExact && query.sign_method == SignMethod::kPseudonormal && one.side_leaf != searches[k].leaf) {
        find_side(one, searches[k]);
        if (take_side(one, searches[k])) continue;
      }
      if (query.inherit && inherit_from_grid(one, searches[k].point)) continue;
      if (query.sign_method == SignMethod::kPseudonormal) {
        find_exact(one, searches[k]);
        one.sign = query.sign_from_pseudonormal(one.point, one.exact.found, one.exact.slot);
        if (one.sign != 0) continue;
      }
      points[left] = searches[k].point;
      open[left++] = k;
    }
    bool inside[kTogether];
    if (left > 0) find_inside(query.bvh, points, left, inside);
    for (int k = 0; k < left; ++k) asked[open[k]].sign = inside[k] ? -1 : 1;
    for (int k = 0; k < count; ++k) stream[asked[k].stream].ball = {asked[k].point, asked[k].radius, asked[k].sign};
  }

  void find_side(Asked& one, const Search& search) const {
    Heights heights;
    const F8 squared = leaf_distances(query.bvh, search.leaf, search.point, &heights);
    note_side(one, search, squared, heights);
  }

  // Whether float32 was enough to tell the side; see sign_from_pseudonormal for what it takes.
  bool take_side(Asked& one, const Search& search) const {
    if (one.side == 0 || Bvh::largest_of(search.point) > 1) return false;
    one.sign = one.side;
    return true;
  }

  // Takes the sign over from the ball of the point before, if the point's own overlaps it.
  bool inherit_from(const Ball& before, Asked& one) const {
    const Vec3d arm = one.point - before.center;
    const double reach = one.radius + before.radius;
    if (!(reach > 0 && dot(arm, arm) < reach * reach)) return false;
    one.sign = before.sign;
    return true;
  }

  // The same with the ball around the center of the grid's cell.
  bool inherit_from_grid(Asked& one, Vec3f p) const {
    if (query.start.distance == nullptr) return false;
    const float at_center = query.start.distance[query.start.cell(p)];
    const Vec3f to_center = query.start.center(p) - p;
    const double far = one.radius + std::fabs(at_center) - 3e-6;
    one.sign = at_center < 0 ? -1 : 1;
    return far > 0 && dot(to_center, to_center) < far * far;
  }
};

template <typename T>
void answer(const SurfaceQuery<T>& query, const int32_t* order, int64_t begin, int64_t end) {
  if (query.closest != nullptr || std::is_same<T, double>::value) {
    QueryRun<T, true>{query, order, begin, end}();
  } else {
    QueryRun<T, false>{query, order, begin, end}();
  }
}

// Hands points order[begin] ... order[end - 1] over in groups that are looked at together, in coordinates of the
// hierarchy, and tells where each one's answer belongs.
template <typename T, typename Answer>
void in_groups(const T* points, const Bvh& bvh, const int32_t* order, int64_t begin, int64_t end, const Answer& at_group) {
  for (int64_t at = begin; at < end; at += kTogether) {
    const int count = int(std::min<int64_t>(kTogether, end - at));
    Vec3f group[kTogether];
    int64_t index[kTogether];
    for (int k = 0; k < count; ++k) {
      index[k] = order != nullptr ? int64_t(order[at + k]) : at + k;
      group[k] = Vec3f(bvh.local(Vec3d(load3(points, index[k]))));
    }
    at_group(group, index, count);
  }
}

template <typename T>
void answer(const WindingNumber<T>& query, const int32_t* order, int64_t begin, int64_t end) {
  in_groups(query.points, query.bvh, order, begin, end, [&](const Vec3f* points, const int64_t* index, int count) {
    float winding[kTogether];
    winding_numbers(query.bvh, points, count, float(query.beta), winding);
    for (int k = 0; k < count; ++k) query.winding_number[index[k]] = T(winding[k]);
  });
}

template <typename T>
void answer(const Contains<T>& query, const int32_t* order, int64_t begin, int64_t end) {
  in_groups(query.points, query.bvh, order, begin, end, [&](const Vec3f* points, const int64_t* index, int count) {
    bool inside[kTogether];
    find_inside(query.bvh, points, count, inside);
    for (int k = 0; k < count; ++k) query.inside[index[k]] = inside[k];
  });
}
