// The products of matrix_products.h with the tile registers of AMX.
//
// Tiles are 16 rows of 32 bfloat16 numbers, in pairs: a register of the left side holds 16 of its rows, one of the right
// side 16 of its columns, turned so that a row of the register holds one pair of each. Which two numbers make a pair is
// free as long as both sides agree: number p of 32 goes with number p + 16, so that no number moves across a vector.
#include "matrix_products.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "instruction_set.h"

#if defined(PIM_HAVE_AVX2) && defined(__linux__) && __GNUC__ >= 11
#define PIM_HAVE_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pyimplicit {

#if defined(PIM_HAVE_AMX)

namespace {

// The system must be asked for the registers, once for all threads.
bool ask_for_tiles() {
  constexpr unsigned kBfloat16 = 1u << 22, kTiles = 1u << 24;
  unsigned a, b, c, d;
  if (!have_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & kBfloat16) == 0 || (d & kTiles) == 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

constexpr int64_t kSide = 16, kDeep = 32;          // rows, and numbers to a row, of a tile
constexpr int64_t kTile = kSide * kDeep;           // numbers of a tile
constexpr int64_t kParts = 3, kStep = kParts * kTile;  // of a number; numbers of a tile's three parts
constexpr int64_t kAhead = 4;  // tiles along the sum that are worked on at once: both sides stay in the first cache
// Numbers between panels of a side, which are two tiles for `kAhead` steps: not a power of two, or all of them would fight
// for the same few lines of the cache.
constexpr int64_t kPanel = kAhead * 2 * kStep + 5 * kDeep;
// So many steps are summed up by themselves, and then added: a float32 sum of many more would lose digits. More of them for
// the gradients of a weight, whose sums are large tables.
constexpr int64_t kGroup = 4 * kAhead, kWeightGroup = 16 * kAhead;

int64_t tiles(int64_t numbers, int64_t each) { return (numbers + each - 1) / each; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

enum Purpose { kLeft, kRight, kEdges, kGroups, kMatrix, kBias, kSums, kBiasSums, kPurposes };

// Memory of a thread, kept: fresh pages would cost more than what is done in them.
std::vector<char>& kept_memory(int purpose) {
  static thread_local std::vector<char> memory[kPurposes];
  return memory[purpose];
}

void* kept_bytes(Purpose purpose, std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  std::vector<char>& own = kept_memory(purpose);
  if (own.size() < bytes + kLine) own = std::vector<char>(bytes + kLine);
  void* at = own.data();
  std::size_t space = own.size();
  return std::align(kLine, bytes, at, space);
}

// But not more than this for each purpose.
void forget_large() {
  constexpr std::size_t kMost = std::size_t(1) << 25;
  for (int purpose = 0; purpose < kPurposes; ++purpose) {
    std::vector<char>& own = kept_memory(purpose);
    if (own.size() > kMost) std::vector<char>().swap(own);
  }
}

template <typename T>
T* kept(Purpose purpose, int64_t count) {
  return static_cast<T*>(kept_bytes(purpose, count * sizeof(T)));
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")

namespace {

struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The tile registers of a thread, between two points of a function.
struct Tiles {
  Tiles() {
    static const TileConfig config;
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

struct Three {
  __m512i part[kParts];  // upper halves of 16 numbers; the lower ones of the last are of no account
};

// x as a sum of three: each part is what is left, rounded to eight binary digits.
__attribute__((always_inline)) inline Three split(__m512 x) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(0xffff0000);
  Three three;
  for (int k = 0; k < kParts - 1; ++k) {
    three.part[k] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(three.part[k]));
  }
  three.part[kParts - 1] = _mm512_castps_si512(x);
  return three;
}

// Pairs of `first` and `second` as rows `row` of the three tiles at `to`.
__attribute__((always_inline)) inline void put_pairs(__m512 first, __m512 second, uint16_t* to, int64_t row) {
  const Three a = split(first), b = split(second);
  for (int k = 0; k < kParts; ++k) {
    const __m512i pairs = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(a.part[k], 16), b.part[k]);
    _mm512_store_si512(to + k * kTile + row * kDeep, pairs);
  }
}

inline __mmask16 first_of(int64_t count) { return __mmask16(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

// A table of numbers, those beyond its ends and behind a closed gate 0.
struct Table {
  const float* numbers;
  const float* gate;  // or null
  int64_t rows, columns;

  bool has(int64_t row, int64_t column, int64_t row_count, int64_t column_count) const {
    return row + row_count <= rows && column + column_count <= columns;
  }

  // 16 numbers of a row from `column`; `inner`: all are there.
  template <bool inner, bool gated>
  __attribute__((always_inline)) inline __m512 read(int64_t row, int64_t column) const {
    const int64_t at = row * columns + column;
    __mmask16 have = 0xffff;
    if constexpr (!inner) have = row < rows ? first_of(columns - column) : __mmask16(0);
    if constexpr (gated) {
      const __m512 open = _mm512_maskz_loadu_ps(have, gate + at);
      have = _mm512_mask_cmp_ps_mask(have, open, _mm512_setzero_ps(), _CMP_NLE_UQ);  // NaN opens, as in torch
    }
    return _mm512_maskz_loadu_ps(have, numbers + at);
  }
};

// Lines of memory that are needed later: they are sent for a few at a time, while products are taken.
class Ahead {
 public:
  Ahead(const float* first, int64_t stride, int64_t rows, int64_t columns)
      : at_(reinterpret_cast<const char*>(first)), skip_(4 * stride), width_(4 * columns), left_(width_),
        rows_(first == nullptr ? 0 : rows) {}

  __attribute__((always_inline)) inline void send(bool write) {
    if (rows_ <= 0) return;
    write ? _mm_prefetch(at_, _MM_HINT_ET0) : _mm_prefetch(at_, _MM_HINT_T1);
    at_ += kLine, left_ -= kLine;
    if (left_ <= 0) at_ += skip_ - width_ + left_, left_ = width_, --rows_;
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* at_;
  int64_t skip_, width_, left_, rows_;
};

// Two lines of each of two tables; the second one's to be written to, if so.
__attribute__((always_inline)) inline void send_two(Ahead* ahead, bool write) {
  for (int i = 0; i < 2; ++i) ahead[0].send(false), ahead[1].send(write);
}

// Turn the 16 x 16 pairs of each of three tiles.
inline void turn(uint16_t* tile) {
  for (int k = 0; k < kParts; ++k, tile += kTile) {
    __m512i r[16], t[16];
    for (int i = 0; i < 16; ++i) r[i] = _mm512_load_si512(tile + i * kDeep);
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      for (int j = 0; j < 2; ++j) {
        r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
        r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
      const __m512i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
      const __m512i d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
      _mm512_store_si512(tile + i * kDeep, _mm512_shuffle_i32x4(a, c, 0x88));
      _mm512_store_si512(tile + (i + 8) * kDeep, _mm512_shuffle_i32x4(a, c, 0xdd));
      _mm512_store_si512(tile + (i + 4) * kDeep, _mm512_shuffle_i32x4(b, d, 0x88));
      _mm512_store_si512(tile + (i + 12) * kDeep, _mm512_shuffle_i32x4(b, d, 0xdd));
    }
  }
}

// 16 rows from `row`, in `steps` times 32 columns from `column`: the columns are what is summed over. Steps of a side lie
// `next` numbers apart.
template <bool inner, bool gated>
void pack_rows_as(const Table& table, int64_t row, int64_t column, int64_t steps, uint16_t* to, int64_t next) {
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t k = 0; k < steps; ++k) {
      const int64_t at = column + k * kDeep;
      put_pairs(table.read<inner, gated>(row + r, at), table.read<inner, gated>(row + r, at + kSide), to + k * next, r);
    }
  }
}

void pack_rows(const Table& table, int64_t row, int64_t column, int64_t steps, uint16_t* to, int64_t next) {
  const bool inner = table.has(row, column, kSide, steps * kDeep), gated = table.gate != nullptr;
  const auto pack = inner ? gated ? &pack_rows_as<true, true> : &pack_rows_as<true, false>
                    : gated ? &pack_rows_as<false, true> : &pack_rows_as<false, false>;
  pack(table, row, column, steps, to, next);
}

// 32 rows from `row`, in `pairs` times 32 columns from `column`: the rows are what is summed over. Pairs of column tiles lie
// `next` numbers apart. Adds the sum of each column to `sums`, if there are any.
template <bool inner, bool gated>
void pack_columns_as(const Table& table, int64_t row, int64_t column, int64_t pairs, uint16_t* to, int64_t next,
                     float* sums) {
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t tile = 0; tile < 2 * pairs; ++tile) {
      const int64_t at = column + tile * kSide;
      const __m512 first = table.read<inner, gated>(row + r, at), second = table.read<inner, gated>(row + r + kSide, at);
      put_pairs(first, second, to + tile / 2 * next + tile % 2 * kStep, r);
      if (sums == nullptr) continue;
      float* const sum = sums + tile * kSide;
      _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), _mm512_add_ps(first, second)));
    }
  }
}

