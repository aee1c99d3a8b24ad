// The products of matrix_products.h with the tile registers of AMX: which tiles are made and multiplied when.
#include "networks/matrix_products.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/instruction_set.h"

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

#include "networks/matrix_tiles_simd.h"

// So many steps are summed up by themselves, and then added: a float32 sum of many more would lose digits. More of them for
// the gradients of a weight, whose sums are large tables.
constexpr int64_t kGroup = 4 * kAhead, kWeightGroup = 16 * kAhead;

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
