// The points of a batch item in steps: their nodes are found, and the memory of these fetched, some steps before they
// are worked on. Part of interpolation_simd.h.

// Maps larger than this are fetched ahead; smaller ones stay in the caches anyway.
constexpr int64_t kFetchFrom = 1 << 18;  // bytes of a batch item
// Corners of points to a node, from which on points in the order of cells find it in the caches.
constexpr int64_t kManyTimes = 16;

// Points of a step at most: calls and loops then cost little beside the work.
constexpr int64_t kTogether = 8;

// Steps whose points' coordinates are fetched ahead, where points are not in their order in memory.
constexpr int64_t kPointsAhead = 4;

// Steps of one part or another (a map, or some of its channels) that are prepared ahead of the one being worked on, for
// `elements` channels of all copies and parts in a step: few where that is much work. What they read together is not to
// push what is being worked on out of the first cache.
constexpr int64_t kMostAhead = 15;
inline int64_t steps_ahead(int64_t elements, int64_t parts) {
  return std::max<int64_t>(2, std::min(kMostAhead, 256 * parts / std::max<int64_t>(elements, 1)));
}

// Whether a map's nodes are to be fetched ahead: not those of small maps, and not where points in the order of cells
// come back to each node many times.
template <typename M, typename R, int D>
inline bool is_far(const Sampling<M, R, D>& s, const FeatureMap<M, D>& map, bool ordered) {
  if (ordered && s.visits() >= kManyTimes * map.nodes()) return false;
  return map.nodes() * map.channels * int64_t(sizeof(M)) > kFetchFrom;
}

// Always inlined: GCC takes a function that only fetches for one without effect, and drops calls of it.
__attribute__((always_inline)) inline void fetch_bytes(const void* from, int64_t count) {
  for (int64_t byte = 0; byte < count; byte += 64) __builtin_prefetch(static_cast<const char*>(from) + byte);
}

// One map, or some of its channels, of a batch item, and points `begin` to `end` in steps of `together`.
template <typename M, typename R, int D>
class Steps {
 public:
  using T = typename Sampling<M, R, D>::T;

  // Corners count from node `low` to node `high` of the slowest axis, of `channels` channels from `item` on. `order`:
  // of the points, or null for their own. At most `slots` steps are prepared and not yet done with.
  Steps(const Sampling<M, R, D>& s, int map, int64_t b, const M* item, int64_t channels, int64_t low, int64_t high,
        const int32_t* order, int64_t begin, int64_t end, int64_t together, int64_t slots)
      : s_(s),
        map_(map),
        b_(b),
        item_(item),
        order_(order),
        begin_(begin),
        end_(end),
        together_(together),
        entries_(together * s.offset_count),
        finder_(s, map, b, low, high) {
    while (ring_ < slots) ring_ *= 2;
    corners_.reset(new Corners<T>[ring_ * entries_]);
    if (s.maps[map].in_rows() && is_far(s, s.maps[map], order != nullptr)) fetched_ = channels * int64_t(sizeof(M));
    // Nodes of whole lines that begin within a line end within one more.
    if (fetched_ > 0 && fetched_ % 64 == 0 && reinterpret_cast<std::uintptr_t>(item) % 64 != 0) fetched_ += 64;
  }

  inline int64_t first(int64_t step) const { return begin_ + step * together_; }
  inline int64_t last(int64_t step) const { return std::min(first(step) + together_, end_); }
  inline int64_t point(int64_t j) const { return order_ != nullptr ? order_[j] : j; }

  // For each copy of each point of a step in turn.
  inline const Corners<T>* corners(int64_t step) const { return corners_.get() + (step & (ring_ - 1)) * entries_; }

  bool fetches() const { return fetched_ > 0; }

  void prepare(int64_t step) {
    prepare(step, [](int64_t, int64_t, const Corners<T>&) {});
  }
  // Finds the corners of a step and fetches the nodes; also calls each(point, copy, corners).
  template <typename Each>
  inline void prepare(int64_t step, const Each& each) {
    const int64_t from = first(step), to = last(step), copies = s_.offset_count, fetched = fetched_;
    const M* const item = item_;
    if (s_.point_map_stride != 0 && order_ != nullptr) {
      for (int64_t j = from; j < to; ++j) {
        __builtin_prefetch(s_.points + s_.place(map_, b_, order_[std::min(j + kPointsAhead * together_, end_ - 1)]));
      }
    }
    Corners<T>* at = corners_.get() + (step & (ring_ - 1)) * entries_;
    for (int64_t j = from; j < to; ++j) {
      const int64_t n = point(j);
      for (int64_t k = 0; k < copies; ++k, ++at) {
        finder_(n, k, at);
        if (fetched == 128) {  // 32 channels of float32: without the inner loop
          for (int corner = 0; corner < at->count; ++corner) {
            const char* const node = reinterpret_cast<const char*>(item + at->at[corner]);
            __builtin_prefetch(node);
            __builtin_prefetch(node + 64);
          }
        } else if (fetched > 0) {
          for (int corner = 0; corner < at->count; ++corner) fetch_bytes(item + at->at[corner], fetched);
        }
        each(n, k, *at);
      }
    }
  }

 private:
  const Sampling<M, R, D>& s_;
  const int map_;
  const int64_t b_;
  const M* const item_;
  const int32_t* const order_;
  const int64_t begin_, end_, together_, entries_;
  const CornerFinder<M, R, D> finder_;
  int64_t fetched_ = 0;  // bytes of each node
  int64_t ring_ = 1;     // steps whose corners there is room for, a power of two
  std::unique_ptr<Corners<T>[]> corners_;
};

// Slots that each of some parts needs, see `Preparation`.
inline int64_t slots_of(int64_t ahead, int64_t parts) { return ahead / parts + 1; }

// Prepares the first step of each of some parts, then the second of each, and so on: `ahead` of them at once, and one
// more whenever a part's step is about to be worked on.
template <typename Part>
class Preparation {
 public:
  Preparation(std::vector<Part>& parts, int64_t steps, int64_t ahead) : parts_(parts), steps_(steps) {
    for (int64_t i = 0; i < ahead; ++i) next();
  }
  inline void next() {
    if (step_ == steps_) return;
    parts_[part_].prepare(step_);
    if (++part_ == parts_.size()) part_ = 0, ++step_;
  }

 private:
  std::vector<Part>& parts_;
  const int64_t steps_;
  int64_t step_ = 0;
  size_t part_ = 0;
};
