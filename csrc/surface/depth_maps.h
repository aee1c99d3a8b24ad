// Depth maps of a mesh from many directions, and how many of them see past a point. The views are orthographic: each is
// a rotation whose rows are the image's two axes and the direction of sight; depth runs along the latter.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

// Pixel (column, row) has its center at ((column + 1/2) - size / 2) pixel lengths along the axes, from the origin.
struct DepthViews {
  const float* rotations;  // [V, 3, 3]
  int64_t size;            // pixels along each side
  float pixel;             // its length, mesh units

  // Column and row with the fraction within, and depth in mesh units; the same bits for a corner of several faces.
  PIM_HOST_DEVICE Vec3f project(int64_t view, Vec3f p) const {
    const float* r = rotations + 9 * view;
    const float middle = 0.5f * float(size) - 0.5f;
    const float column = dot_rounded(load3(r, 0), p), row = dot_rounded(load3(r, 1), p);
    return {column / pixel + middle, row / pixel + middle, dot_rounded(load3(r, 2), p)};
  }
};

// Draws a band of rows of one view: the smallest depth of any face at each pixel's center. Edges belong to both of their
// faces, so no ray slips between them.
struct DrawDepth {
  const float* vertices;  // [P, 3]
  const int32_t* faces;   // [F, 3]
  int64_t face_count;
  DepthViews views;
  int64_t bands;
  // outputs
  float* depth;  // [V, size, size] infinite where nothing is

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t view = i / bands, band = i % bands, size = views.size;
    const int64_t first = size * band / bands, end = size * (band + 1) / bands;
    float* const image = depth + view * size * size;
    for (int64_t at = first * size; at < end * size; ++at) image[at] = INFINITY;
    for (int64_t f = 0; f < face_count; ++f) {
      Vec3f corner[3];
      for (int k = 0; k < 3; ++k) corner[k] = views.project(view, load3(vertices, faces[3 * f + k]));
      draw(corner, first, end, image);
    }
  }

 private:
  PIM_HOST_DEVICE void draw(const Vec3f* corner, int64_t first, int64_t end, float* image) const {
    const float low_x = fminf(corner[0].x, fminf(corner[1].x, corner[2].x));
    const float high_x = fmaxf(corner[0].x, fmaxf(corner[1].x, corner[2].x));
    const float low_y = fminf(corner[0].y, fminf(corner[1].y, corner[2].y));
    const float high_y = fmaxf(corner[0].y, fmaxf(corner[1].y, corner[2].y));
    const int64_t last_column = int64_t(fminf(floorf(high_x), float(views.size - 1)));
    const int64_t last_row = int64_t(fminf(floorf(high_y), float(end - 1)));
    for (int64_t row = int64_t(fmaxf(ceilf(low_y), float(first))); row <= last_row; ++row) {
      for (int64_t column = int64_t(fmaxf(ceilf(low_x), 0.0f)); column <= last_column; ++column) {
        const double a = side(corner[1], corner[2], column, row), b = side(corner[2], corner[0], column, row);
        const double c = side(corner[0], corner[1], column, row), sum = a + b + c;
        if (((a < 0 || b < 0 || c < 0) && (a > 0 || b > 0 || c > 0)) || sum == 0) continue;
        const float here = float((a * corner[0].z + b * corner[1].z + c * corner[2].z) / sum);
        float& pixel = image[row * views.size + column];
        if (here < pixel) pixel = here;
      }
    }
  }

  // Twice the signed area between an edge and a pixel's center: its exact opposite for the edge the other way round.
  PIM_HOST_DEVICE static double side(Vec3f from, Vec3f to, int64_t column, int64_t row) {
    const double fx = double(from.x) - double(column), fy = double(from.y) - double(row);
    const double tx = double(to.x) - double(column), ty = double(to.y) - double(row);
    return product_difference(fx, ty, fy, tx);
  }
};

// How many views see past a point: nothing is before it at its pixel. Stops counting at `enough`.
struct CountViews {
  const float* points;  // [N, 3]
  const float* depth;   // [V, size, size]
  DepthViews views;
  int64_t view_count;
  int32_t enough;
  // outputs
  int32_t* seen;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Vec3f p = load3(points, i);
    int32_t count = 0;
    for (int64_t view = 0; view < view_count && count < enough; ++view) {
      const Vec3f at = views.project(view, p);
      const float column = floorf(at.x + 0.5f), row = floorf(at.y + 0.5f), last = float(views.size - 1);
      const bool beside = !(column >= 0 && row >= 0 && column <= last && row <= last);
      count += beside || at.z < depth[(view * views.size + int64_t(row)) * views.size + int64_t(column)];
    }
    seen[i] = count;
  }
};

}  // namespace pyimplicit