void pack_columns(const Table& table, int64_t row, int64_t column, int64_t pairs, uint16_t* to, int64_t next, float* sums) {
  const bool inner = table.has(row, column, kDeep, pairs * 2 * kSide), gated = table.gate != nullptr;
  const auto pack = inner ? gated ? &pack_columns_as<true, true> : &pack_columns_as<true, false>
                    : gated ? &pack_columns_as<false, true> : &pack_columns_as<false, false>;
  pack(table, row, column, pairs, to, next, sums);
}

// Where the four tiles that a step works on start from.
struct Start {
  const float* from;  // or null for 0
  int64_t stride;     // numbers between rows; 0 for the same row again and again
};

// 32 x 32 results `stride` numbers apart: 2 x 2 tiles, summed over `steps` tiles of both sides.
// A step of either side is two tiles, of which the three parts lie together.
inline void multiply(const uint16_t* left, const uint16_t* right, int64_t steps, Start start, float* to, int64_t stride,
                     Ahead* ahead, bool write) {
  if (start.from == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    const int64_t bytes = start.stride * 4;
    const float* const below = start.from + kSide * start.stride;
    _tile_loadd(0, start.from, bytes);
    _tile_loadd(1, start.from + kSide, bytes);
    _tile_loadd(2, below, bytes);
    _tile_loadd(3, below + kSide, bytes);
  }
  constexpr int64_t kBytes = 2 * kDeep;
// Macros, because the compiler takes no variable for the number of a register.
#define PIM_LEFT(part) \
  _tile_loadd(4, left + part * kTile, kBytes); \
  _tile_loadd(5, left + kStep + part * kTile, kBytes)
#define PIM_RIGHT(part) \
  _tile_loadd(6, right + part * kTile, kBytes); \
  _tile_loadd(7, right + kStep + part * kTile, kBytes)
#define PIM_MULTIPLY() \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)
  for (int64_t k = 0; k < steps; ++k, left += 2 * kStep, right += 2 * kStep) {
    // In an order in which one side stays, small products first.
    PIM_LEFT(0);
    PIM_RIGHT(2);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_RIGHT(1);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(1);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_RIGHT(0);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(2);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(0);
    PIM_MULTIPLY();
  }
#undef PIM_LEFT
#undef PIM_RIGHT
#undef PIM_MULTIPLY
  float* const under = to + kSide * stride;
  const int64_t bytes = stride * 4;
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + kSide, bytes);
  _tile_stored(2, under, bytes);
  _tile_stored(3, under + kSide, bytes);
}

