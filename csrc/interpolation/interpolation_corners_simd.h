// The nodes around a point and their weights. Part of interpolation_simd.h.

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

// Finds the corners of one map's points in a batch item, all axes at once where nothing is special: float32 without
// tangent, and all corners there. The rest is left to `Cell`.
template <typename M, typename R, int D>
class CornerFinder {
 public:
  using T = typename Sampling<M, R, D>::T;

  // Corners count from node `first` to node `end` of the slowest axis.
  CornerFinder(const Sampling<M, R, D>& s, int map, int64_t b, int64_t first, int64_t end)
      : s_(s),
        map_(map),
        b_(b),
        first_(first),
        end_(end),
        points_(s.points + s.place(map, b, 0)),
        offsets_(s.offsets),
        border_(s.padding == Padding::kBorder),
        is_slab_(first > 0 || end < s.maps[map].size[D - 1]),
        quick_(std::is_same_v<T, float> && s.tangent == nullptr) {
    for (int axis = 0; axis < D; ++axis) {
      const int64_t size = s.maps[map].size[axis], last_low = (axis == D - 1 ? end : size) - 2;
      quick_ = quick_ && size < (1 << 24);
      scale_[axis] = s.align_corners ? (float(size) - 1) / 2 : float(size) / 2;
      shift_[axis] = s.align_corners ? 0.0f : 0.5f;
      highest_[axis] = float(size - 1);
      least_low_[axis] = axis == D - 1 ? float(first) : 0.0f;
      most_low_[axis] = float(last_low);
      stride_[axis] = s.maps[map].stride[axis];
    }
    for (int corner = 0; corner < 4; ++corner) {
      beside_[corner] = (corner & 1 ? stride_[0] : 0) + (corner & 2 ? stride_[1] : 0);
    }
  }

  inline void operator()(int64_t n, int64_t k, Corners<T>* corners) const {
    if constexpr (std::is_same_v<T, float>) {
      if (quick_ && quick(points_ + n * D, offsets_ + k * D, corners)) return;
    }
    special(n, k, corners);
  }

 private:
  typedef float Axes __attribute__((vector_size(16)));
  typedef int32_t AxesInt __attribute__((vector_size(16)));
  typedef int64_t Halves __attribute__((vector_size(16)));
  typedef int64_t Places __attribute__((vector_size(32)));

  __attribute__((noinline)) void special(int64_t n, int64_t k, Corners<T>* corners) const {
    const auto& map = s_.maps[map_];
    find_corners<T, D>(s_.cell(map_, b_, n, k), map.size, map.stride, s_.tangent_at(map_, b_, n), first_, end_,
                       corners);
  }

  inline bool quick(const float* point, const float* offset, Corners<float>* corners) const {
    Axes at = {point[0], point[1], D == 3 ? point[D - 1] : 0.0f, 0.0f};
    if (offsets_ != nullptr) at += Axes{offset[0], offset[1], D == 3 ? offset[D - 1] : 0.0f, 0.0f};
    Axes node = (at + 1.0f) * scale_ - shift_;
    if (border_) {
      node = node < 0.0f ? Axes{} : node;
      node = node > highest_ ? highest_ : node;
    }
    // Out of a slab's reach: true of most points, and asked for each slab.
    if (is_slab_ && (node[D - 1] < least_low_[D - 1] - 1 || node[D - 1] >= most_low_[D - 1] + 2)) {
      corners->count = 0;
      return true;
    }
    // Numbers are cut off towards zero: the floor, because what is below zero or NaN is left to `Cell`. The lanes that
    // no axis has are zero, and fit.
    const Halves fits = Halves((node >= least_low_) & (node < most_low_ + 1.0f));
    if ((fits[0] & fits[1]) != -1) return false;
    const AxesInt low = __builtin_convertvector(node, AxesInt);
    const Axes upper = node - __builtin_convertvector(low, Axes), lower = 1.0f - upper;
    int64_t from = low[0] * stride_[0] + low[1] * stride_[1];
    if (D == 3) from += low[2] * stride_[D - 1];
    Places plane_at;
    std::memcpy(&plane_at, beside_, sizeof plane_at);
    plane_at += from;
    const Axes plane = __builtin_shuffle(lower, upper, AxesInt{0, 4, 0, 4}) *
                       __builtin_shuffle(lower, upper, AxesInt{1, 1, 5, 5});
    corners->count = 1 << D;
    std::memcpy(corners->at, &plane_at, sizeof plane_at);
    if (D == 2) {
      std::memcpy(corners->weight, &plane, sizeof plane);
      return true;
    }
    const Axes near = plane * __builtin_shuffle(lower, AxesInt{2, 2, 2, 2});
    const Axes far = plane * __builtin_shuffle(upper, AxesInt{2, 2, 2, 2});
    const Places far_at = plane_at + stride_[D - 1];
    std::memcpy(corners->at + 4, &far_at, sizeof far_at);
    std::memcpy(corners->weight, &near, sizeof near);
    std::memcpy(corners->weight + 4, &far, sizeof far);
    return true;
  }

  const Sampling<M, R, D>& s_;
  const int map_;
  const int64_t b_, first_, end_;
  const T* const points_;   // of the batch item
  const T* const offsets_;  // or null
  const bool border_, is_slab_;
  bool quick_;
  Axes scale_ = {}, shift_ = {}, highest_ = {}, least_low_ = {}, most_low_ = {};
  int64_t stride_[D];
  // The corners of the lower plane, from the lowest. No vector: a template's members are aligned as on a processor that
  // has none so long, but its code would rely on more.
  int64_t beside_[4];
};
