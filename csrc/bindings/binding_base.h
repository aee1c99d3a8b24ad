// What all bindings share: how a kernel becomes a function of the module, and what its arguments are in Python. Every
// argument is keyword-only; arrays come as addresses, checked in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/parallel.h"
#include "surface/surface_batch.h"

namespace pyimplicit {

// The address of an array's first element; 0 stands for an optional array that is absent.
template <typename T>
struct Array {
  T* data = nullptr;
  operator T*() const { return data; }
};

}  // namespace pyimplicit

namespace pybind11::detail {

template <typename T>
struct type_caster<pyimplicit::Array<T>> {
  PYBIND11_TYPE_CASTER(pyimplicit::Array<T>, const_name("int"));
  bool load(handle source, bool) {
    if (!PyLong_Check(source.ptr())) return false;
    value.data = reinterpret_cast<T*>(PyLong_AsUnsignedLongLong(source.ptr()));
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
  }
};

template <>
struct type_caster<pyimplicit::Executor> {
  PYBIND11_TYPE_CASTER(pyimplicit::Executor, const_name("tuple[int, int]"));
  bool load(handle source, bool) {
    if (!PyTuple_Check(source.ptr()) || PyTuple_GET_SIZE(source.ptr()) != 2) return false;
    value.device = source[int_(0)].cast<int>();
    value.handle = source[int_(1)].cast<std::uintptr_t>();
    return true;
  }
};

// A tuple of addresses, in the order of the members.
template <>
struct type_caster<pyimplicit::SurfaceTable> {
  PYBIND11_TYPE_CASTER(pyimplicit::SurfaceTable, const_name("tuple[int, ...]"));
  bool load(handle source, bool) {
    constexpr int kArrays = sizeof(pyimplicit::SurfaceTable) / sizeof(void*);
    if (!PyTuple_Check(source.ptr()) || PyTuple_GET_SIZE(source.ptr()) != kArrays) return false;
    const void* addresses[kArrays];
    for (int i = 0; i < kArrays; ++i) {
      addresses[i] = reinterpret_cast<const void*>(source[int_(i)].cast<std::uintptr_t>());
    }
    std::memcpy(&value, addresses, sizeof(value));
    return true;
  }
};

}  // namespace pybind11::detail

namespace pyimplicit {

namespace py = pybind11;

template <typename Result, typename... Arguments, std::size_t... I>
void define(py::module_& module, const char* name, Result (*function)(Arguments...),
            const std::array<const char*, sizeof...(Arguments)>& names, std::index_sequence<I...>) {
  module.def(name, function, py::kw_only(), py::arg(names[I])..., py::call_guard<py::gil_scoped_release>());
}

template <typename Result, typename... Arguments>
void define(py::module_& module, const char* name, Result (*function)(Arguments...),
            const std::array<const char*, sizeof...(Arguments)>& names) {
  define(module, name, function, names, std::index_sequence_for<Arguments...>{});
}

}  // namespace pyimplicit
