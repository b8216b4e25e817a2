// What the parts of the Python module share. Arrays are checked in them; below sizes are trusted. The GIL is released around
// all work, so that other Python threads run and a signal waits for one call at most.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace shortlist {

template <class T>
using In1 = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using In2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T, int dims>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<dims>>;

// New arrays, uninitialised: who only adds to one fills it first.
template <class T>
Out<T, 1> new_array(size_t n, T** data) {
  *data = new T[n];
  nb::capsule owner(*data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Out<T, 1>(*data, {n}, owner);
}
template <class T>
Out<T, 2> new_array(size_t n, size_t m, T** data) {
  *data = new T[n * m];
  nb::capsule owner(*data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Out<T, 2>(*data, {n, m}, owner);
}

inline void check_indices(const In1<int32_t>& indices, int64_t rows) {
  for (size_t i = 0; i < indices.shape(0); i++)
    if (indices.data()[i] < 0 || indices.data()[i] >= rows)
      throw nb::index_error(("row " + std::to_string(indices.data()[i]) + " of " + std::to_string(rows)).c_str());
}
inline void check_size(size_t got, int64_t expected, const char* what) {
  if (static_cast<int64_t>(got) != expected)
    throw std::invalid_argument(std::string(what) + " has " + std::to_string(got) + " values where " + std::to_string(expected) +
        " are needed");
}

inline std::vector<float> to_vector(const In1<float>& array) { return {array.data(), array.data() + array.shape(0)}; }

}  // namespace shortlist
