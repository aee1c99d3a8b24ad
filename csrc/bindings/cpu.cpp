// The module `_cpu`: every kernel on the CPU, and what only ever runs there (building the hierarchy).
#include <string>

#include "base/fill_zeros.h"
#include "base/heap.h"
#include "base/instruction_set.h"
#include "base/magnitude.h"
#include "bindings/bindings.h"
#include "mask/cloud_sort.h"
#include "networks/channels.h"
#include "networks/convolution.h"
#include "networks/matrix_products.h"
#include "networks/vector_attention.h"
#include "sampling/alias_build.h"
#include "sampling/choose_distinct.h"
#include "surface/bvh_build.h"
#include "surface/corners.h"
#include "surface/pseudonormal_build.h"
#include "surface/topology.h"

namespace pyimplicit {

template <typename T>
void gather_corners_binding(Array<const T> vertices, Array<const int32_t> faces, int64_t count, Array<double> center,
                            Array<double> scale, Array<float> corners, Executor executor) {
  gather_corners<T>(vertices, faces, count, center, scale, corners, executor);
}

template <typename T, typename Bits>
double largest_magnitude_binding(Array<const T> values, int64_t count, Executor executor) {
  return largest_magnitude<T, Bits>(values, count, executor);
}

template <typename T>
void choose_distinct_binding(Array<const T> weights, int64_t count, Array<double> sums, uint64_t seed, uint32_t shape,
                             uint32_t step, uint32_t purpose, int64_t wanted, Array<int64_t> chosen, Executor executor) {
  choose_distinct<T>(weights, count, sums, stream_of(seed, shape, step, purpose), wanted, chosen, executor);
}

// Sums go to an array of one number.
void build_alias_table_binding(Array<const double> weights, int64_t count, Array<char> entries, int64_t stride,
                               Array<double> total, Executor) {
  *total.data = build_alias_table(weights, count, entries, stride);
}

void build_area_table(Array<const float> corners, int64_t count, Array<char> entries, Array<double> total,
                      Executor executor) {
  std::vector<double> areas(count);
  parallel_for(count, TriangleAreas{corners, areas.data()}, executor, 16384);
  *total.data = build_alias_table(areas.data(), count, entries, sizeof(AliasEntry));
}

void cloud_box_binding(Array<const float> cloud, int64_t count, Array<double> box, Executor) {
  cloud_box(cloud, count, box);
}

void sort_cloud(Array<const float> clouds, int64_t items, int64_t each, Array<const double> box,
                Array<const int64_t> size, Array<float> sorted, Array<int32_t> cell_start, Executor executor) {
  const double* low = box;
  const int64_t* cells = size;
  const SortCloud sort = {clouds,   each, {low[0], low[1], low[2]}, low[3], {cells[0], cells[1], cells[2]}, sorted,
                          cell_start};
  parallel_for(items, sort, executor, 1);
  cell_start[items * cells[0] * cells[1] * cells[2]] = int32_t(items * each);
}

void fill_zeros_binding(Array<char> memory, int64_t bytes, Executor executor) { fill_zeros(memory, bytes, executor); }

// Fills the arrays of a built hierarchy.
void write_bvh(const build::BvhBuilder& builder, Array<float> boxes, Array<int32_t> links, Array<float> moments,
               Array<int32_t> leaf_first, Array<float> frames, Array<float> sorted, Array<int32_t> order) {
  builder.write(boxes, links, moments, leaf_first, frames, sorted, order);
}

// Sizes that are known only afterwards go to arrays of one number or more.
void weld_corners(Array<const float> corners, int64_t count, Array<int32_t> vertex, Array<int32_t> first,
                  Array<int64_t> vertices, Executor) {
  *vertices.data = topology::weld_corners(corners, count, vertex, first);
}

void match_edges(Array<const int32_t> faces, int64_t count, int64_t vertices, Array<int32_t> ring,
                 Array<int64_t> counts, Executor executor) {
  topology::EdgeMatcher(faces, count, vertices).match(ring, counts, executor);
}

void label_bodies(Array<const int32_t> ring, int64_t count, Array<const uint8_t> blocked, Array<int32_t> body,
                  Array<int64_t> bodies, Executor) {
  *bodies.data = topology::label_bodies(ring, count, blocked, body);
}

void measure_bodies(Array<const float> corners, Array<const int32_t> body, int64_t count, int64_t bodies,
                    Array<int32_t> largest, Array<int32_t> faces, Executor) {
  topology::measure_bodies(corners, body, count, bodies, largest, faces);
}

void measure_faces(Array<const float> vertices, Array<const int32_t> faces, int64_t count, double x, double y,
                   double z, Array<double> area, Array<double> volume, Executor executor) {
  parallel_for(count, topology::MeasureFaces{vertices, faces, {x, y, z}, area, volume}, executor, 4096);
}

void build_pseudonormals(Array<const float> corners, Array<const int32_t> vertex, Array<const int32_t> ring,
                         int64_t count, int64_t vertices, Array<int32_t> packed, Array<float> sums,
                         Array<uint8_t> crossed, Array<uint8_t> close, Array<uint8_t> gentle, Executor executor) {
  topology::PseudonormalBuilder(corners, vertex, ring, count, vertices, executor)
      .build(packed, sums, crossed, close, gentle);
}

void group_cells(Array<const int32_t> cells, int64_t rows, int64_t points, int64_t cell_count, Array<int32_t> order,
                 Array<int32_t> start, Executor executor) {
  parallel_for(rows, GroupCells{cells, points, cell_count, order, start}, executor, 1);
}

// `lanes`: see convolution.h.
void convolve_grids(Array<const float> grids, int64_t batch, int64_t depth, int64_t height, int64_t width, int64_t in,
                    int64_t out, Array<const float> kernels, Array<const float> bias, Array<float> results, int lanes,
                    Executor executor) {
  run_convolution(ConvolveGrids{{batch, {depth, height, width}, in, out}, grids, kernels, bias, results}, lanes, executor);
}

void convolution_gradients(Array<const float> grids, int64_t batch, int64_t depth, int64_t height, int64_t width,
                           int64_t in, int64_t out, Array<const float> gradients, Array<float> kernels,
                           Array<float> bias, int lanes, Executor executor) {
  run_convolution(ConvolutionGradients{{batch, {depth, height, width}, in, out}, grids, gradients, kernels, bias}, lanes,
                  executor);
}

void row_products(Array<const float> rows, Array<const float> gate, Array<const float> matrix, bool turned,
                  Array<const float> bias, bool relu, int64_t count, int64_t in, int64_t out, Array<float> results,
                  Executor executor) {
  run_products(RowProducts{count, in, out, rows, gate, matrix, turned, bias, relu, results}, executor);
}

void weight_products(Array<const float> gradients, Array<const float> gate, Array<const float> rows, int64_t count,
                     int64_t in, int64_t out, Array<float> weight, Array<float> bias, Executor executor) {
  run_products(WeightProducts{count, in, out, gradients, gate, rows, weight, bias}, executor);
}

// `lanes`: see vector_attention.h.
void pair_sums(int64_t shapes, int64_t points, int64_t other_count, int64_t neighbours, int64_t channels,
               Array<const int64_t> index, Array<const float> own, Array<const float> others, Array<const float> pairs,
               Array<float> results, int lanes, Executor executor) {
  run_attention(PairSums{{shapes, points, other_count, neighbours, channels, index}, own, others, pairs, results}, lanes,
                executor);
}

void pair_sum_gradients(int64_t shapes, int64_t points, int64_t other_count, int64_t neighbours, int64_t channels,
                        Array<const int64_t> index, Array<const float> gradients, Array<float> of_own,
                        Array<float> of_others, int lanes, Executor executor) {
  run_attention(
      PairSumGradients{{shapes, points, other_count, neighbours, channels, index}, gradients, of_own, of_others}, lanes,
      executor);
}

void vector_attention(int64_t shapes, int64_t points, int64_t other_count, int64_t neighbours, int64_t channels,
                      Array<const int64_t> index, Array<const float> weights, Array<const float> others,
                      Array<const float> pairs, Array<const float> extra_weight, Array<const float> extra_value,
                      Array<float> results, Array<float> largest, Array<float> sums, int lanes, Executor executor) {
  run_attention(VectorAttention{{shapes, points, other_count, neighbours, channels, index}, weights, others, pairs,
                                extra_weight, extra_value, results, largest, sums}, lanes, executor);
}

void vector_attention_gradients(int64_t shapes, int64_t points, int64_t other_count, int64_t neighbours,
                                int64_t channels, Array<const int64_t> index, Array<const float> weights,
                                Array<const float> others, Array<const float> pairs, Array<const float> extra_weight,
                                Array<const float> extra_value, Array<float> results, Array<float> largest,
                                Array<float> sums, Array<const float> gradients, Array<float> of_weights,
                                Array<float> of_pairs, Array<float> of_others, Array<float> of_extra_weight,
                                Array<float> of_extra_value, int lanes, Executor executor) {
  const VectorAttention attention = {{shapes, points, other_count, neighbours, channels, index}, weights, others, pairs,
                                     extra_weight, extra_value, results, largest, sums};
  run_attention(VectorAttentionGradients{attention, gradients, of_weights, of_pairs, of_others, of_extra_weight,
                                         of_extra_value}, lanes, executor);
}

template <typename T>
void channel_moments(Array<const T> values, int64_t shapes, int64_t rows, int64_t channels, bool relu,
                     Array<double> mean, Array<double> variance, bool plain, Executor executor) {
  run_channels(ChannelMoments<T>{{shapes, rows, channels}, values, relu, mean, variance}, plain, executor);
}

template <typename T>
void channel_products(Array<const T> gradients, Array<const T> values, Array<const T> center, Array<const T> gate,
                      int64_t shapes, int64_t rows, int64_t channels, bool relu, Array<double> sums,
                      Array<double> products, bool plain, Executor executor) {
  run_channels(ChannelProducts<T>{{shapes, rows, channels}, gradients, values, center, gate, relu, sums, products}, plain,
               executor);
}

template <typename T>
void channel_affine(Array<const T> values, Array<const T> scale, Array<const T> shift, int64_t shapes, int64_t rows,
                    int64_t channels, bool relu, bool relu_result, Array<T> results, bool plain, Executor executor) {
  run_channels(ChannelAffine<T>{{shapes, rows, channels}, values, scale, shift, relu, relu_result, results}, plain,
               executor);
}

template <typename T>
void channel_affine_gradient(Array<const T> gradients, Array<const T> values, Array<const T> gate,
                             Array<const T> scale, Array<const T> slope, Array<const T> shift, int64_t shapes,
                             int64_t rows, int64_t channels, bool relu, Array<T> results, bool plain,
                             Executor executor) {
  run_channels(ChannelAffineGradient<T>{{shapes, rows, channels}, gradients, values, gate, scale, slope, shift, relu,
                                        results}, plain, executor);
}

template <typename T>
void define_channels(py::module_& module, const std::string& type) {
  const auto name = [&](const char* kernel) { return kernel + ("_" + type); };
  define(module, name("channel_moments").c_str(), &channel_moments<T>,
         {"values", "shapes", "rows", "channels", "relu", "mean", "variance", "plain", "executor"});
  define(module, name("channel_products").c_str(), &channel_products<T>,
         {"gradients", "values", "center", "gate", "shapes", "rows", "channels", "relu", "sums", "products", "plain",
          "executor"});
  define(module, name("channel_affine").c_str(), &channel_affine<T>,
         {"values", "scale", "shift", "shapes", "rows", "channels", "relu", "relu_result", "results", "plain",
          "executor"});
  define(module, name("channel_affine_gradient").c_str(), &channel_affine_gradient<T>,
         {"gradients", "values", "gate", "scale", "slope", "shift", "shapes", "rows", "channels", "relu", "results",
          "plain", "executor"});
}

}  // namespace pyimplicit

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  using namespace pyimplicit;
  define_kernels(m);
  define(m, "gather_corners_float32", &gather_corners_binding<float>,
         {"vertices", "faces", "count", "center", "scale", "corners", "executor"});
  define(m, "gather_corners_float64", &gather_corners_binding<double>,
         {"vertices", "faces", "count", "center", "scale", "corners", "executor"});
  define(m, "largest_magnitude_float32", &largest_magnitude_binding<float, int32_t>, {"values", "count", "executor"});
  define(m, "largest_magnitude_float64", &largest_magnitude_binding<double, int64_t>, {"values", "count", "executor"});
  const std::array<const char*, 10> choose = {"weights", "count",   "sums",   "seed",   "shape",
                                              "step",    "purpose", "wanted", "chosen", "executor"};
  define(m, "choose_distinct_float32", &choose_distinct_binding<float>, choose);
  define(m, "choose_distinct_float64", &choose_distinct_binding<double>, choose);
  define(m, "build_alias_table", &build_alias_table_binding,
         {"weights", "count", "entries", "stride", "total", "executor"});
  define(m, "build_area_table", &build_area_table, {"corners", "count", "entries", "total", "executor"});
  define(m, "cloud_box", &cloud_box_binding, {"cloud", "count", "box", "executor"});
  define(m, "sort_cloud", &sort_cloud,
         {"clouds", "items", "each", "box", "size", "sorted", "cell_start", "executor"});
  define(m, "fill_zeros", &fill_zeros_binding, {"memory", "bytes", "executor"});
  define(m, "weld_corners", &weld_corners, {"corners", "count", "vertex", "first", "vertices", "executor"});
  define(m, "match_edges", &match_edges, {"faces", "count", "vertices", "ring", "counts", "executor"});
  define(m, "label_bodies", &label_bodies, {"ring", "count", "blocked", "body", "bodies", "executor"});
  define(m, "measure_bodies", &measure_bodies,
         {"corners", "body", "count", "bodies", "largest", "faces", "executor"});
  define(m, "measure_faces", &measure_faces,
         {"vertices", "faces", "count", "x", "y", "z", "area", "volume", "executor"});
  define(m, "build_pseudonormals", &build_pseudonormals,
         {"corners", "vertex", "ring", "count", "vertices", "packed", "sums", "crossed", "close", "gentle", "executor"});
  define(m, "group_cells", &group_cells, {"cells", "rows", "points", "cell_count", "order", "start", "executor"});
  define_channels<float>(m, "float32");
  define_channels<double>(m, "float64");
  define(m, "convolve_grids", &convolve_grids,
         {"grids", "batch", "depth", "height", "width", "in", "out", "kernels", "bias", "results", "lanes", "executor"});
  define(m, "convolution_gradients", &convolution_gradients,
         {"grids", "batch", "depth", "height", "width", "in", "out", "gradients", "kernels", "bias", "lanes", "executor"});
  m.attr("vector_lanes") = vector_lanes();
  define(m, "row_products", &row_products,
         {"rows", "gate", "matrix", "turned", "bias", "relu", "count", "in", "out", "results", "executor"});
  define(m, "weight_products", &weight_products,
         {"gradients", "gate", "rows", "count", "in", "out", "weight", "bias", "executor"});
  define(m, "pair_sums", &pair_sums,
         {"shapes", "points", "other_count", "neighbours", "channels", "index", "own", "others", "pairs", "results",
          "lanes", "executor"});
  define(m, "pair_sum_gradients", &pair_sum_gradients,
         {"shapes", "points", "other_count", "neighbours", "channels", "index", "gradients", "of_own", "of_others",
          "lanes", "executor"});
  define(m, "vector_attention", &vector_attention,
         {"shapes", "points", "other_count", "neighbours", "channels", "index", "weights", "others", "pairs",
          "extra_weight", "extra_value", "results", "largest", "sums", "lanes", "executor"});
  define(m, "vector_attention_gradients", &vector_attention_gradients,
         {"shapes", "points", "other_count", "neighbours", "channels", "index", "weights", "others", "pairs",
          "extra_weight", "extra_value", "results", "largest", "sums", "gradients", "of_weights", "of_pairs", "of_others", "of_extra_weight",
          "of_extra_value", "lanes", "executor"});
  m.def("use_team", [](std::uintptr_t run, std::uintptr_t number) {
    ThreadPool::use({reinterpret_cast<decltype(ThreadPool::Team::run)>(run),
                     reinterpret_cast<decltype(ThreadPool::Team::number)>(number)});
  }, py::kw_only(), py::arg("run"), py::arg("number"));
  m.def("have_matrix_unit", &have_matrix_unit);
  m.def("keep_heap", &keep_heap, py::kw_only(), py::arg("largest"), py::call_guard<py::gil_scoped_release>());
  // Alive only while a hierarchy is built: Python asks the sizes, allocates, and has the arrays filled.
  py::class_<build::BvhBuilder>(m, "BvhBuilder")
      .def(py::init([](Array<const float> triangles, int64_t count, Executor executor) {
             return build::BvhBuilder(triangles, count, executor);
           }),
           py::kw_only(), py::arg("triangles"), py::arg("count"), py::arg("executor"),
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("nodes", &build::BvhBuilder::nodes)
      .def_property_readonly("leaves", &build::BvhBuilder::leaves)
      .def("write", &write_bvh, py::kw_only(), py::arg("boxes"), py::arg("links"), py::arg("moments"),
           py::arg("leaf_first"), py::arg("frames"), py::arg("sorted"), py::arg("order"),
           py::call_guard<py::gil_scoped_release>());
  m.attr("compiler") = PIM_COMPILER;
  m.attr("cuda_build") = PIM_CUDA_BUILD;  // "on", or why the CUDA module was not built
}
