// The search for the leaf nearest to a point: one point after the other, or several together. Part of surface_simd.h.

constexpr int kTogether = 16;    // points searched for together
constexpr int kListSize = 2048;  // entries of their work lists, which then stay in the nearest caches

// At least Bvh::cutoff: (d + r)^2 = d^2 + 2 d r + r^2, and 2 d r <= d^2 / 1000 + 1000 r^2.
inline float wide_cutoff(float squared, float rounding) { return 1.00101f * squared + 1001.1f * rounding * rounding; }

// A point, and the nearest leaf found so far.
struct Search {
  Vec3f point;
  float rounding;  // Bvh::rounding
  float squared;   // squared distance
  float cutoff;    // squared distance beyond which a box cannot matter
  int32_t leaf;

  void visit(const Bvh& bvh, int32_t visited) { take(visited, least(leaf_distances(bvh, visited, point))); }

  // Without a branch, as nobody can guess it, and without a root, which would hold up the next visit.
  void take(int32_t visited, float found) {
    const int32_t nearer = -int32_t(found < squared);
    squared = lesser(found, squared);
    leaf = (visited & nearer) | (leaf & ~nearer);
    cutoff = wide_cutoff(squared, rounding);
  }
};

// On which side of a leaf's nearest triangle a point lies: 1 outside, -1 inside, 0 where float32 does not know.
//
// It knows where no other triangle of the leaf is as near, and the point's foot lies in it, all by more than rounding; or
// where all that are as near are gentle (LeafSides) and agree. A triangle of another leaf may be as near; a sure face has
// none that faces it so closely, nor one that crosses it (geometry/signs.py). `squared` and `heights` are those of the
// search's leaf.
inline int side_of_nearest(LeafSides sides, const Search& search, F8 squared, const Heights& heights) {
  const float rounding = search.rounding, distance = std::sqrt(search.squared), farthest = distance + rounding;
  const unsigned close = bits_of(squared < splat(farthest * farthest)) & sides.held();  // others repeat the first one
  const float high = distance < float(kGentleFar) * rounding ? INFINITY : float(kGentleHeight) * distance;
  // Not squared: leaf_distances does that, and would round otherwise than where nobody asks for heights.
  const F8 z = heights.height, away = max8(z, -z);
  const unsigned gentle = bits_of(away > splat(high)) & sides.gentle();
  const unsigned above = bits_of((heights.room > splat(rounding * rounding)) & (away > splat(rounding))) & sides.sure();
  const unsigned below = bits_of(z < F8{}) & close;
  // Without a branch: nobody can guess the side of points around a surface.
  const int alone = (close & (close - 1)) == 0, known = ((close & ~gentle) == 0) | (alone & ((close & ~above) == 0));
  return known * ((below == 0) - (below == close));
}

// One that also keeps every leaf which rounding might have put behind the nearest, for a second look in double
// precision.
struct ExactSearch : Search {
  static constexpr int kMost = 16;
  int32_t close[kMost];
  float close_squared[kMost];
  int count;  // more than kMost: there were too many

  void visit(const Bvh& bvh, int32_t visited) {
    const float found = least(leaf_distances(bvh, visited, point));
    if (found < cutoff) keep(visited, found);
    take(visited, found);
    cutoff = Bvh::cutoff(squared, rounding);  // as narrow as can be: what it lets through is kept
  }

  void keep(int32_t visited, float found) {
    if (count == kMost) {
      count = 0;
      for (int i = 0; i < kMost; ++i) {
        close[count] = close[i], close_squared[count] = close_squared[i];
        count += close_squared[i] < cutoff;
      }
    }
    if (count < kMost) {
      close[count] = visited, close_squared[count] = found;
    }
    ++count;
  }
};

template <typename SearchType>
void start_search(Vec3f p, int32_t first_leaf, SearchType& search) {
  search.point = p;
  search.rounding = float(Bvh::rounding(Bvh::largest_of(p)));
  search.squared = search.cutoff = INFINITY;
  search.leaf = first_leaf;
  if constexpr (std::is_same<SearchType, ExactSearch>::value) search.count = 0;
}

// Squared distances from a point to the boxes of a node's eight children.
inline F8 box_distances(const Bvh& bvh, int32_t node, Vec3f point) {
  const float* box = bvh.boxes + int64_t(node) * (kBoxSize * kWidth);
  const float* axes = box + 6 * kWidth;
  const F4 along = load4(axes) * point.x + load4(axes + 4) * point.y + load4(axes + 8) * point.z;
  const F8 px = splat_lane<0>(along), py = splat_lane<1>(along), pz = splat_lane<2>(along);
  const F8 zero = {};
  const F8 x = max8(max8(load8(box) - px, px - load8(box + 24)), zero);
  const F8 y = max8(max8(load8(box + 8) - py, py - load8(box + 32)), zero);
  const F8 z = max8(max8(load8(box + 16) - pz, pz - load8(box + 40)), zero);
  return x * x + y * y + z * z;
}

