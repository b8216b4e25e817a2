// The Python module shortlist._native: its parts, and the functions that belong to none.
#include "pool/bandwidth.hpp"
#include "bindings/bind_arrays.hpp"
#include "kernels/kernels.hpp"
#include "sites/heads.hpp"
#include "sites/neurons.hpp"
#include "kernels/noise.hpp"

namespace shortlist {

// Each in bind_*.cpp; packers and tensor types beside the rows, neurons beside the decoder.
void bind_rows(nb::module_& m);
void bind_sampling(nb::module_& m);
void bind_packer(nb::module_& m);
void bind_types(nb::module_& m);
void bind_channels(nb::module_& m);
void bind_neurons(nb::module_& m);
void bind_blocks(nb::module_& m);
void bind_moe(nb::module_& m);
void bind_decoder(nb::module_& m);
void bind_heads(nb::module_& m);
void bind_bpe(nb::module_& m);
void bind_index(nb::module_& m);
void bind_grouped(nb::module_& m);
void bind_workers(nb::module_& m);

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // an interrupted program would end with a page of them
  nb::exception<NotFinite>(m, "NotFinite", nb::module_::import_("shortlist.errors").attr("CheckpointError").ptr());
  m.doc() = "Packed rows, the decoder and the head: the hot path of shortlist.";
  bind_rows(m);
  bind_sampling(m);
  bind_packer(m);
  bind_types(m);
  bind_channels(m);
  bind_neurons(m);
  bind_blocks(m);
  bind_moe(m);
  bind_decoder(m);
  bind_heads(m);
  bind_bpe(m);
  bind_index(m);
  bind_grouped(m);
  m.def("isa", [] { return std::string(kernels().name); }, "Name of the instruction set in use.");
  Pool::instance();  // from here on it knows of forks
  bind_workers(m);
  m.def(
      "read_bandwidth_gb_s",
      [](int megabytes, int runs) {
        if (megabytes < 1 || megabytes > 16384 || runs < 1) throw std::invalid_argument("between 1 and 16384 megabytes");
        nb::gil_scoped_release release;
        return read_bandwidth(static_cast<size_t>(megabytes) << 20, runs);
      },
      "megabytes"_a = 512, "runs"_a = 5, "Gigabytes per second that the pool's threads read from memory.");
  m.def(
      "gumbel_noise",
      [](uint64_t seed, uint64_t position, In1<int32_t> rows) {
        float* out;
        auto result = new_array<float>(rows.shape(0), &out);
        GumbelNoise noise(seed, position);
        nb::gil_scoped_release release;
        Pool::instance().run([&](Team& team) {
          const auto share = team.share(static_cast<int64_t>(rows.shape(0)), 256);
          for (int64_t i = share.begin; i < share.end; i++) out[i] = noise(static_cast<uint64_t>(rows.data()[i]));
        });
        return result;
      },
      "seed"_a, "position"_a, "rows"_a, "Standard Gumbel noise of the rows: float32 [n].");
  m.def("noise_of_bits", [](uint32_t bits) { return GumbelNoise::of(bits); }, "bits"_a,
      "The noise of 24 random bits, which grows with them.");
  m.def("least_noise_bits", [](double need) { return NoiseFilter().least(need); }, "need"_a,
        "Bits below which the noise is certainly less than `need`; 2**24 where all of it is.");
  m.def(
      "contenders",
      [](uint64_t seed, uint64_t position, In1<int64_t> rows, In1<double> upper, double floor, double lowest) {
        check_size(upper.shape(0), static_cast<int64_t>(rows.shape(0)), "upper");
        std::vector<std::vector<int64_t>> places;  // per member, like noises
        std::vector<std::vector<double>> noises;
        {
          nb::gil_scoped_release release;
          const GumbelNoise noise(seed, position);
          static const NoiseFilter filter;
          auto prepare = [&](int members) {
            places.resize(static_cast<size_t>(members));
            noises.resize(static_cast<size_t>(members));
          };
          Pool::instance().run(prepare, [&](Team& team) {
            const size_t id = static_cast<size_t>(team.id);
            const auto share = team.share(static_cast<int64_t>(rows.shape(0)));
            for (int64_t i = share.begin; i < share.end; i++) {
              if (upper.data()[i] < lowest) continue;
              const uint32_t least = filter.least(floor - upper.data()[i]);
              if (least == NoiseFilter::kNever) continue;
              const uint32_t bits = noise.bits(static_cast<uint64_t>(rows.data()[i]));
              if (bits < least) continue;
              const double value = static_cast<double>(GumbelNoise::of(bits));
              if (upper.data()[i] + value < floor) continue;
              places[id].push_back(i);
              noises[id].push_back(value);
            }
          });
        }
        size_t count = 0;
        for (const auto& part : places) count += part.size();
        int64_t* place;
        double* noise;
        auto all_places = new_array<int64_t>(count, &place);
        auto all_noise = new_array<double>(count, &noise);
        for (size_t id = 0; id < places.size(); id++) {
          place = std::copy(places[id].begin(), places[id].end(), place);
          noise = std::copy(noises[id].begin(), noises[id].end(), noise);
        }
        return nb::make_tuple(all_places, all_noise);
      },
      "seed"_a, "position"_a, "rows"_a, "upper"_a, "floor"_a, "lowest"_a,
      "(places int64 [m], noise float64 [m]): where upper [n] reaches `lowest`, and plus the noise of rows [n] the floor, ascending.");
}

}  // namespace shortlist
