// The mask of a grid on the CPU: each ball around a cloud point is a range of nodes in every row along z that it meets,
// and a row is a string of bits.
//
// Rows are taken in tiles of 4 x 4, cloud points cell by cell, nearest cells first. The points of a cell that are high
// enough above or below a row have ranges that overlap, so their union is one range, found with two sums, a root and two
// comparisons a point. Cells whose ranges lie where all rows of the tile are set already are left out. The ends of a
// range are found in double precision; a node so close to an end that rounding could put it on the wrong side is
// decided by the test that distance_mask.h states.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "mask/distance_mask_run.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define PIM_FOR_AVX2_TOO __attribute__((target_clones("avx2", "default")))
#else
#define PIM_FOR_AVX2_TOO
#endif

namespace pyimplicit {

namespace {

constexpr int kSide = 4, kRows = kSide * kSide;  // a tile's rows along x and y, and in all
constexpr int kWords = 4, kBits = 64 * kWords;   // nodes along z in one piece of work
constexpr int kLanes = 8;                        // rows looked at together

// Points of one cell, and the box around them.
struct CloudCell {
  int64_t first, last;
  double low[3], high[3];
};

// The union of the ranges that the balls around `points` have in kLanes rows, as far as those ranges overlap for sure:
// where the half-length is at least the points' extent along z (`span_squared`). `grazing` is 0 or more in rows that
// have shorter ranges beside.
PIM_FOR_AVX2_TOO
void reach_of_rows(const float* points, int64_t count, const double* x, const double* y, double limit,
                   double span_squared, double* low, double* high, double* grazing) {
  double lowest[kLanes], highest[kLanes], short_ones[kLanes];
  for (int j = 0; j < kLanes; ++j) lowest[j] = INFINITY, highest[j] = -INFINITY, short_ones[j] = -1;
  for (int64_t i = 0; i < count; ++i) {
    const double px = points[3 * i], py = points[3 * i + 1], pz = points[3 * i + 2];
    for (int j = 0; j < kLanes; ++j) {
      const double dx = px - x[j], dy = py - y[j];
      const double left = limit - (dx * dx + dy * dy);
      const double half = std::sqrt(left > 0 ? left : 0);
      const bool overlaps = left >= span_squared;
      const double below = overlaps ? pz - half : INFINITY, above = overlaps ? pz + half : -INFINITY;
      const double too_short = overlaps ? -1 : left;
      lowest[j] = below < lowest[j] ? below : lowest[j];
      highest[j] = above > highest[j] ? above : highest[j];
      short_ones[j] = too_short > short_ones[j] ? too_short : short_ones[j];
    }
  }
  for (int j = 0; j < kLanes; ++j) low[j] = lowest[j], high[j] = highest[j], grazing[j] = short_ones[j];
}

// Bytes 0 or 1 of eight bits.
struct ByteTable {
  uint64_t of[256];
  constexpr ByteTable() : of() {
    for (unsigned bits = 0; bits < 256; ++bits) {
      for (int i = 0; i < 8; ++i) of[bits] |= uint64_t(bits >> i & 1) << (8 * i);
    }
  }
};
constexpr ByteTable kBytes;

class GridFill {
 public:
  GridFill(const DistanceMaskGrid& kernel, int64_t items)
      : kernel_(kernel), grid_(kernel.grid), limit_(kernel.distance * kernel.distance) {
    find_step();
    for (int axis = 0; axis < 2; ++axis) tiles_[axis] = (kernel.nodes[axis] + kSide - 1) / kSide;
    tiles_[2] = (kernel.nodes[2] + kBits - 1) / kBits;
    if (tolerance_ < kMostTolerance) find_cells(items);
  }

  // Whether nodes along z are evenly spaced, as far as the ends of ranges need it.
  bool fits() const { return tolerance_ < kMostTolerance; }

  int64_t pieces(int64_t items) const { return items * tiles_[0] * tiles_[1] * tiles_[2]; }