// Narrows a search down to the truth, below one link of the hierarchy. Nearest boxes first, on a stack. `first_leaf` has
// been visited.
template <typename SearchType>
void search_alone(const Bvh& bvh, int32_t link, int32_t first_leaf, SearchType& search) {
  struct Waiting {
    float squared;
    int32_t link;
  } stack[kStackSize];
  int waiting = 0;
  for (;;) {
    if (link < 0) {
      if (~link != first_leaf) search.visit(bvh, ~link);
    } else {
      const F8 squared = box_distances(bvh, link, search.point);
      unsigned hits = bits_of(squared < splat(search.cutoff));
      if (hits != 0) {
        float distance[kWidth];
        std::memcpy(distance, &squared, sizeof distance);
        const int32_t* links = bvh.links + int64_t(link) * kWidth;
        int child = __builtin_ctz(hits);
        hits &= hits - 1;
        if (hits == 0) {
          link = links[child];
          continue;
        }
        const int bottom = waiting;
        stack[waiting++] = {distance[child], links[child]};
        do {
          child = __builtin_ctz(hits);
          hits &= hits - 1;
          int place = waiting++;
          for (; place > bottom && stack[place - 1].squared < distance[child]; --place) stack[place] = stack[place - 1];
          stack[place] = {distance[child], links[child]};
        } while (hits != 0);
      }
    }
    do {
      if (waiting == 0) return;
      --waiting;
    } while (!(stack[waiting].squared < search.cutoff));
    link = stack[waiting].link;
  }
}

// Nodes or leaves still to be looked at, each for one of the searches.
struct WorkList {
  int32_t search[kListSize];
  int32_t link[kListSize];
  int count = 0;

  // Appends the chosen ones of eight, without a branch: all eight are written, and the next ones overwrite the rest.
  void append(int which, I8 links, const Packing& packing, int chosen) {
    store8(search + count, I8{} + which);
    store8(link + count, packing.apply(links));
    count += chosen;
  }

  bool full() const { return count > kListSize - kWidth; }
};

// Where to go on with a search that has visited its first leaf: at a node, if all that may be as near lies below it, or at
// the top.
template <typename SearchType>
int32_t first_node(const Bvh& bvh, const SearchType& search) {
  // Beyond this squared distance next to no neighbourhood reaches far enough, and its cache line need not be fetched.
  constexpr float kNear = 0.003f;
  if (!(search.squared < kNear)) return 0;
  Neighbourhood around;
  std::memcpy(&around, bvh.frames + (kFrameSize * int64_t(search.leaf) + kFrameValues) * kWidth, sizeof around);
  const Vec3f arm = search.point - Vec3f{around.center[0], around.center[1], around.center[2]};
  return std::sqrt(dot(arm, arm)) + std::sqrt(search.cutoff) < around.reach ? around.node : 0;
}

// Narrows several searches down to the truth, breadth first: all nodes in one list, all leaves in another. No step
// depends on the one before, and no branch on the data, so that the processor has many steps under way at any time. It
// takes a good first guess: without one, most of the boxes would get on the list.
template <typename SearchType>
void search_together(const Bvh& bvh, SearchType* searches, int count) {
  WorkList nodes, leaves;
  float leaf_squared[kListSize];  // distances to the leaves' boxes
  const auto visit_leaves = [&] {
    for (int at = 0; at < leaves.count; ++at) {
      SearchType& search = searches[leaves.search[at]];
      if (leaf_squared[at] < search.cutoff) search.visit(bvh, ~leaves.link[at]);
    }
    leaves.count = 0;
  };
  int32_t first_leaf[kTogether];
  for (int i = 0; i < count; ++i) {
    first_leaf[i] = ~searches[i].leaf;
    nodes.search[i] = i;
    nodes.link[i] = first_node(bvh, searches[i]);
  }
  nodes.count = count;
  for (int next = 0; next < nodes.count; ++next) {
    const int which = nodes.search[next];
    const SearchType& search = searches[which];
    const int32_t node = nodes.link[next];
    const F8 squared = box_distances(bvh, node, search.point);
    const I8 links = load8(bvh.links + int64_t(node) * kWidth);
    const unsigned near = bits_of(squared < splat(search.cutoff)), leaf = bits_of(links);
    const unsigned inner = near & ~leaf, outer = near & leaf & ~bits_of(links == I8{} + first_leaf[which]);
    nodes.append(which, links, Packing(inner), __builtin_popcount(inner));
    const Packing packing(outer);
    store8(leaf_squared + leaves.count, packing.apply(squared));
    leaves.append(which, links, packing, __builtin_popcount(outer));
    if (leaves.full()) visit_leaves();
    if (nodes.full()) {  // a point with much of the surface at almost the same distance
      visit_leaves();
      for (++next; next < nodes.count; ++next) {
        const int one = nodes.search[next];
        search_alone(bvh, nodes.link[next], ~first_leaf[one], searches[one]);
      }
    }
  }
  visit_leaves();
}
