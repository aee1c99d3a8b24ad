// Normalisations on the CPU: channels_simd.h, compiled for each instruction set and chosen at run time.
#include <initializer_list>

#include "channels.h"
#include "instruction_set.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace pyimplicit::avx2 {
#include "channels_simd.h"
}
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline {
#include "channels_simd.h"
}

namespace pyimplicit {

namespace {

// Factors [S, C] of a shape, repeated to the length of a line.
template <typename T>
std::vector<T> repeat(const ChannelTable& table, int64_t shape, std::initializer_list<const T*> factors) {
  std::vector<T> lines;
  lines.reserve(factors.size() * table.together() * table.channels);
  for (const T* of : factors) {
    const T* row = of + shape * table.channels;
    for (int64_t k = 0; k < table.together(); ++k) lines.insert(lines.end(), row, row + table.channels);
  }
  return lines;
}

// Calls run(piece of the table, its first number, how many, numbers of a line).
template <typename Run>
void each_piece(const ChannelTable& table, Executor executor, const Run& run) {
  const int64_t length = table.together() * table.channels;
  const auto at = [&](int64_t index) {
    const auto piece = table.piece(index);
    run(index, piece, (piece.shape * table.rows + piece.first) * table.channels, piece.count * table.channels, length);
  };
  parallel_for(table.pieces(), at, executor, 1);
}

// Two sums of each channel of each shape, in the order of the pieces: found [S, C, 2].
template <typename T, typename Kernel>
std::vector<double> sum_up(const Kernel& kernel, const std::vector<T>& factors, Executor executor) {
  const ChannelTable& table = kernel.table;
  const int64_t channels = table.channels;
  const bool use_avx2 = have_avx2();
  std::vector<double> of_pieces(table.pieces() * channels * 2);
  each_piece(table, executor, [&](int64_t index, auto piece, int64_t first, int64_t numbers, int64_t length) {
    const std::vector<T> lines = repeat<T>(table, piece.shape, {factors.data()});
    std::vector<double> work(2 * length);
    (void)use_avx2;
#if defined(PIM_HAVE_AVX2)
    if (use_avx2) {
      avx2::run_piece(kernel, first, numbers, length, lines.data(), work.data());
    } else
#endif
      baseline::run_piece(kernel, first, numbers, length, lines.data(), work.data());
    double* sums = of_pieces.data() + index * channels * 2;
    for (int64_t k = 0; k < length; ++k) {
      sums[k % channels * 2] += work[k], sums[k % channels * 2 + 1] += work[length + k];
    }
  });
  std::vector<double> found(table.shapes * channels * 2);
  for (int64_t index = 0; index < table.pieces(); ++index) {
    double* sums = found.data() + index / table.pieces_each() * channels * 2;
    for (int64_t k = 0; k < channels * 2; ++k) sums[k] += of_pieces[index * channels * 2 + k];
  }
  return found;
}

template <typename T, typename Kernel>
void map(const Kernel& kernel, std::initializer_list<const T*> factors, Executor executor) {
  const bool use_avx2 = have_avx2();
  each_piece(kernel.table, executor, [&](int64_t, auto piece, int64_t first, int64_t numbers, int64_t length) {
    const std::vector<T> lines = repeat<T>(kernel.table, piece.shape, factors);
    (void)use_avx2;
#if defined(PIM_HAVE_AVX2)
    if (use_avx2) return avx2::run_piece(kernel, first, numbers, length, lines.data());
#endif
    baseline::run_piece(kernel, first, numbers, length, lines.data());
  });
}

}  // namespace

template <typename T>
void run_channels(const ChannelMoments<T>& kernel, Executor executor) {
  const ChannelTable& table = kernel.table;
  // Relative to the first row: squares of numbers far from 0 would lose the digits that tell them apart.
  std::vector<T> reference;
  for (int64_t s = 0; s < table.shapes; ++s) {
    for (int64_t c = 0; c < table.channels; ++c) {
      const T value = kernel.values[s * table.rows * table.channels + c];
      reference.push_back(kernel.relu ? baseline::positive_part(value) : value);
    }
  }
  const std::vector<double> sums = sum_up<T>(kernel, reference, executor);
  for (int64_t i = 0; i < table.shapes * table.channels; ++i) {
    const double mean = sums[2 * i] / double(table.rows);
    const double variance = sums[2 * i + 1] / double(table.rows) - mean * mean;
    kernel.mean[i] = double(reference[i]) + mean;
    kernel.variance[i] = variance < 0 ? 0 : variance;  // NaN stays
  }
}

template <typename T>
void run_channels(const ChannelProducts<T>& kernel, Executor executor) {
  const ChannelTable& table = kernel.table;
  const std::vector<T> center(kernel.center, kernel.center + table.shapes * table.channels);
  const std::vector<double> sums = sum_up<T>(kernel, center, executor);
  for (int64_t i = 0; i < table.shapes * table.channels; ++i) {
    kernel.sums[i] = sums[2 * i], kernel.products[i] = sums[2 * i + 1];
  }
}

template <typename T>
void run_channels(const ChannelAffine<T>& kernel, Executor executor) {
  map<T>(kernel, {kernel.scale, kernel.shift}, executor);
}

template <typename T>
void run_channels(const ChannelAffineGradient<T>& kernel, Executor executor) {
  map<T>(kernel, {kernel.scale, kernel.slope, kernel.shift}, executor);
}

#define PIM_INSTANTIATE(T)                                                     \
  template void run_channels(const ChannelMoments<T>&, Executor);              \
  template void run_channels(const ChannelProducts<T>&, Executor);             \
  template void run_channels(const ChannelAffine<T>&, Executor);               \
  template void run_channels(const ChannelAffineGradient<T>&, Executor);
PIM_INSTANTIATE(float)
PIM_INSTANTIATE(double)
#undef PIM_INSTANTIATE

}  // namespace pyimplicit