// 32 x 32 sums to their place among the results, as far as these go.
inline void finish(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows, int64_t columns,
                   bool relu) {
  const __mmask16 low = first_of(columns), high = first_of(columns - kSide);
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t r = 0; r < smaller(rows, 2 * kSide); ++r, from += stride, to += to_stride) {
    __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + kSide);
    // The second one goes through where one is NaN.
    if (relu) a = _mm512_max_ps(zero, a), b = _mm512_max_ps(zero, b);
    _mm512_mask_storeu_ps(to, low, a), _mm512_mask_storeu_ps(to + kSide, high, b);
  }
}

// 32 x 32 sums to others, and in the place of others.
inline void add_block(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r, from += stride, to += to_stride) {
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_loadu_ps(from)));
    _mm512_storeu_ps(to + kSide, _mm512_add_ps(_mm512_loadu_ps(to + kSide), _mm512_loadu_ps(from + kSide)));
  }
}

inline void copy_block(const float* from, float* to, int64_t stride, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r, from += stride, to += stride) {
    _mm512_storeu_ps(to, _mm512_loadu_ps(from)), _mm512_storeu_ps(to + kSide, _mm512_loadu_ps(from + kSide));
  }
}

// The right side of RowProducts in tiles: [pairs of column tiles, steps, 2, parts].
struct RightSide {
  int64_t steps, pairs;
  uint16_t* tiles;
  float* bias;  // up to whole tiles, or null

