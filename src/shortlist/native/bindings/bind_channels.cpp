// Matrices by input channel, and the shortlists of their inputs, in the Python module.
#include <algorithm>

#include "bindings/bind_arrays.hpp"
#include "kernels/kernels.hpp"
#include "blocks/linear.hpp"

namespace shortlist {

void bind_channels(nb::module_& m) {
  nb::class_<Channels>(m, "Channels", "A matrix [outputs, inputs] by input channel: what is not read of it are whole channels.")
      .def(
          "__init__",
          [](Channels* self, const Rows& rows, Arena* arena) {
            nb::gil_scoped_release release;
            Arena own(0);
            new (self) Channels(rows, arena ? *arena : own);
          },
          "rows"_a, "arena"_a = nb::none(), "Takes over a matrix [outputs, inputs] from rows without tiles, with its own quantization.")
      .def_prop_ro("outputs", [](const Channels& c) { return c.view.outputs; })
      .def_prop_ro("inputs", [](const Channels& c) { return c.view.inputs; })
      .def_prop_ro("nbytes", [](const Channels& c) { return c.view.bytes(); })
      .def_prop_ro("channel_bytes", [](const Channels& c) { return c.view.channel_bytes(c.view.padded_outputs); },
          "Bytes of one channel, without scales.")
      .def(
          "matvec",
          [](const Channels& c, In1<float> x, float threshold, const std::optional<In1<float>>& norms) {
            check_size(x.shape(0), c.view.inputs, "x");
            if (norms) check_size(norms->shape(0), c.view.inputs, "norms");
            float* out;
            auto result = new_array<float>(static_cast<size_t>(c.view.outputs), &out);
            const ChannelShortlist shortlist{norms ? to_vector(*norms) : Vector(), threshold, c.view.group()};
            nb::gil_scoped_release release;
            const Activations activations(x.data(), 1, c.view.inputs);
            ChannelList list;
            shortlist.list(activations.batch(1), c.view.inputs, list, nullptr);
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(c.view.outputs, kBlock);
              for (int64_t at = share.begin, next; at < share.end; at = next) {
                next = std::min(share.end, (at / kPanel + 1) * kPanel);
                kernels().dot_channels(c.view, list, static_cast<int>(at), static_cast<int>(next), out + at);
              }
            });
            return result;
          },
          "x"_a, "threshold"_a = 0.0f, "norms"_a = nb::none(),
          "Product with the channels whose |x| (times norms) reaches the threshold, float32 [outputs].");

  nb::class_<ChannelInput>(m, "ChannelInput", "The shortlist of the matrices by channel that share one input.")
      .def(
          "__init__",
          [](ChannelInput* self, float threshold, const std::optional<In1<float>>& norms, std::shared_ptr<Channels> rest) {
            new (self) ChannelInput();
            self->shortlist.threshold = threshold;
            if (norms) self->shortlist.norms = to_vector(*norms);
            self->rest = std::move(rest);
          },
          "threshold"_a, "norms"_a.none(), "rest"_a.none(),
          "Channels whose |x| (times `norms`) reaches the threshold are read; `rest` [rank, inputs] takes the others.")
      .def_prop_rw(
          "threshold", [](const ChannelInput& c) { return c.shortlist.threshold; }, [](ChannelInput& c, float value) {
            c.shortlist.threshold = value;
          })
      .def_ro("channels_read", &ChannelInput::channels_read, "Over all tokens so far.")
      .def_ro("bytes_read", &ChannelInput::bytes_read, "Over all tokens so far.")
      .def_prop_ro("channel_bytes", &ChannelInput::channel_bytes, "Bytes of one channel of all matrices, without scales.")
      .def_prop_ro("all_bytes", &ChannelInput::all_bytes, "Bytes that a token reads that lists every channel.")
      .def("record", [](ChannelInput& c) { c.record(); }, "Keep the inputs of all tokens from here on.")
      .def(
          "recorded",
          [](ChannelInput& c) {
            float* out;
            const size_t width = static_cast<size_t>(std::max(c.inputs(), 1));
            const std::vector<float> kept = c.recorded();
            auto result = new_array<float>(kept.size() / width, width, &out);
            std::copy(kept.begin(), kept.end(), out);
            return result;
          },
          "What was kept, float32 [tokens, inputs]; ends it.");
}

}  // namespace shortlist