  void operator()(int64_t piece) const {
    Tile tile;
    tile.nodes[2] = piece % tiles_[2] * kBits;
    tile.nodes[1] = piece / tiles_[2] % tiles_[1] * kSide;
    tile.nodes[0] = piece / tiles_[2] / tiles_[1] % tiles_[0] * kSide;
    const int64_t item = piece / tiles_[2] / tiles_[1] / tiles_[0];
    tile.count = int(std::min<int64_t>(kBits, kernel_.nodes[2] - tile.nodes[2]));
    tile.words = (tile.count + 63) / 64;
    tile.z_first = z_first_ + double(tile.nodes[2]) * z_step_;
    for (int row = 0; row < kRows; ++row) {  // rows beyond the grid's end are copies of its last
      tile.x[row] = kernel_.axes[0][std::min(tile.nodes[0] + row / kSide, kernel_.nodes[0] - 1)];
      tile.y[row] = kernel_.axes[1][std::min(tile.nodes[1] + row % kSide, kernel_.nodes[1] - 1)];
    }
    visit(tile, item);
    write(tile, item);
  }

 private:
  static constexpr double kMostTolerance = 0.25;

  struct Tile {
    int64_t nodes[3];           // the first
    int count, words;           // along z
    double z_first;             // of the first node, if all were evenly spaced
    double x[kRows], y[kRows];  // of the rows
    uint64_t bits[kRows][kWords] = {};
    uint64_t common[kWords] = {};  // set in all rows
  };

  void find_step() {
    const double* z = kernel_.axes[2];
    const int64_t last = kernel_.nodes[2] - 1;
    z_first_ = z[0];
    z_step_ = last > 0 ? (z[last] - z[0]) / double(last) : kernel_.distance;
    double off = 0;
    for (int64_t k = 0; k <= last; ++k) off = std::max(off, std::fabs(z[k] - (z_first_ + double(k) * z_step_)));
    // The root of what rounding leaves of `limit - d d` is the worst of it: 3e-8 of the distance.
    const double magnitude = std::max(std::fabs(z[0]), std::fabs(z[last])) + std::fabs(grid_.low[2]) +
                             grid_.cell_size * double(grid_.size[2]) + kernel_.distance;
    tolerance_ = (off + 1e-7 * kernel_.distance + 1e-14 * magnitude) / z_step_;
    if (!(tolerance_ < kMostTolerance)) tolerance_ = kMostTolerance;  // as for nodes at one and the same place
    per_step_ = 1 / z_step_;
  }

  void find_cells(int64_t items) {
    const int64_t columns = items * grid_.size[0] * grid_.size[1];
    column_first_.resize(columns + 1);
    for (int64_t column = 0; column < columns; ++column) {
      column_first_[column] = int64_t(cells_.size());
      const int32_t* start = grid_.cell_start + column * grid_.size[2];
      for (int64_t z = 0; z < grid_.size[2]; ++z) {
        if (start[z] == start[z + 1]) continue;
        CloudCell cell = {start[z], start[z + 1], {INFINITY, INFINITY, INFINITY}, {-INFINITY, -INFINITY, -INFINITY}};
        for (int64_t i = cell.first; i < cell.last; ++i) {
          for (int axis = 0; axis < 3; ++axis) {
            const double value = grid_.cloud[3 * i + axis];
            cell.low[axis] = std::min(cell.low[axis], value);
            cell.high[axis] = std::max(cell.high[axis], value);
          }
        }
        cells_.push_back(cell);
      }
    }
    column_first_[columns] = int64_t(cells_.size());
  }