  uint16_t* at(int64_t pair, int64_t step) const { return tiles + (pair * steps + step) * 2 * kStep; }
};

void pack_right_side(const RowProducts& products, const RightSide& side, int64_t pair) {
  if (products.turned) {
    const Table matrix = {products.matrix, nullptr, products.in, products.out};
    for (int64_t step = 0; step < side.steps; ++step) {
      pack_columns(matrix, step * kDeep, pair * 2 * kSide, 1, side.at(pair, step), 0, nullptr);
    }
    return;
  }
  const Table matrix = {products.matrix, nullptr, products.out, products.in};
  for (int64_t k = 0; k < 2; ++k) {
    pack_rows(matrix, (2 * pair + k) * kSide, 0, side.steps, side.at(pair, 0) + k * kStep, 2 * kStep);
    for (int64_t step = 0; step < side.steps; ++step) turn(side.at(pair, step) + k * kStep);
  }
}

void run_piece(const RowProducts& products, const RightSide& side, int64_t index) {
  constexpr int64_t kPairs = RowProducts::kRows / (2 * kSide);
  uint16_t* const left = kept<uint16_t>(kLeft, kPairs * kPanel);
// Blocks that stick out of the results: those of the last columns, then those of the last rows.
  constexpr int64_t kBlock = 4 * kSide * kSide;
  float* const edges = kept<float>(kEdges, (kPairs + side.pairs) * kBlock);
  float* const groups = side.steps > kGroup ? kept<float>(kGroups, kPairs * side.pairs * kBlock) : nullptr;
  const Table rows = {products.rows, products.gate, products.count, products.in};
  const int64_t first = index * RowProducts::kRows;
  const int64_t row_pairs = tiles(smaller(products.count - first, RowProducts::kRows), 2 * kSide);
  const int64_t next = first + RowProducts::kRows, next_rows = smaller(RowProducts::kRows, products.count - next);
  Ahead ahead[2] = {{products.rows + next * products.in, products.in, next_rows, products.in},
                    {products.results + next * products.out, products.out, next_rows, products.out}};
  const Tiles registers;
  for (int64_t step = 0; step < side.steps; step += kAhead) {
    const int64_t steps = smaller(kAhead, side.steps - step);
    for (int64_t tile = 0; tile < 2 * row_pairs; ++tile) {
      uint16_t* const to = left + tile / 2 * kPanel + tile % 2 * kStep;
      pack_rows(rows, first + tile * kSide, step * kDeep, steps, to, 2 * kStep);
    }
    for (int64_t pair = 0; pair < side.pairs; ++pair) {
      for (int64_t row_pair = 0; row_pair < row_pairs; ++row_pair) {
        const int64_t row = first + row_pair * 2 * kSide, column = pair * 2 * kSide;
        const int64_t have_rows = products.count - row, have_columns = products.out - column;
        const bool inner = have_rows >= 2 * kSide && have_columns >= 2 * kSide;
        float* const result = products.results + row * products.out + column;
        float* const edge = edges + (have_columns < 2 * kSide ? row_pair : kPairs + pair) * kBlock;
        float* const to = inner ? result : edge;
        const int64_t stride = inner ? products.out : 2 * kSide;
        const uint16_t* const panel = left + row_pair * kPanel;
        if (step < kGroup) {
          const Start start = step > 0               ? Start{to, stride}
                              : side.bias == nullptr ? Start{nullptr, 0}
                                                     : Start{side.bias + column, 0};
          multiply(panel, side.at(pair, step), steps, start, to, stride, ahead, true);
        } else {
          float* const group = groups + (row_pair * side.pairs + pair) * kBlock;
          const Start start = step % kGroup > 0 ? Start{group, 2 * kSide} : Start{nullptr, 0};
          multiply(panel, side.at(pair, step), steps, start, group, 2 * kSide, ahead, true);
          if ((step + steps) % kGroup == 0 || step + steps == side.steps) add_block(group, 2 * kSide, to, stride, 2 * kSide);
        }
        if (step + steps == side.steps && (products.relu || !inner)) {
          finish(to, stride, result, products.out, have_rows, have_columns, products.relu);
        }
      }
    }
  }
}

