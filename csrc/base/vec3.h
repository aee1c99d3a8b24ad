// Three-component vectors: just enough algebra for the kernels to read like their formulas.
#pragma once

#include <cmath>

#include "base/host_device.h"
#include "base/rounded.h"

namespace pyimplicit {

template <typename T>
struct Vec3 {
  T x, y, z;

  template <typename U>
  PIM_HOST_DEVICE explicit operator Vec3<U>() const {
    return {U(x), U(y), U(z)};
  }
};

using Vec3f = Vec3<float>;
using Vec3d = Vec3<double>;

template <typename T>
PIM_HOST_DEVICE inline Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <typename T>
PIM_HOST_DEVICE inline Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <typename T>
PIM_HOST_DEVICE inline Vec3<T> operator*(T s, Vec3<T> a) {
  return {s * a.x, s * a.y, s * a.z};
}

template <typename T>
PIM_HOST_DEVICE inline T dot(Vec3<T> a, Vec3<T> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <typename T>
PIM_HOST_DEVICE inline Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
  return {product_difference(a.y, b.z, a.z, b.y), product_difference(a.z, b.x, a.x, b.z),
          product_difference(a.x, b.y, a.y, b.x)};
}

template <typename T>
PIM_HOST_DEVICE inline T length(Vec3<T> a) {
  return std::sqrt(dot(a, a));
}

PIM_HOST_DEVICE inline Vec3d add_rounded(Vec3d a, Vec3d b) {
  return {add_rounded(a.x, b.x), add_rounded(a.y, b.y), add_rounded(a.z, b.z)};
}

template <typename T>
PIM_HOST_DEVICE inline T dot_rounded(Vec3<T> a, Vec3<T> b) {
  return add_rounded(add_rounded(mul_rounded(a.x, b.x), mul_rounded(a.y, b.y)), mul_rounded(a.z, b.z));
}

PIM_HOST_DEVICE inline double squared_length_rounded(Vec3d a) { return dot_rounded(a, a); }

PIM_HOST_DEVICE inline Vec3d scale_rounded(double s, Vec3d a) {
  return {mul_rounded(s, a.x), mul_rounded(s, a.y), mul_rounded(s, a.z)};
}

// One instruction each; fmin and fmax, which must look for NaN, are calls.
template <typename T>
PIM_HOST_DEVICE inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
PIM_HOST_DEVICE inline T larger(T a, T b) {
  return a > b ? a : b;
}

// The i-th triple of a packed [*, 3] array.
template <typename T>
PIM_HOST_DEVICE inline Vec3<T> load3(const T* values, int64_t i) {
  return {values[3 * i], values[3 * i + 1], values[3 * i + 2]};
}

template <typename T>
PIM_HOST_DEVICE inline void store3(T* values, int64_t i, Vec3<T> v) {
  values[3 * i] = v.x;
  values[3 * i + 1] = v.y;
  values[3 * i + 2] = v.z;
}

}  // namespace pyimplicit