  void visit(Tile& tile, int64_t item) const {
    const double reach = kernel_.distance + grid_.slack();
    int64_t first[2], last[2], middle[2];
    for (int axis = 0; axis < 2; ++axis) {
      const double* at = axis == 0 ? tile.x : tile.y;
      const double half = (at[kRows - 1] - at[0]) / 2, center = at[0] - grid_.low[axis] + half;
      if (!grid_.cells(axis, center, reach + half, first[axis], last[axis])) return;
      middle[axis] = middle_place(center, grid_.cell_size, first[axis], last[axis]);
    }
    // Square rings of columns around the tile.
    const int64_t rings = std::max(std::max(middle[0] - first[0], last[0] - middle[0]),
                                   std::max(middle[1] - first[1], last[1] - middle[1]));
    for (int64_t ring = 0; ring <= rings; ++ring) {
      for (int64_t x = std::max(first[0], middle[0] - ring); x <= std::min(last[0], middle[0] + ring); ++x) {
        const bool whole = x == middle[0] - ring || x == middle[0] + ring;
        for (int64_t y = middle[1] - ring; y <= middle[1] + ring; y += whole || ring == 0 ? 1 : 2 * ring) {
          if (y < first[1] || y > last[1]) continue;
          const int64_t column = (item * grid_.size[0] + x) * grid_.size[1] + y;
          for (int64_t c = column_first_[column]; c < column_first_[column + 1]; ++c) add(tile, cells_[c]);
        }
      }
    }
  }

  static double gap(double low, double high, double other_low, double other_high) {
    return std::max(0.0, std::max(other_low - high, low - other_high));
  }

  void add(Tile& tile, const CloudCell& cell) const {
    const double gap_x = gap(tile.x[0], tile.x[kRows - 1], cell.low[0], cell.high[0]);
    const double gap_y = gap(tile.y[0], tile.y[kRows - 1], cell.low[1], cell.high[1]);
    const double left = limit_ * (1 + 1e-12) - gap_x * gap_x - gap_y * gap_y;
    if (left < 0) return;
    const double half = std::sqrt(left);
    // All that the cell could set, a node wider.
    const double below = (cell.low[2] - half - tile.z_first) * per_step_ - 1;
    const double above = (cell.high[2] + half - tile.z_first) * per_step_ + 1;
    if (!(below < double(tile.count) && above >= 0)) return;
    const int from = below > 0 ? int(below) : 0;
    const int to = above < double(tile.count - 1) ? int(above) : tile.count - 1;
    if (is_set(tile, from, to)) return;

    const float* points = grid_.cloud + 3 * cell.first;
    const double span = cell.high[2] - cell.low[2];
    for (int row = 0; row < kRows; row += kLanes) {
      double low[kLanes], high[kLanes], grazing[kLanes];
      reach_of_rows(points, cell.last - cell.first, tile.x + row, tile.y + row, limit_, span * span, low, high,
                    grazing);
      for (int j = 0; j < kLanes; ++j) {
        if (low[j] <= high[j]) set_range(tile, row + j, low[j], high[j], cell);
        if (grazing[j] >= 0) set_short_ranges(tile, row + j, span * span, cell);
      }
    }
    for (int word = 0; word < tile.words; ++word) {
      uint64_t all = ~uint64_t(0);
      for (int row = 0; row < kRows; ++row) all &= tile.bits[row][word];
      tile.common[word] = all;
    }
  }

  void set_short_ranges(Tile& tile, int row, double span_squared, const CloudCell& cell) const {
    for (int64_t i = cell.first; i < cell.last; ++i) {
      const Vec3d p = Vec3d(load3(grid_.cloud, i));
      const double dx = p.x - tile.x[row], dy = p.y - tile.y[row], left = limit_ - (dx * dx + dy * dy);
      if (left < 0 || left >= span_squared) continue;
      const double half = std::sqrt(left);
      set_range(tile, row, p.z - half, p.z + half, cell);
    }
  }