// A block of the weight from a part of the rows, and its sums of gradients.
struct WeightTask {
  int64_t in, out;           // first ones
  int64_t in_pairs, out_pairs;
  int64_t first, end;  // chunks of rows
  float* weight;       // [32 out_pairs, 32 in_pairs]
  double* bias;        // [32 out_pairs], or null
};

void run_task(const WeightProducts& products, const WeightTask& task) {
  constexpr int64_t kSteps = WeightProducts::kRows / kDeep, kPairs = WeightProducts::kBlock / (2 * kSide);
  static_assert(kSteps == kAhead);
  uint16_t* const left = kept<uint16_t>(kLeft, kPairs * kPanel);
  uint16_t* const right = kept<uint16_t>(kRight, kPairs * kPanel);
  const Table gradients = {products.gradients, products.gate, products.count, products.out};
  const Table rows = {products.rows, nullptr, products.count, products.in};
  const int64_t stride = task.in_pairs * 2 * kSide;
  constexpr int64_t kChunks = kWeightGroup / kSteps;
  const bool grouped = task.end - task.first > kChunks;
  float* const group = grouped ? kept<float>(kGroups, WeightProducts::kBlock * WeightProducts::kBlock) : nullptr;
  const Tiles registers;
  for (int64_t chunk = task.first; chunk < task.end; ++chunk) {
    const int64_t row = chunk * WeightProducts::kRows;
    alignas(64) float sums[WeightProducts::kBlock] = {};
    for (int64_t k = 0; k < kSteps; ++k) {
      pack_columns(gradients, row + k * kDeep, task.out, task.out_pairs, left + k * 2 * kStep, kPanel, sums);
      pack_columns(rows, row + k * kDeep, task.in, task.in_pairs, right + k * 2 * kStep, kPanel, nullptr);
    }
    for (int64_t pair = 0; pair < task.out_pairs; ++pair) {
      for (int64_t tile = 0; tile < 2 * kSteps; ++tile) turn(left + pair * kPanel + tile * kStep);
    }
    for (int64_t k = 0; task.bias != nullptr && k < task.out_pairs * 2 * kSide; ++k) task.bias[k] += double(sums[k]);
    const bool first_of_group = (chunk - task.first) % kChunks == 0;
    const bool last_of_group = (chunk + 1 - task.first) % kChunks == 0 || chunk + 1 == task.end;
    const int64_t next = row + WeightProducts::kRows;
    const int64_t next_rows = chunk + 1 < task.end ? smaller(WeightProducts::kRows, products.count - next) : 0;
    const int64_t columns_out = smaller(WeightProducts::kBlock, products.out - task.out);
    const int64_t columns_in = smaller(WeightProducts::kBlock, products.in - task.in);
    Ahead ahead[2] = {{products.gradients + next * products.out + task.out, products.out, next_rows, columns_out},
                      {products.rows + next * products.in + task.in, products.in, next_rows, columns_in}};
    for (int64_t pair = 0; pair < task.in_pairs; ++pair) {
      for (int64_t out_pair = 0; out_pair < task.out_pairs; ++out_pair) {
        const int64_t at = out_pair * 2 * kSide * stride + pair * 2 * kSide;
        float *const sum = task.weight + at, *const to = grouped ? group + at : sum;
        const Start start = first_of_group ? Start{nullptr, 0} : Start{to, stride};
        multiply(left + out_pair * kPanel, right + pair * kPanel, kSteps, start, to, stride, ahead, false);
        if (!grouped || !last_of_group) continue;
        if (chunk - task.first < kChunks) {
          copy_block(to, sum, stride, 2 * kSide);
        } else {
          add_block(to, stride, sum, stride, 2 * kSide);
        }
      }
    }
  }
}

