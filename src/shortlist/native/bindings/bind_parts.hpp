// The tensors that Python gives a block, by name.
#pragma once
#include <initializer_list>
#include <string>

#include "bindings/bind_arrays.hpp"
#include "blocks/linear.hpp"

namespace shortlist {

struct Given {
  nb::dict matrices, vectors, inputs;

  Matrix matrix(const std::string& name) const {
    return matrices.contains(name.c_str()) ? nb::cast<Matrix>(matrices[name.c_str()]) : Matrix();
  }
  Linear linear(const std::string& name) const {
    if (matrices.contains(name.c_str()) && nb::isinstance<Channels>(matrices[name.c_str()]))
      return {nullptr, nb::cast<std::shared_ptr<Channels>>(matrices[name.c_str()]), matrix(name + "_rest")};
    return {matrix(name), nullptr, nullptr};
  }
  Vector vector(const char* name) const { return vectors.contains(name) ? to_vector(nb::cast<In1<float>>(vectors[name])) : Vector(); }
  std::shared_ptr<ChannelInput> input(const char* name) const {
    return inputs.contains(name) ? nb::cast<std::shared_ptr<ChannelInput>>(inputs[name]) : nullptr;
  }
  // Refuses what would be left unread.
  void check_names(std::initializer_list<std::string> matrix_names, std::initializer_list<std::string> vector_names,
                   std::initializer_list<std::string> input_names) const {
    auto check = [](const nb::dict& given, std::initializer_list<std::string> known, const char* rest) {
      for (auto [key, value] : given) {
        const std::string name = nb::cast<std::string>(key);
        bool found = false;
        for (const std::string& each : known) found = found || name == each || (*rest && name == each + rest);
        if (!found) throw std::invalid_argument("layer tensor '" + name + "' is not one of this block");
      }
    };
    check(matrices, matrix_names, "_rest");
    check(vectors, vector_names, "");
    check(inputs, input_names, "");
  }
};

}  // namespace shortlist
