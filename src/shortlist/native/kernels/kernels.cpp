#include "kernels/kernels.hpp"

#include <cstdlib>
#include <stdexcept>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

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
#elif defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
#endif

namespace {

// The set of that name, or nullptr where this processor does not have it.
const Kernels* find(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
    return &avx512::table;
  if (isa == "avx2" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return &avx2::table;
#elif defined(__aarch64__)
  constexpr unsigned long dot_product = 1ul << 20;  // HWCAP_ASIMDDP
  if (isa == "neon" && (getauxval(AT_HWCAP) & dot_product)) return &neon::table;
#endif
  return isa == "portable" ? &portable::table : nullptr;
}

const Kernels& choose() {
  constexpr const char* best_first[] = {"avx512", "avx2", "neon", "portable"};
  const char* forced = std::getenv("SHORTLIST_ISA");
  bool known = !forced || !*forced;
  for (const char* isa : best_first) {
    if (forced && *forced && std::string(forced) != isa) continue;
    known = true;
    if (const Kernels* found = find(isa)) return *found;
  }
  throw std::runtime_error(std::string("SHORTLIST_ISA is '") + forced +
      (known ? "', which this processor does not have" : "'; it can be avx512, avx2, neon or portable"));
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const Kernels& portable_kernels() { return portable::table; }

}  // namespace shortlist
