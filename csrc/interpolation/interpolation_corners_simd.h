// The nodes around a point and their weights, and the memory of the next points' nodes fetched ahead. Part of
// interpolation_simd.h.

// The nodes around one copy of a point that are there, with their weights. count is -1 for a NaN point.
template <typename T>
struct Corners {
  int count;
  int64_t at[8];
  T weight[8];
};

// `first` and `end`: the nodes of the slowest axis that count.
template <typename T, int D>
inline void find_corners(const Cell<T, D>& cell, const int64_t* size, const int64_t* stride, const T* tangent,
                         int64_t first, int64_t end, Corners<T>* corners) {
  corners->count = 0;
  if (!cell.finite) {
    corners->count = -1;
    return;
  }
  constexpr int last = D - 1;
  bool whole = tangent == nullptr && cell.low[last] >= first && cell.low[last] + 1 < end;
  for (int axis = 0; axis < last; ++axis) whole = whole && cell.low[axis] >= 0 && cell.low[axis] + 1 < size[axis];
  if (whole) {
    corners->count = 1 << D;
    corners->at[0] = 0;
    corners->weight[0] = 1;
    for (int axis = 0; axis < D; ++axis) corners->at[0] += cell.low[axis] * stride[axis];
    for (int axis = 0; axis < D; ++axis) {
      for (int corner = 0; corner < (1 << axis); ++corner) {
        corners->at[corner + (1 << axis)] = corners->at[corner] + stride[axis];
        corners->weight[corner + (1 << axis)] = corners->weight[corner] * cell.fraction[axis];
        corners->weight[corner] *= 1 - cell.fraction[axis];
      }
    }
    return;
  }
  if (cell.low[last] + 1 < first || cell.low[last] >= end) return;
  for (int corner = 0; corner < (1 << D); ++corner) {
    int64_t position;
    const int64_t node = cell.low[last] + (corner >> last);
    if (node < first || node >= end || !cell.inside(corner, size, stride, &position)) continue;
    corners->at[corners->count] = position;
    corners->weight[corners->count++] = cell.weight(corner, tangent);
  }
}

// Finds the corners of one map's points, all axes at once where nothing is special: float32 without tangent, and all
// corners there. The rest is left to `Cell`.
template <typename M, typename R, int D>
class CornerFinder {
 public:
  using T = typename Sampling<M, R, D>::T;

  // Corners count from node `first` to node `end` of the slowest axis.
  CornerFinder(const Sampling<M, R, D>& s, int map, int64_t first, int64_t end)
      : s_(s), map_(map), first_(first), end_(end), quick_(std::is_same_v<T, float> && s.tangent == nullptr) {
    is_slab_ = first > 0 || end < s.maps[map].size[D - 1];
    for (int axis = 0; axis < D; ++axis) {
      const int64_t size = s.maps[map].size[axis], last_low = (axis == D - 1 ? end : size) - 2;
      quick_ = quick_ && size < (1 << 24);
      scale_[axis] = s.align_corners ? (float(size) - 1) / 2 : float(size) / 2;
      shift_[axis] = s.align_corners ? 0.0f : 0.5f;
      highest_[axis] = float(size - 1);
      least_low_[axis] = axis == D - 1 ? float(first) : 0.0f;
      most_low_[axis] = float(last_low);
    }
  }

  inline void operator()(int64_t b, int64_t n, int64_t k, Corners<T>* corners) const {
    if constexpr (std::is_same_v<T, float>) {
      if (quick_ && quick(s_.points + s_.place(map_, b, n), s_.offsets + k * D, corners)) return;
    }
    const auto& map = s_.maps[map_];
    find_corners<T, D>(s_.cell(map_, b, n, k), map.size, map.stride, s_.tangent_at(map_, b, n), first_, end_, corners);
  }

 private:
  typedef float Axes __attribute__((vector_size(16)));
  typedef int32_t AxesInt __attribute__((vector_size(16)));