  // Sets the nodes of a row from z `low` to `high`, both ends of a ball of the cell.
  void set_range(Tile& tile, int row, double low, double high, const CloudCell& cell) const {
    const int count = tile.count;
    double from = (low - tile.z_first) * per_step_, to = (high - tile.z_first) * per_step_;
    if (!(from <= double(count) && to >= -1)) return;
    from = std::max(from, -1.0);
    to = std::min(to, double(count));
    int first = count - int(double(count) - from), last = int(to + 1) - 1;  // rounded up, rounded down
    const double before = double(first) - from, after = to - double(last);
    if (after < tolerance_) {
      set_if_near(tile, row, last--, cell);
    } else if (after > 1 - tolerance_) {
      set_if_near(tile, row, last + 1, cell);
    }
    if (before < tolerance_) {
      set_if_near(tile, row, first++, cell);
    } else if (before > 1 - tolerance_) {
      set_if_near(tile, row, first - 1, cell);
    }
    first = std::max(first, 0);
    last = std::min(last, count - 1);
    if (first > last) return;
    const int first_word = first / 64, last_word = last / 64;
    const uint64_t head = ~uint64_t(0) << (first % 64), tail = ~uint64_t(0) >> (63 - last % 64);
    uint64_t* bits = tile.bits[row];
    if (first_word == last_word) {
      bits[first_word] |= head & tail;
      return;
    }
    bits[first_word] |= head;
    for (int word = first_word + 1; word < last_word; ++word) bits[word] = ~uint64_t(0);
    bits[last_word] |= tail;
  }

  void set_if_near(Tile& tile, int row, int node, const CloudCell& cell) const {
    if (node < 0 || node >= tile.count) return;
    uint64_t& word = tile.bits[row][node / 64];
    const uint64_t bit = uint64_t(1) << (node % 64);
    if (word & bit) return;
    const Vec3d at = {tile.x[row], tile.y[row], kernel_.axes[2][tile.nodes[2] + node]};
    for (int64_t i = cell.first; i < cell.last; ++i) {
      if (squared_length_rounded(Vec3d(load3(grid_.cloud, i)) - at) > limit_) continue;
      word |= bit;
      return;
    }
  }

  static bool is_set(const Tile& tile, int first, int last) {
    for (int word = first / 64; word <= last / 64; ++word) {
      uint64_t wanted = ~uint64_t(0);
      if (word == first / 64) wanted &= ~uint64_t(0) << (first % 64);
      if (word == last / 64) wanted &= ~uint64_t(0) >> (63 - last % 64);
      if ((tile.common[word] & wanted) != wanted) return false;
    }
    return true;
  }

  void write(const Tile& tile, int64_t item) const {
    const int64_t x_end = std::min<int64_t>(kSide, kernel_.nodes[0] - tile.nodes[0]);
    const int64_t y_end = std::min<int64_t>(kSide, kernel_.nodes[1] - tile.nodes[1]);
    for (int64_t x = 0; x < x_end; ++x) {
      for (int64_t y = 0; y < y_end; ++y) {
        const int64_t row = (item * kernel_.nodes[0] + tile.nodes[0] + x) * kernel_.nodes[1] + tile.nodes[1] + y;
        bool* out = kernel_.mask + row * kernel_.nodes[2] + tile.nodes[2];
        const uint64_t* bits = tile.bits[x * kSide + y];
        for (int node = 0; node < tile.count; node += 8) {
          const uint64_t bytes = kBytes.of[bits[node / 64] >> (node % 64) & 255];
          std::memcpy(out + node, &bytes, std::min(8, tile.count - node));
        }
      }
    }
  }

  const DistanceMaskGrid kernel_;
  const CloudGrid grid_;
  const double limit_;
  double z_first_, z_step_, per_step_;  // of nodes along z
  double tolerance_;                    // steps by which the end of a range may be off
  int64_t tiles_[3];
  std::vector<CloudCell> cells_;
  std::vector<int64_t> column_first_;  // [B X Y + 1] first of each column's cells
};

}  // namespace

void run_distance_mask_grid(const DistanceMaskGrid& kernel, int64_t items, bool plain, Executor executor) {
  const int64_t nodes = kernel.nodes[0] * kernel.nodes[1] * kernel.nodes[2];
  if (nodes == 0) return;
  if (!plain) {
    const GridFill fill(kernel, items);
    if (fill.fits()) return parallel_for(fill.pieces(items), fill, executor, 4);
  }
  parallel_for(items * nodes, kernel, executor, 512);
}

}  // namespace pyimplicit
