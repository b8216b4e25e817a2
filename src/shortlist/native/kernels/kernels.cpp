#include "kernels/kernels.hpp"

#include <cstdlib>
#include <stdexcept>

namespace shortlist {

namespace portable {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

bool available(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#endif
  return isa == "portable";
}

const Kernels& named(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return avx512::table;
  if (isa == "avx2") return avx2::table;
#endif
  return portable::table;
}

const Kernels& choose() {
  if (const char* forced = std::getenv("SHORTLIST_ISA"); forced && *forced) {
    std::string isa = forced;
    if (isa != "avx512" && isa != "avx2" && isa != "portable")
      throw std::runtime_error("SHORTLIST_ISA is '" + isa + "'; it can be avx512, avx2 or portable");
    if (!available(isa)) throw std::runtime_error("SHORTLIST_ISA is '" + isa + "', which this processor does not have");
    return named(isa);
  }
  for (const char* isa : {"avx512", "avx2"})
    if (available(isa)) return named(isa);
  return portable::table;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace shortlist