inline void add_row(const float* row, int64_t count, double* sums) {
  for (int64_t k = 0; k < count; ++k) sums[k] += double(row[k]);
}

}  // namespace

#pragma GCC pop_options

bool have_matrix_unit() {
  static const bool have = ask_for_tiles();
  return have;
}

void run_products(const RowProducts& products, Executor executor) {
  if (!have_matrix_unit()) throw std::runtime_error("this processor has no matrix unit");
  const int64_t steps = tiles(products.in, kDeep), pairs = tiles(products.out, 2 * kSide);
  const RightSide side = {steps, pairs, kept<uint16_t>(kMatrix, pairs * steps * 2 * kStep),
                          products.bias == nullptr ? nullptr : kept<float>(kBias, pairs * 2 * kSide)};
  if (side.bias != nullptr) {
    std::fill(std::copy(products.bias, products.bias + products.out, side.bias), side.bias + pairs * 2 * kSide, 0.0f);
  }
  parallel_for(pairs, [&](int64_t pair) { pack_right_side(products, side, pair); }, executor, 1);
  parallel_for(products.pieces(), [&](int64_t index) { run_piece(products, side, index); }, executor, 1);
  forget_large();
}

void run_products(const WeightProducts& products, Executor executor) {
  if (!have_matrix_unit()) throw std::runtime_error("this processor has no matrix unit");
  constexpr int64_t kBlock = WeightProducts::kBlock;
  if (products.count == 0) {
    std::fill(products.weight, products.weight + products.out * products.in, 0.0f);
    std::fill(products.bias, products.bias + products.out, 0.0f);
    return;
  }
  const int64_t blocks = products.blocks(), parts = products.parts();
  float* const sums = kept<float>(kSums, blocks * parts * kBlock * kBlock);
  double* const of_bias = kept<double>(kBiasSums, products.blocks_out() * parts * kBlock);
  std::fill(of_bias, of_bias + products.blocks_out() * parts * kBlock, 0.0);
  const auto run = [&](int64_t index) {
    const int64_t block = index % blocks, part = index / blocks;
    const int64_t in = block % products.blocks_in() * kBlock, block_out = block / products.blocks_in();
    const int64_t out = block_out * kBlock;
    WeightTask task = {in, out, tiles(std::min(kBlock, products.in - in), 2 * kSide),
                       tiles(std::min(kBlock, products.out - out), 2 * kSide), products.chunks() * part / parts,
                       products.chunks() * (part + 1) / parts, sums + index * kBlock * kBlock,
                       in == 0 ? of_bias + (block_out * parts + part) * kBlock : nullptr};
    run_task(products, task);
  };
  parallel_for(blocks * parts, run, executor, 1);
  const auto add_up = [&](int64_t row) {
    const int64_t block_out = row / kBlock;
    double bias = 0;
    for (int64_t part = 0; part < parts; ++part) bias += of_bias[(block_out * parts + part) * kBlock + row % kBlock];
    products.bias[row] = float(bias);
    for (int64_t block = 0; block < products.blocks_in(); ++block) {
      const int64_t in = block * kBlock, columns = std::min(kBlock, products.in - in);
      const int64_t stride = tiles(columns, 2 * kSide) * 2 * kSide;
      const int64_t first = block_out * products.blocks_in() + block;
      float* const to = products.weight + row * products.in + in;
      double sum[kBlock] = {};
      for (int64_t part = 0; part < parts; ++part) {
        add_row(sums + (part * blocks + first) * kBlock * kBlock + row % kBlock * stride, columns, sum);
      }
      std::copy(sum, sum + columns, to);
    }
  };
  parallel_for(products.out, add_up, executor, 32);
  forget_large();
}

#else

bool have_matrix_unit() { return false; }

void run_products(const RowProducts&, Executor) { throw std::runtime_error("this processor has no matrix unit"); }
void run_products(const WeightProducts&, Executor) { throw std::runtime_error("this processor has no matrix unit"); }

#endif

}  // namespace pyimplicit