  inline bool quick(const float* point, const float* offset, Corners<float>* corners) const {
    Axes at = {point[0], point[1], D == 3 ? point[D - 1] : 0.0f, 0.0f};
    if (s_.offsets != nullptr) at += Axes{offset[0], offset[1], D == 3 ? offset[D - 1] : 0.0f, 0.0f};
    Axes node = (at + 1.0f) * scale_ - shift_;
    if (s_.padding == Padding::kBorder) {
      node = node < 0.0f ? Axes{} : node;
      node = node > highest_ ? highest_ : node;
    }
    // Out of a slab's reach: true of most points, and asked for each slab.
    if (is_slab_ && (node[D - 1] < least_low_[D - 1] - 1 || node[D - 1] >= most_low_[D - 1] + 2)) {
      corners->count = 0;
      return true;
    }
    // Numbers are cut off towards zero: the floor, because what is below zero or NaN is left to `Cell`.
    const AxesInt fits = (node >= least_low_) & (node < most_low_ + 1.0f);
    bool whole = true;
    for (int axis = 0; axis < D; ++axis) whole = whole && fits[axis] != 0;
    if (!whole) return false;
    const AxesInt low = __builtin_convertvector(node, AxesInt);
    const Axes upper = node - __builtin_convertvector(low, Axes), lower = 1.0f - upper;
    const int64_t* stride = s_.maps[map_].stride;
    corners->count = 1 << D;
    const int64_t from = low[0] * stride[0] + low[1] * stride[1] + (D == 3 ? low[2] * stride[D - 1] : 0);
    const float plane[4] = {lower[0] * lower[1], upper[0] * lower[1], lower[0] * upper[1], upper[0] * upper[1]};
    const int64_t to[4] = {from, from + stride[0], from + stride[1], from + stride[0] + stride[1]};
    for (int corner = 0; corner < 4; ++corner) {
      corners->at[corner] = to[corner];
      corners->weight[corner] = D == 3 ? plane[corner] * lower[2] : plane[corner];
      if (D == 2) continue;
      corners->at[corner + 4] = to[corner] + stride[D - 1];
      corners->weight[corner + 4] = plane[corner] * upper[2];
    }
    return true;
  }

  const Sampling<M, R, D>& s_;
  const int map_;
  const int64_t first_, end_;
  bool quick_, is_slab_;
  Axes scale_ = {}, shift_ = {}, highest_ = {}, least_low_ = {}, most_low_ = {};
};

template <typename M, typename R, int D>
inline std::vector<CornerFinder<M, R, D>> corner_finders(const Sampling<M, R, D>& s) {
  std::vector<CornerFinder<M, R, D>> finders;
  finders.reserve(s.map_count);
  for (int m = 0; m < s.map_count; ++m) finders.emplace_back(s, m, 0, s.maps[m].size[D - 1]);
  return finders;
}

// Maps larger than this are fetched ahead; smaller ones stay in the caches anyway.
constexpr int64_t kFetchFrom = 1 << 18;  // bytes of a batch item
// Corners of points to a node, from which on points in the order of cells find it in the caches.
constexpr int64_t kManyTimes = 16;

// Points whose coordinates are fetched ahead, where they are not in their order in memory.
constexpr int64_t kPointsAhead = 4;

// Steps (a map at a point) whose corners are known ahead of the one being worked on: few where a step is much work.
// What they read together is not to push what is being worked on out of the first cache.
constexpr int64_t kRing = 16;  // a power of two, more than the steps ahead
inline int64_t steps_ahead(int64_t elements, int64_t maps) {
  return std::max<int64_t>(2, std::min<int64_t>(kRing - 1, 256 * maps / elements));
}

// Whether a map's nodes are to be fetched ahead: not those of small maps, and not where points in the order of cells
// come back to each node many times.
template <typename M, typename R, int D>
inline bool is_far(const Sampling<M, R, D>& s, const FeatureMap<M, D>& map, bool ordered) {
  int64_t nodes = 1;
  for (int axis = 0; axis < D; ++axis) nodes *= map.size[axis];
  if (ordered && (s.point_count * s.offset_count << D) >= kManyTimes * nodes) return false;
  return nodes * map.channels * int64_t(sizeof(M)) > kFetchFrom;
}

inline void fetch_bytes(const void* from, int64_t count) {
  for (int64_t byte = 0; byte < count; byte += 64) __builtin_prefetch(static_cast<const char*>(from) + byte);
}

template <typename T, typename M>
inline void fetch(const M* item, const Corners<T>& corners, int64_t channels) {
  for (int corner = 0; corner < corners.count; ++corner) {
    fetch_bytes(item + corners.at[corner], channels * int64_t(sizeof(M)));
  }
}
