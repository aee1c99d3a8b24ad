// Draws points by the plain bodies that CPU and GPU share, and writes them to standard output. test_fused.py compiles it as
// for the CPU, and as nvcc does for a GPU: a product and a sum are one operation wherever the body does not ask for the
// rounding of each.
#include <cstdio>
#include <vector>

#if defined(__CUDA_ARCH__)
// What the GPU's intrinsics do; the compiler cannot look into an operation that it must leave alone.
template <typename T>
inline T left_alone(T value) {
  asm("" : "+x"(value));
  return value;
}
inline double __dadd_rn(double a, double b) { return left_alone(a + b); }
inline double __dmul_rn(double a, double b) { return left_alone(a * b); }
inline float __fadd_rn(float a, float b) { return left_alone(a + b); }
inline float __fmul_rn(float a, float b) { return left_alone(a * b); }
#endif

#include "points/squared_distance.h"
#include "sampling/query_points.h"

using namespace pyimplicit;

template <typename T>
void put(const std::vector<T>& values) {
  std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

int main() {
  constexpr int64_t kCount = 50000, kTriangles = 1000;
  const RandomStream stream = {7, 1, 2, 3};

  // 2^-60 with a fused operation, else 0: whether this program has any at all.
  volatile double near_one = 1 + 9.313225746154785e-10;
  const double factor = near_one, square = 1 + 2 * 9.313225746154785e-10;
  put(std::vector<double>{factor * factor - square});

  std::vector<float> corners(9 * kTriangles), numbers(3 * kCount);
  std::vector<double> wide(3 * kCount);
  for (int64_t i = 0; i < 3 * kTriangles; ++i) Uniform<float>{stream, -1, 1, corners.data()}(i);
  for (int64_t i = 0; i < kCount; ++i) Uniform<float>{stream, -0.3f, 0.7f, numbers.data()}(i);
  put(numbers);
  for (int64_t i = 0; i < kCount; ++i) Normal<double>{stream, wide.data()}(i);
  put(wide);

  std::vector<int32_t> index(kTriangles);
  std::vector<AliasEntry> areas(kTriangles);
  for (int64_t i = 0; i < kTriangles; ++i) {
    index[i] = int32_t(i);
    areas[i] = {float(stream.words(i).w[0] >> 8) * 5.9604644775390625e-8f, int32_t(stream.words(i).w[1] % kTriangles)};
  }
  const SurfaceEntry entry = {0, 0, 0, 0, -1, -1, -1, kTriangles, 0, 2, 0, 2.0, 0, {0.1, -0.37, 0.012345}};
  const std::vector<int64_t> shapes = {0}, keys = {5, 6};
  SurfaceTable table = {};
  table.entries = &entry, table.triangles = corners.data(), table.triangle_face = index.data();
  const PointSources sources = {4, {{0, 0, -1}, {kCount, 2, 0}, {2 * kCount, 4, 0.001}, {3 * kCount, 6, 0.1}}};
  std::vector<float> points(12 * kCount), squares(4 * kCount);
  std::vector<int64_t> face(4 * kCount);
  const DrawQueryPoints draw = {table, areas.data(), shapes.data(), {keys.data(), 11}, 4 * kCount, sources, 0.5f,
                                points.data(), face.data(), nullptr};
  for (int64_t i = 0; i < 4 * kCount; ++i) draw(i);
  put(points);
  put(face);

  for (int64_t i = 0; i < 4 * kCount; ++i) squares[i] = squared_distance(points.data() + 3 * i, corners.data());
  put(squares);
}
